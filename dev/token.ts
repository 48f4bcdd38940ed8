/**
 * `npm run token -- --sub NAME --scope 'payments:read refunds:create'`: prints a token for a
 * deployment that signs with a secret: AUTH_SECRET if it is set, else the one of `npm run dev`.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { SignJWT } from 'jose';

const ALL_SCOPES =
  'payments:read payments:export refunds:create refunds:settle refunds:correct refunds:override';
const FOLDER = join(import.meta.dirname, '..', '.dev');

export interface TokenOptions {
  secret: string;
  /** The actor, as it is kept with refunds. Default developer. */
  sub?: string | undefined;
  /** Separated by spaces; all by default. */
  scope?: string | undefined;
  /** How long it is good for. Default 12. */
  hours?: number | undefined;
  /** What AUTH_ISSUER and AUTH_AUDIENCE of the deployment ask for, where they are set. */
  issuer?: string | undefined;
  audience?: string | undefined;
}

/** Signs a token as src/auth.ts wants it. */
export function signToken(options: TokenOptions): Promise<string> {
  const { secret, sub = 'developer', scope = ALL_SCOPES, hours = 12, issuer, audience } = options;
  const token = new SignJWT({ scope })
    .setProtectedHeader({ alg: 'HS256' })
    .setSubject(sub)
    .setIssuedAt()
    .setExpirationTime(`${hours} hours`);
  if (issuer) token.setIssuer(issuer);
  if (audience) token.setAudience(audience);
  return token.sign(new TextEncoder().encode(secret));
}

/** The secret of `npm run dev`: made once for a clone, and good for nothing else. */
export async function developmentSecret(): Promise<string> {
  const file = join(FOLDER, 'auth-secret');
  await mkdir(FOLDER, { recursive: true });
  const secret = randomBytes(32).toString('hex');
  // Of two copies that start at once, the first one's secret counts.
  await writeFile(file, secret, { flag: 'wx', mode: 0o600 }).catch(() => {});
  return await readFile(file, 'utf8');
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      sub: { type: 'string' },
      scope: { type: 'string' },
      hours: { type: 'string' },
    },
  });
  const { AUTH_SECRET, AUTH_ISSUER, AUTH_AUDIENCE } = process.env;
  console.log(
    await signToken({
      secret: AUTH_SECRET || (await developmentSecret()),
      sub: values.sub,
      scope: values.scope,
      hours: values.hours === undefined ? undefined : Number(values.hours),
      issuer: AUTH_ISSUER,
      audience: AUTH_AUDIENCE,
    }),
  );
}
