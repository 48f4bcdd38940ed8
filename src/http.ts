/**
 * What every endpoint shares on the wire: the envelope, the closed list of error codes, validation
 * in that shape. An error that a client can cause has its code and its text here; anything else is
 * logged whole and answered blandly.
 */
import { type Hook, zValidator } from '@hono/zod-validator';
import type { Context, ErrorHandler, MiddlewareHandler } from 'hono';
import { cors } from 'hono/cors';
import { HTTPException } from 'hono/http-exception';
import type { ContentfulStatusCode } from 'hono/utils/http-status';
import * as z from 'zod';
import type { Caller } from './auth';
import { type Bindings, NotConfiguredError } from './env';
import type { RequestLog } from './log';
import { isExact } from './money';

/** What Hono's context carries here: the bindings, and what the middleware finds out. */
export type AppEnv = {
  Bindings: Bindings;
  Variables: {
    requestId: string;
    log: RequestLog;
    actor: string;
    scopes: string[];
    caller: Caller;
  };
};

/** Every error of the API: its HTTP status and its text. */
export const ERRORS = {
  40000: [400, '请求参数有误'],
  40001: [400, '请求体不是有效的 JSON'],
  40100: [401, '未提供有效的访问令牌'],
  40300: [403, '没有执行此操作的权限'],
  40400: [404, '接口不存在'],
  40401: [404, '支付记录不存在'],
  40402: [404, '退款记录不存在'],
  40500: [405, '请求方法不受支持'],
  40900: [409, '当前支付状态不允许退款'],
  40901: [409, '退款金额超过可退金额'],
  40902: [409, '该 Idempotency-Key 已用于另一笔退款'],
  40903: [409, '退款已有其他结果'],
  40904: [409, '退款笔数已达上限'],
  40905: [409, '退款尚未结束，不能更正'],
  40906: [409, '该退款今天已做过同样的更正'],
  40907: [409, '退款由支付渠道处理，不能人工登记结果'],
  40908: [409, '已超过支付渠道的退款期限'],
  40909: [409, '金额超过支付渠道的上限'],
  40910: [409, '退款的渠道状态不允许此操作'],
  40911: [409, '退款不经支付渠道，由人工处理'],
  40912: [409, '支付渠道拒绝了此操作'],
  41300: [413, '请求体过大'],
  41500: [415, '请求体须为 application/json（UTF-8，未压缩）'],
  42900: [429, '退款请求过于频繁，请稍后重试'],
  50000: [500, '服务器内部错误'],
  50300: [503, '数据库暂时不可用，请稍后重试'],
  50301: [503, '服务尚未完成配置'],
  50302: [503, '服务未就绪'],
  50303: [503, '支付渠道暂时没有答复，请稍后重试'],
  50400: [504, '数据库响应超时，请稍后重试'],
} as const satisfies Record<number, readonly [ContentfulStatusCode, string]>;

/** The codes of the API, each with one HTTP status. */
export type ErrorCode = keyof typeof ERRORS;

/** Seconds after which a client may try again what failed for a while. */
const RETRY_AFTER_SECONDS = '2';

/** An answer other than success: thrown anywhere, put on the wire by answerError. `cause` goes to the log only. */
export class ApiError extends Error {
  override name = 'ApiError';
  readonly code: ErrorCode;
  readonly data: Record<string, unknown> | null;

  constructor(code: ErrorCode, data: Record<string, unknown> | null = null, cause?: unknown) {
    super(ERRORS[code][1], { cause });
    this.code = code;
    this.data = data;
  }
}

/**
 * Said instead of ERRORS of a write whose outcome is unknown and that must not simply be sent again: who
 * obeys "try again" would refund twice.
 */
export const UNKNOWN_OUTCOME = {
  50000: '服务器内部错误，退款可能已经创建：请先按 refund_no 查询，确认没有后再重新提交',
  50300: '数据库暂时不可用，退款可能已经创建：请先按 refund_no 查询，确认没有后再重新提交',
  50400: '数据库响应超时，退款可能已经创建：请先按 refund_no 查询，确认没有后再重新提交',
} as const satisfies Partial<Record<ErrorCode, string>>;

/** An ApiError of such a write. It has no Retry-After. */
export class UnknownOutcomeError extends ApiError {
  override name = 'UnknownOutcomeError';

  constructor(code: keyof typeof UNKNOWN_OUTCOME, data: Record<string, unknown>, cause: unknown) {
    super(code, data, cause);
    this.message = UNKNOWN_OUTCOME[code];
  }
}

/** The success envelope of the specification, section 3. */
export function envelope<Data>(message: string, data: Data) {
  return { code: 0 as const, message, data };
}

/** Answers whatever was thrown: an ApiError as it says, anything else as 50000. */
export const answerError: ErrorHandler<AppEnv> = (thrown, c) => {
  const error = asApiError(thrown);
  const [status] = ERRORS[error.code];
  const log = c.get('log');
  log.code = error.code;
  if (status >= 500) log.error = error.cause ?? thrown;
  const passes = error.code === 50300 || error.code === 50303 || error.code === 50400;
  if (passes && !(error instanceof UnknownOutcomeError)) {
    c.header('Retry-After', RETRY_AFTER_SECONDS);
  }
  return c.json(
    { code: error.code, message: error.message, data: error.data, request_id: c.get('requestId') },
    status,
  );
};

function asApiError(thrown: unknown): ApiError {
  if (thrown instanceof ApiError) return thrown;
  if (thrown instanceof NotConfiguredError) return new ApiError(50301, null, thrown);
  return new ApiError(50000, null, thrown);
}

/** 1 to 64 letters, digits, `-`, `_`. */
export const REQUEST_ID = /^[\w-]{1,64}$/;

/** Takes over a client's X-Request-Id where it is a REQUEST_ID; otherwise makes one. */
export const requestId: MiddlewareHandler<AppEnv> = async function requestId(c, next) {
  const given = c.req.header('X-Request-Id');
  const id = given && REQUEST_ID.test(given) ? given : crypto.randomUUID();
  c.set('requestId', id);
  // Before the answer exists: a header that is added to it afterwards makes Hono build it again.
  c.header('X-Request-Id', id);
  await next();
};

/** Keeps answers about payments out of every cache but our own. */
export const noStore: MiddlewareHandler<AppEnv> = async function noStore(c, next) {
  c.header('Cache-Control', 'no-store');
  await next();
};

const allowOrigin = cors({
  origin: (origin) => origin,
  allowMethods: ['GET', 'POST', 'PATCH'],
  allowHeaders: [
    'Authorization',
    'Cache-Control',
    'Content-Type',
    'Idempotency-Key',
    'X-Request-Id',
  ],
  exposeHeaders: [
    'Age',
    'Cache-Status',
    'Content-Disposition',
    'Idempotent-Replayed',
    'Retry-After',
    'Server-Timing',
    'X-Request-Id',
  ],
  maxAge: 600,
});

/** Lets pages of the origins in ALLOWED_ORIGINS call the API, and nobody else's; cookies play no part. */
export const crossOrigin: MiddlewareHandler<AppEnv> = async function crossOrigin(c, next) {
  const origin = c.req.header('Origin');
  // Not by way of settings(): a deployment that is not configured still answers /health and 40400.
  const allowed = (c.env.ALLOWED_ORIGINS ?? '').split(',').map((one) => one.trim());
  return origin && allowed.includes(origin) ? allowOrigin(c, next) : next();
};

const MAX_BODY_BYTES = 16 * 1024;

const UTF_8 = 'charset=(?:utf-?8|"utf-?8")';
const TOKEN = "[\\w!#$%&'*+.^`|~-]+";
const VALUE = String.raw`(?:${TOKEN}|"(?:[^"\\]|\\.)*")`;
/**
 * application/json with whatever parameters (RFC 9110, 8.3.1), but no charset other than UTF-8: a
 * proxy or a log that goes by the charset would read other text from the same bytes.
 */
const JSON_TYPE = new RegExp(
  `^application/json[ \\t]*(?:;[ \\t]*(?:(?:${UTF_8}|(?!charset)${TOKEN}=${VALUE})[ \\t]*)?)*$`,
  'i',
);

/** Admits a body of at most 16 KiB, counted while reading, that says it is JSON, plainly, and is valid UTF-8. */
export const jsonBody: MiddlewareHandler<AppEnv> = async function jsonBody(c, next) {
  const bytes = await readBody(c.req.raw.body, MAX_BODY_BYTES);
  if (!JSON_TYPE.test(c.req.header('Content-Type') ?? '')) throw new ApiError(41500);
  // A coding is not undone here; whoever undoes it reads another body.
  const coding = c.req.header('Content-Encoding') || 'identity';
  if (coding.toLowerCase() !== 'identity') throw new ApiError(41500);
  try {
    // A lenient decoder would store U+FFFD in place of what the client wrote.
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    c.req.raw = new Request(c.req.raw, { body: text });
  } catch (error) {
    throw new ApiError(40001, null, error);
  }
  await next();
};

/** The bytes of a body, counted while reading. Throws 41300 beyond `maxBytes`, 40001 where it breaks off. */
export async function readBody(
  body: ReadableStream<Uint8Array> | null,
  maxBytes: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(maxBytes);
  let size = 0;
  try {
    for await (const chunk of body ?? []) {
      if (size + chunk.length > maxBytes) throw new ApiError(41300);
      bytes.set(chunk, size);
      size += chunk.length;
    }
  } catch (error) {
    // A body that breaks off is its sender's fault, not ours.
    throw error instanceof ApiError ? error : new ApiError(40001, null, error);
  }
  return bytes.subarray(0, size);
}

type Target = 'param' | 'query' | 'header' | 'json';
type Schemas = Partial<Record<Target, z.ZodType>>;
type Validated<S extends Schemas> = {
  in: { [K in keyof S]: S[K] extends z.ZodType ? z.input<S[K]> : never };
  out: { [K in keyof S]: S[K] extends z.ZodType ? z.output<S[K]> : never };
};

/**
 * Validates the given parts of a request and refuses with 40000, naming everything that is wrong
 * in any of them at once. A schema that depends on the deployment is given as a function. A request
 * with a body has no parameters in its query unless a schema says so: a field that was put there by
 * mistake would be ignored.
 */
export function validate<S extends Schemas>(
  schemas: S | ((env: Bindings) => S),
): MiddlewareHandler<AppEnv, string, Validated<S>> {
  return async function validate(c, next) {
    const asked: Schemas = typeof schemas === 'function' ? schemas(c.env) : schemas;
    const given = asked.json ? { query: NO_PARAMETERS, ...asked } : asked;
    const errors = given.query ? queryErrors(c) : [];
    if (given.json) errors.push(...bodyErrors(await c.req.text()));
    for (const target of ['param', 'query', 'header', 'json'] as const) {
      const schema = given[target];
      if (schema) errors.push(...(await validateTarget(c, target, schema)));
    }
    if (errors.length > 0) throw new ApiError(40000, { errors: errors.slice(0, MAX_ERRORS) });
    await next();
  };
}

/** The query of a request that takes no parameters. */
export const NO_PARAMETERS = z.strictObject({});

/** More than any honest request can have, so that an answer is not larger than what it answers. */
const MAX_ERRORS = 100;

type CollectErrors = Hook<unknown, AppEnv, string, Target, Record<never, never>, z.ZodType>;

interface FieldError {
  path: string;
  message: string;
}

async function validateTarget(
  c: Context<AppEnv>,
  target: Target,
  schema: z.ZodType,
): Promise<FieldError[]> {
  const errors: FieldError[] = [];
  const collect: CollectErrors = (result) => {
    if (result.success) return;
    errors.push(...result.error.issues.flatMap(fieldErrors));
    // Any answer stops zValidator from making its own; the one that counts is made when all targets are checked.
    return new Response();
  };
  const validator = zValidator<z.ZodType, Target, AppEnv, string, CollectErrors>(
    target,
    schema,
    collect,
  );
  try {
    await validator(c, async () => {});
  } catch (error) {
    if (error instanceof HTTPException) throw new ApiError(40001, null, error);
    throw error;
  }
  return errors;
}

function fieldErrors(issue: z.core.$ZodIssue): FieldError[] {
  const path = issue.path.map(String);
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => ({
      path: shorten([...path, key].join('.')),
      message: '未知的参数',
    }));
  }
  return [{ path: shorten(path.join('.')), message: issue.message }];
}

/** What hono's lenient parser passes over: broken percent-encoding, and a value without a name. */
function queryErrors(c: Context<AppEnv>): FieldError[] {
  const search = new URL(c.req.url).search.slice(1);
  const errors: FieldError[] = [];
  for (const part of search.split('&')) {
    const [key = '', value = ''] = part.replaceAll('+', ' ').split(/=(.*)/s);
    const name = decode(key);
    if (name === '' && part !== '') errors.push({ path: '', message: '未知的参数' });
    if (name === null || decode(value) === null) {
      errors.push({ path: shorten(name ?? key), message: '百分号编码有误' });
    }
  }
  return errors;
}

/** A string, with the colon behind it if it is a key; a number; a character that structures JSON. */
const JSON_TOKEN = /("[^"\\]*(?:\\.[^"\\]*)*")([ \t\n\r]*:)?|(-?\d[\d.eE+-]*)|[{}[\],]/g;

/**
 * What JSON.parse passes over. An object may have a key twice: another reader may take the other value. A
 * number may have more digits than a float keeps: JSON.parse may have changed it.
 * Keys are compared as they read once they are unescaped. A deep body takes no stack.
 */
function bodyErrors(body: string): FieldError[] {
  try {
    JSON.parse(body);
  } catch {
    // The validator says so.
    return [];
  }
  const errors: FieldError[] = [];
  /** What is open, from the outside in: how often it has had each key, and where in it we are. */
  const open: { seen: Map<string, number>; at: string | number }[] = [];
  const refuse = (message: string) =>
    errors.push({ path: shorten(open.map(({ at }) => at).join('.')), message });
  for (const [token, string, colon, number] of body.matchAll(JSON_TOKEN)) {
    if (errors.length === MAX_ERRORS) break;
    const inner = open.at(-1);
    if (token === '{') open.push({ seen: new Map(), at: '' });
    else if (token === '[') open.push({ seen: new Map(), at: 0 });
    else if (token === '}' || token === ']') open.pop();
    else if (token === ',' && typeof inner?.at === 'number') inner.at += 1;
    else if (number && !isExact(number)) refuse('数值的有效数字过多，请改用字符串');
    else if (inner && string && colon) {
      inner.at = String(JSON.parse(string));
      const times = (inner.seen.get(inner.at) ?? 0) + 1;
      inner.seen.set(inner.at, times);
      if (times === 2) refuse('不能重复');
    }
  }
  return errors;
}

function decode(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}

/** A path is a name that the client chose: long ones are cut so that an answer stays small. */
function shorten(path: string): string {
  return path.length <= 64 ? path : `${path.slice(0, 64)}…`;
}
