/**
 * Alipay's variables. Two modes: with Alipay's public key, or with its certificates, of which several
 * may be valid while one replaces another. A key is looked up among these only, never on the network.
 * What is wrong is named by its variable; values are never shown.
 */
import * as z from 'zod';
import { NotConfiguredError } from '../../env';
import type { GatewayVariables } from '../gateway';
import { sign, signingKey, verify, verifyingKey, warnOfExpiry } from '../keys';

/** An app of a seller at Alipay, with its keys. */
export interface AlipayAccount {
  appId: string;
  sellerId: string;
  /** Where requests go: the whole URL of gateway.do. */
  url: string;
  privateKey: CryptoKey;
  /** What a request in certificate mode names. Empty in public key mode. */
  certificateNumbers: Record<string, string>;
  /**
   * The keys that may have signed a message of Alipay. None for a certificate that is not configured;
   * all of them where the message names no certificate, as notifications do not always.
   */
  keysFor(certificateNumber: string | null): readonly CryptoKey[];
}

const PRODUCTION = 'https://openapi.alipay.com/gateway.do';
const SANDBOX = 'https://openapi-sandbox.dl.alipaydev.com/gateway.do';

/** The MD5 by which Alipay names a certificate: dev/alipay-cert-sn.ts prints it. */
const CertificateNumber = z.string().regex(/^[0-9a-f]{32}$/);

const optional = <T extends z.ZodType>(schema: T) =>
  z.preprocess((value) => (value === '' ? undefined : value), schema.optional());

const Variables = z.object({
  /** 16 digits. */
  ALIPAY_APP_ID: z.string('not set').regex(/^\d{16}$/, 'not the 16 digits of an app'),
  /** The seller's user id (PID), 16 digits that begin with 2088. */
  ALIPAY_SELLER_ID: z.string('not set').regex(/^2088\d{12}$/, 'not the 16 digits of a seller'),
  /** Secret: the app's private key. */
  ALIPAY_PRIVATE_KEY: z
    .string('the secret is not set')
    .transform((text, context) => imported(signingKey, text, context)),
  /** Alipay's public key, not the app's. */
  ALIPAY_PUBLIC_KEY: optional(
    z.string('not a text').transform((text, context) => imported(verifyingKey, text, context)),
  ),
  /** JSON: the SN of each of Alipay's certificates, and its PEM. */
  ALIPAY_CERTS: optional(z.string('not a text').transform(readCertificates)),
  ALIPAY_APP_CERT_SN: optional(
    z.string('not a text').regex(/^[0-9a-f]{32}$/, 'not the SN of a certificate'),
  ),
  ALIPAY_ROOT_CERT_SN: optional(
    z.string('not a text').regex(/^[0-9a-f]{32}(_[0-9a-f]{32})*$/, 'not the SN of a root file'),
  ),
  ALIPAY_API_BASE: optional(
    z.string('not a text').refine(isGatewayUrl, "not one of Alipay's addresses"),
  ),
});

/** The account that the variables describe. Throws NotConfiguredError, which names every wrong variable. */
export async function readConfiguration(env: GatewayVariables): Promise<AlipayAccount> {
  const { data, error } = await Variables.safeParseAsync(env);
  const problems = [
    ...(error?.issues ?? []).map(({ path, message }) => `${String(path[0])}: ${message}`),
    ...modeProblems(env),
  ];
  if (data && (await isOwnKey(data))) {
    problems.push("ALIPAY_PUBLIC_KEY or ALIPAY_CERTS: the app's own key, not Alipay's");
  }
  if (!data || problems.length > 0) throw new NotConfiguredError(problems.join('; '));

  const { ALIPAY_PUBLIC_KEY, ALIPAY_CERTS, ALIPAY_APP_CERT_SN, ALIPAY_ROOT_CERT_SN } = data;
  return {
    appId: data.ALIPAY_APP_ID,
    sellerId: data.ALIPAY_SELLER_ID,
    url: data.ALIPAY_API_BASE ?? PRODUCTION,
    privateKey: data.ALIPAY_PRIVATE_KEY,
    certificateNumbers: {
      ...(ALIPAY_APP_CERT_SN && { app_cert_sn: ALIPAY_APP_CERT_SN }),
      ...(ALIPAY_ROOT_CERT_SN && { alipay_root_cert_sn: ALIPAY_ROOT_CERT_SN }),
    },
    keysFor(certificateNumber) {
      if (ALIPAY_PUBLIC_KEY) return [ALIPAY_PUBLIC_KEY];
      if (!ALIPAY_CERTS) return [];
      if (certificateNumber === null) return [...ALIPAY_CERTS.values()];
      const key = ALIPAY_CERTS.get(certificateNumber);
      return key ? [key] : [];
    },
  };
}

/** What is missing for one of the two modes, or contradicts it. */
function modeProblems(env: GatewayVariables): string[] {
  const isSet = (name: string) => env[name] !== undefined && env[name] !== '';
  const numbers = ['ALIPAY_APP_CERT_SN', 'ALIPAY_ROOT_CERT_SN'];
  if (isSet('ALIPAY_PUBLIC_KEY') === isSet('ALIPAY_CERTS')) {
    return ['ALIPAY_PUBLIC_KEY or ALIPAY_CERTS: set exactly one of the two'];
  }
  if (isSet('ALIPAY_CERTS')) {
    return numbers.filter((name) => !isSet(name)).map((name) => `${name}: not set`);
  }
  return numbers.filter(isSet).map((name) => `${name}: set without ALIPAY_CERTS`);
}

type Context = z.RefinementCtx;

/** Imports a key. The importer's own error may quote the key, so it is dropped. */
async function imported(
  importer: (text: string) => Promise<CryptoKey>,
  text: string,
  context: Context,
): Promise<CryptoKey> {
  try {
    return await importer(text);
  } catch {
    context.addIssue('not an RSA key in PEM or base64');
    return z.NEVER;
  }
}

const Certificates = z
  .record(CertificateNumber, z.string())
  .refine((certificates) => Object.keys(certificates).length > 0);

async function readCertificates(text: string, context: Context): Promise<Map<string, CryptoKey>> {
  try {
    const certificates = Certificates.parse(JSON.parse(text));
    const keys = new Map<string, CryptoKey>();
    for (const [number, pem] of Object.entries(certificates)) {
      // Alipay's file may hold its issuer after it.
      const [first] =
        /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/.exec(pem) ?? [];
      if (!first) throw new Error('no certificate');
      keys.set(number, await verifyingKey(first));
      warnOfExpiry('alipay', number, first);
    }
    return keys;
  } catch {
    context.addIssue('not a JSON object of SNs and PEM certificates');
    return z.NEVER;
  }
}

/**
 * The console shows the app's public key beside Alipay's. With the wrong one every answer would count
 * as unknown, and refunds would be sent and never be settled.
 */
async function isOwnKey(data: z.output<typeof Variables>): Promise<boolean> {
  const signature = await sign(data.ALIPAY_PRIVATE_KEY, 'probe');
  const probe = new Uint8Array(new TextEncoder().encode('probe'));
  const keys = [...(data.ALIPAY_CERTS?.values() ?? [])];
  if (data.ALIPAY_PUBLIC_KEY) keys.push(data.ALIPAY_PUBLIC_KEY);
  for (const key of keys) {
    if (await verify(key, signature, probe)) return true;
  }
  return false;
}

function isGatewayUrl(value: string): boolean {
  if (value === PRODUCTION || value === SANDBOX) return true;
  if (!URL.canParse(value)) return false;
  const { protocol, hostname, username } = new URL(value);
  return protocol === 'http:' && username === '' && ['localhost', '127.0.0.1'].includes(hostname);
}
