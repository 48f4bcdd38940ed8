/**
 * The contract of a payment gateway. A gateway is a folder here: it sends a refund, asks about one and
 * reads a callback, and says what it learned as News. It decides nothing and stores nothing; the rules
 * are one for all gateways (drizzle/0015_gateway_functions.sql).
 */

/**
 * What a gateway says about one refund. Whatever is not described in its documents, complete and
 * verified, is `unknown`: the money may be on its way.
 */
export type News =
  /** The money is back with the payer. Final. */
  | { kind: 'succeeded'; gatewayRefundNo: string | null; at: string | null }
  /** Taken, and not done yet. */
  | { kind: 'accepted'; gatewayRefundNo: string | null }
  /** Closed for good under this number; nothing was refunded. Final. */
  | { kind: 'closed'; gatewayRefundNo: string | null; code: string }
  /** The money has left the order and waits for another account. Only a person can go on. */
  | { kind: 'abnormal'; gatewayRefundNo: string | null; code: string }
  /** Refused for good, as it seems: only a query afterwards proves that nothing is there. */
  | { kind: 'refused'; code: string }
  /**
   * Refused until a person has done something. `gateway`: every refund would be refused alike. `askOnly`: this number
   * may have moved money before, so it is asked about, and not sent again.
   */
  | { kind: 'blocked'; code: string; where: 'refund' | 'gateway'; askOnly?: true }
  /** Refused for the moment, without having been carried out. */
  | { kind: 'later'; code: string }
  /** The answer to a query: there is no refund with this number, at this moment. */
  | { kind: 'missing'; code: string }
  /** Anything else: no answer, an answer that does not verify, a code that is in no table. */
  | { kind: 'unknown'; code: string };

/** A refund as a gateway needs it. The same number and the same parameters, however often it is sent. */
export interface GatewayRefund {
  /** Our number of the refund, as the gateway knows it. */
  outRefundNo: string;
  /** Our number of the payment, as the gateway knows it. */
  outTradeNo: string;
  /** The gateway's number of the payment, where it is known. */
  tradeNo: string | null;
  /** Yuan, a decimal string with two decimals. */
  amount: string;
  /** What was paid: the amount of the payment. Yuan, a decimal string with two decimals. */
  total: string;
  /** Whole; a gateway that takes less of it cuts it. */
  reason: string | null;
}

/** One call of a gateway and what came of it. */
export interface Reply {
  news: News;
  /** Null where there was no answer. */
  httpStatus: number | null;
  /** The gateway's own id of the request, for its support. */
  gatewayRequestId: string | null;
}

/**
 * Where the money of an abnormal refund shall go: a debit card of the payer, or the merchant's own account,
 * from which the merchant pays it back. Card data goes through; nothing stores or logs it.
 */
export type AbnormalAccount =
  | { type: 'USER_BANK_CARD'; bankType: string; bankAccount: string; realName: string }
  | { type: 'MERCHANT_BANK_CARD' };

/** What a callback says. Its signature is verified, and it is meant for the account that is configured. */
export interface Notification {
  /** Tells it from every other of this gateway; the same when it is repeated. */
  key: string;
  /** What happened, in the gateway's word. */
  event: string;
  /** Which key had signed it; null where a gateway does not name it. */
  serial: string | null;
  /** What has to be kept beside the raw body so that the signature can be verified again. */
  signature: Record<string, string>;
  /** What it says about a refund of ours. */
  refund: {
    outRefundNo: string;
    /** As in GatewayRefund; null where the callback does not say it. What differs is not our refund. */
    outTradeNo: string | null;
    amount: string | null;
    total: string | null;
    /** Null where the callback proves nothing and the gateway has to be asked. */
    news: News | null;
  } | null;
  /** What it says about a payment. */
  payment: {
    outTradeNo: string;
    tradeNo: string | null;
    /** What was to be paid. Yuan, a decimal string with two decimals. */
    amount: string;
    /** CNY. */
    currency: string;
    state: 'paid' | 'closed';
    /** When it was paid, RFC 3339. */
    at: string | null;
  } | null;
}

/** Why a callback is refused: for the log, never for the answer. */
export class CallbackRefusedError extends Error {
  override name = 'CallbackRefusedError';
  readonly reason:
    | 'headers'
    | 'clock'
    | 'unknown_serial'
    | 'signature'
    | 'probe'
    | 'ciphertext'
    | 'body'
    | 'other_account';

  constructor(reason: CallbackRefusedError['reason']) {
    super(`the callback was refused: ${reason}`);
    this.reason = reason;
  }
}

/** The words that a gateway wants to read after a callback. */
interface CallbackAnswer {
  status: 200 | 204 | 400 | 401 | 413 | 503;
  contentType: string | null;
  body: string | null;
}

/** A gateway with its keys. */
export interface Gateway {
  /** The payment_method of its payments. */
  readonly name: string;
  /** Whose refunds it sees. What another account says of a number proves nothing. At most 64 characters. */
  readonly account: string;
  /**
   * Sends the refund, or sends it again. Nothing leaves after `signal`, when others may send it. Never throws: a
   * fault is `unknown`.
   */
  send(refund: GatewayRefund, signal?: AbortSignal): Promise<Reply>;
  /**
   * Asks what became of the refund. `decisive`: the refund was refused and fails if it is `missing`, so
   * whatever else could show that money moved is asked too. Never throws.
   */
  query(refund: GatewayRefund, decisive: boolean): Promise<Reply>;
  /**
   * Completes a refund that is `abnormal`, for a gateway that can do it by its API. The news are about the
   * refund, and never `refused`: what is not `accepted` or final leaves it abnormal. Never throws.
   */
  completeAbnormal?(
    refund: { gatewayRefundNo: string; outRefundNo: string },
    account: AbnormalAccount,
  ): Promise<Reply>;
  /** Reads a callback: signature first, over the bytes as received. Throws CallbackRefusedError. */
  readCallback(headers: Headers, body: Uint8Array): Promise<Notification>;
}

/** What is true of a gateway whatever its keys are. */
export interface GatewayKind {
  /** Between two sends for one payment, counted from the end of the last one. */
  gapSeconds: number;
  /** A query proves that nothing is there only so long after the last send was over. */
  proofSeconds: number;
  /** How long after the payment it can be refunded. */
  refundDays: number;
  /** The answers to a callback: taken, refused, too large, and "come again". */
  answers: Record<'taken' | 'refused' | 'tooLarge' | 'again', CallbackAnswer>;
  /** Reads the variables and proves the keys. Throws NotConfiguredError, which names what is wrong. */
  configure(env: GatewayVariables): Promise<Gateway>;
}

/** The variables of a deployment, as they come. */
export type GatewayVariables = Readonly<Record<string, unknown>>;
