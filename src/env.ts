/**
 * The bindings and variables of a deployment (wrangler.toml), validated once per isolate.
 * A deployment that lacks one refuses every request with 50301; the log names what is missing and
 * never shows a value, since DATABASE_URL holds a password.
 */
import * as z from 'zod';

/** What Cloudflare hands to the Worker. Its types are a promise of wrangler.toml that settings() checks. */
export interface Bindings extends Env {
  /** The whole URL of a Neon-compatible HTTP endpoint. Unset in production, where the driver derives it from the host. */
  NEON_FETCH_ENDPOINT?: string;
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

const Settings = z.object({
  /** Where details are cached, under `payment:detail:{id}`. */
  DETAIL_CACHE: binding<KVNamespace>('get', 'put', 'delete'),
  /** Carries the purges that follow a change by some seconds. */
  PURGE_QUEUE: binding<Queue<PurgeMessage>>('sendBatch'),
  /** Secret: postgres://user:password@host/database of Neon. */
  DATABASE_URL: z
    .string('the secret is not set')
    .refine(isPostgresUrl, 'not a postgres:// URL with user, host and database'),
  NEON_FETCH_ENDPOINT: z.url({ protocol: /^https?$/, error: 'not an http(s) URL' }).optional(),
  /** The deadline of one request's database work, its second try included, in milliseconds, 100 to 20000. */
  DATABASE_TIMEOUT_MS: z
    .string()
    .regex(/^\d+$/, 'not a whole number')
    .transform(Number)
    // waitUntil, which stands in for the purge queue, lives 30 s: the deadline and some seconds must fit into it.
    .pipe(z.number().min(100).max(20_000))
    .default(8000),
  /** The IANA zone in which a time without an offset is meant. */
  TIME_ZONE: z.string().refine(isTimeZone, 'not an IANA time zone').default('Asia/Shanghai'),
});

/** The settings of this deployment, after validation. */
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
  try {
    new Intl.DateTimeFormat('en', { timeZone: value });
    return true;
  } catch {
    return false;
  }
}
