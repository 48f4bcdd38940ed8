/**
 * The bindings and variables of a deployment (wrangler.toml), validated once per isolate.
 * A deployment that lacks one answers 50301 to whatever needs it; the log names what is missing and
 * never shows a value, since DATABASE_URL holds a password.
 */
import * as z from 'zod';

/** What Cloudflare hands to the Worker. Its types are a promise of wrangler.toml that settings() checks. */
export interface Bindings extends Omit<Env, 'METRICS' | 'GATEWAY_METRICS' | 'ASSETS'> {
  /** Where each request leaves a data point. A deployment without it works. */
  METRICS?: AnalyticsEngineDataset;
  /** The same for each call of a gateway and each callback. */
  GATEWAY_METRICS?: AnalyticsEngineDataset;
  /** The console's files, dist/site. Without them the API works. */
  ASSETS?: Fetcher;
  /** `on` for a Server-Timing header, which tells any caller how long database and KV took. */
  SERVER_TIMING?: string;
  /** The whole URL of a Neon-compatible HTTP endpoint. Unset in production, where the driver derives it from the host. */
  NEON_FETCH_ENDPOINT?: string;
  AUTH_SECRET?: string;
  AUTH_JWKS_URL?: string;
  AUTH_ISSUER?: string;
  AUTH_AUDIENCE?: string;
  AUTH_CLIENT_ID?: string;
  AUTH_CLIENT_SECRET?: string;
  AUTH_SCOPES?: string;
}

/** The body of a message of the purge queue. */
export interface PurgeMessage {
  payment_id: string;
}

/** A binding is an object of the runtime, not of a class that could be named: it is known by its methods. */
const binding = <T>(...methods: string[]) =>
  z.custom<T>(
    (value) =>
      typeof value === 'object' &&
      value !== null &&
      methods.every((method) => typeof Reflect.get(value, method) === 'function'),
    'the binding is missing in wrangler.toml',
  );

const optional = <T extends z.ZodType>(schema: T) =>
  z.preprocess((value) => (value === '' ? undefined : value), schema.optional());

const milliseconds = (min: number, max: number) =>
  z
    .string()
    .regex(/^\d+$/, 'not a whole number')
    .transform(Number)
    .pipe(z.number().min(min).max(max));

const Variables = z.object({
  /** Where details are cached, under `payment:detail:{id}`. */
  DETAIL_CACHE: binding<KVNamespace>('get', 'getWithMetadata', 'put', 'delete'),
  /** Carries the purges that follow a change by some seconds. */
  PURGE_QUEUE: binding<Queue<PurgeMessage>>('sendBatch'),
  /** Carries the refunds that a gateway has to carry out, for the moment in which something is to be done about them. */
  REFUND_QUEUE: binding<Queue>('send', 'sendBatch'),
  /** Counts what an actor writes: 60 refunds and settlements a minute. */
  WRITE_RATE_LIMIT: binding<RateLimit>('limit'),
  /** Secret: postgres://user:password@host/database of Neon. */
  DATABASE_URL: z
    .string('the secret is not set')
    .refine(isPostgresUrl, 'not a postgres:// URL with user, host and database'),
  NEON_FETCH_ENDPOINT: z.url({ protocol: /^https?$/, error: 'not an http(s) URL' }).optional(),
  /** The deadline of one request's database work, its second try included, in milliseconds, 100 to 20000. */
  // waitUntil, which stands in for the purge queue, lives 30 s: the deadline and some seconds must fit into it.
  DATABASE_TIMEOUT_MS: milliseconds(100, 20_000).default(8000),
  /** A request to the database that takes longer is logged, in milliseconds, 1 to 20000. */
  SLOW_QUERY_MS: milliseconds(1, 20_000).default(200),
  /** The gateways whose refunds are sent by themselves, separated by commas: wechat, alipay. */
  GATEWAYS: z
    .string()
    .default('')
    .transform((names) =>
      names
        .split(',')
        .map((name) => name.trim())
        .filter(Boolean),
    ),
  /** The IANA zone in which a time without an offset is meant. */
  TIME_ZONE: z.string().refine(isTimeZone, 'not an IANA time zone').default('Asia/Shanghai'),
  /** Secret of at least 32 bytes with which tokens are signed (HS256), for a deployment without an identity provider. */
  AUTH_SECRET: optional(z.string().refine(isLongSecret, 'shorter than 32 bytes')),
  /** The identity provider's keys (JWKS). Plain http only on this machine. */
  AUTH_JWKS_URL: optional(z.string().refine(isProviderUrl, 'not an https URL')),
  /** What `iss` must be. */
  AUTH_ISSUER: optional(z.string()),
  /** What `aud` must be or contain. */
  AUTH_AUDIENCE: optional(z.string()),
  /** As what the console signs people in at the identity provider. Unset: it does not. */
  AUTH_CLIENT_ID: optional(z.string()),
  /** Secret of that client, where the provider gives it one. */
  AUTH_CLIENT_SECRET: optional(z.string()),
  /** What the console asks the provider for, separated by spaces. */
  AUTH_SCOPES: z
    .string()
    .regex(/^$|^[!#-[\]-~]+( [!#-[\]-~]+)*$/, 'not words separated by single spaces')
    .default('')
    .transform((scopes) => scopes || 'openid'),
});

/** The settings of this deployment, after validation. Without access control there are none: it fails closed. */
const Settings = Variables.refine(
  ({ AUTH_SECRET, AUTH_JWKS_URL }) => (AUTH_SECRET === undefined) !== (AUTH_JWKS_URL === undefined),
  {
    path: ['AUTH_SECRET or AUTH_JWKS_URL'],
    error: 'set exactly one of the two, AUTH_JWKS_URL with AUTH_ISSUER and AUTH_AUDIENCE',
    when: () => true,
  },
)
  .refine(
    ({ AUTH_JWKS_URL, AUTH_ISSUER, AUTH_AUDIENCE }) =>
      AUTH_JWKS_URL === undefined || (AUTH_ISSUER !== undefined && AUTH_AUDIENCE !== undefined),
    {
      path: ['AUTH_ISSUER and AUTH_AUDIENCE'],
      error: 'set both, or a token for any other application would do',
      when: () => true,
    },
  )
  .refine(
    ({ AUTH_CLIENT_ID, AUTH_JWKS_URL, AUTH_ISSUER }) =>
      AUTH_CLIENT_ID === undefined ||
      (AUTH_JWKS_URL !== undefined && isProviderUrl(AUTH_ISSUER ?? '')),
    {
      path: ['AUTH_CLIENT_ID'],
      error: 'needs AUTH_JWKS_URL, and an AUTH_ISSUER that is an https URL',
      when: () => true,
    },
  )
  .refine(
    ({ AUTH_CLIENT_ID, AUTH_CLIENT_SECRET }) =>
      AUTH_CLIENT_SECRET === undefined || AUTH_CLIENT_ID !== undefined,
    { path: ['AUTH_CLIENT_SECRET'], error: 'needs AUTH_CLIENT_ID', when: () => true },
  );
/** What settings() gives. */
export type Settings = z.output<typeof Settings>;

/** Thrown by settings(): says which bindings or variables are missing or wrong, without their values. */
export class NotConfiguredError extends Error {
  override name = 'NotConfiguredError';
}

const validated = new WeakMap<Bindings, Settings>();

/** The validated settings; throws NotConfiguredError. */
export function settings(env: Bindings): Settings {
  const known = validated.get(env);
  if (known) return known;

  const result = Settings.safeParse(env);
  if (!result.success) {
    const problems = result.error.issues.map(
      (issue) => `${issue.path.join('.')}: ${issue.message}`,
    );
    throw new NotConfiguredError(problems.join('; '));
  }
  validated.set(env, result.data);
  return result.data;
}

function isPostgresUrl(value: string): boolean {
  // The scheme is replaced because URL parses user and host of special schemes only.
  const match = /^postgres(?:ql)?:(\/\/.*)$/s.exec(value);
  if (!match || !URL.canParse(`http:${match[1]}`)) return false;
  const url = new URL(`http:${match[1]}`);
  return url.username !== '' && url.hostname !== '' && url.pathname.length > 1;
}

function isTimeZone(value: string): boolean {
  // Of offsets and of abbreviations such as CST and IST, which Intl knows too, PostgreSQL makes something else.
  if (value !== 'UTC' && !/^\w+\//.test(value)) return false;
  try {
    new Intl.DateTimeFormat('en', { timeZone: value });
    return true;
  } catch {
    return false;
  }
}

function isLongSecret(value: string): boolean {
  return new TextEncoder().encode(value).length >= 32;
}

/** Plain http only on this machine. */
function isProviderUrl(value: string): boolean {
  if (!URL.canParse(value)) return false;
  const { protocol, hostname } = new URL(value);
  return (
    protocol === 'https:' || (protocol === 'http:' && ['localhost', '127.0.0.1'].includes(hostname))
  );
}
