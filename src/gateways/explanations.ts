/**
 * What staff read for a code of a gateway. The texts are ours: a gateway's own text may repeat everything
 * that was signed.
 */
const EXPLANATIONS: Record<string, string> = {
  ABNORMAL: '收款账户异常，款项未退到付款人，需人工处理',
  ACCESS_FORBIDDEN: '支付渠道拒绝访问，请检查密钥与权限',
  ACCOUNT_CHANGED: '退款由另一商户号发出，现有配置不能查询',
  AMOUNT: '金额与支付渠道不一致，或超过其上限',
  BAD_SIGNATURE: '支付渠道的应答验签失败，结果未知',
  BUYER_ERROR: '付款人账户异常，支付渠道拒绝退款',
  CLOCK: '支付渠道应答的时间与本机相差过大，结果未知',
  CLOSED: '退款已关闭，款项未退',
  CONTRADICTION: '退款已成功，支付渠道又报告了相反的结果，需人工核对',
  DISCORDANT_REPEAT_REQUEST: '该退款单号在支付渠道已有另一金额，需人工核对',
  FAULT: '本系统处理请求时出错，结果未知',
  FREQUENCY_LIMITED: '支付渠道限制频率，稍后查询并重试',
  FUND_CHANGE_N: '支付渠道未报告资金变动，等待查询确认',
  INVALID_PARAMETER: '请求参数被支付渠道拒绝，需技术人员处理',
  INVALID_REQUEST: '支付渠道认为该退款不符合业务规则',
  MISMATCH: '支付渠道返回的单号或金额与本退款不一致，需人工核对',
  MISSING: '支付渠道受理过此退款，现在查不到，需人工核对',
  NOT_CONFIGURED: '支付渠道未配置或密钥有误，退款暂停处理',
  NO_ANSWER: '支付渠道没有应答，结果未知',
  NOTHING_FOUND: '支付渠道没有此退款',
  NO_AUTH: '商户没有此接口的权限，请检查商户平台设置',
  NOT_ENOUGH: '商户可用余额不足，充值后自动重试',
  OLD: '退款超过 14 天没有结果，需人工核对',
  ORDER_STATE: '支付渠道返回了未知的订单状态，结果未知',
  ORDER_SAYS_REFUNDED: '支付渠道的订单已有退款，但查不到本退款，需人工核对',
  PAID_AFTER_CLOSED: '付款在支付失败之后到账，需人工处理',
  PAID_AFTER_FAILED: '退款登记为失败后支付渠道又报告了资金变动，款项可能已重复承诺',
  PARAM_ERROR: '请求参数被支付渠道拒绝，需技术人员处理',
  REASON_TRADE_BEEN_FREEZEN: '交易已被冻结，支付渠道拒绝退款',
  REDIRECTED: '支付渠道的地址发生跳转，结果未知',
  REFUND_AMT_NOT_EQUAL_TOTAL: '退款金额超过支付渠道的可退金额',
  REFUND_CHARGE_ERROR: '手续费退回失败，稍后重试',
  REFUND_FAIL: '支付渠道退款失败，需人工处理',
  REFUND_STATUS_ABSENT: '支付渠道有此退款但未说明状态，需人工核对',
  RESOURCE_NOT_EXISTS: '支付渠道没有该订单或退款',
  SELLER_BALANCE_NOT_ENOUGH: '商户余额不足，充值后自动重试',
  SIGNATURE: '支付渠道的应答验签失败，结果未知',
  SIGN_ERROR: '签名被支付渠道拒绝，请检查密钥',
  SYSTEM_ERROR: '支付渠道系统错误，结果未知',
  TIMEOUT: '支付渠道应答超时，结果未知',
  TRADE_HAS_CLOSE: '交易已关闭，支付渠道拒绝退款',
  TRADE_HAS_FINISHED: '交易已超过可退款期限',
  TRADE_NOT_ALLOW_REFUND: '交易不允许退款',
  TRADE_NOT_EXIST: '支付渠道没有该交易',
  TRADE_STATUS_ERROR: '交易状态不允许退款',
  UNKNOWN: '超过一小时结果未知，系统仍在查询',
  UNKNOWN_SERIAL: '支付渠道的应答使用了未配置的公钥，结果未知',
  UNSIGNED: '支付渠道的应答没有签名，结果未知',
  UNREADABLE: '支付渠道的应答无法识别，结果未知',
  USER_ACCOUNT_ABNORMAL: '付款人账户异常或已注销，支付渠道拒绝退款',
};

/** The codes that have a text, without what may stand before them. */
export const EXPLAINED_CODES = Object.keys(EXPLANATIONS);

/** The text for a code, matched by its last part: `ACQ.SYSTEM_ERROR` is SYSTEM_ERROR. At most 255 characters. */
export function explain(code: string): string {
  const name = code.split('.').at(-1) ?? '';
  return Object.hasOwn(EXPLANATIONS, name)
    ? (EXPLANATIONS[name] ?? '')
    : '支付渠道返回了未说明的结果，按未知处理';
}
