/**
 * The keys of both sides: the merchant's, which the simulator verifies requests with, and the
 * gateways', which it signs with. With each set come the variables that a Worker needs to talk to it.
 * None of them protects anything.
 */
import { createPublicKey, generateKeyPair, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';

/** A key that WeChat Pay signs with. */
export interface PlatformKey {
  /** PUB_KEY_ID_… of a public key, hexadecimal of a certificate. */
  serial: string;
  /** PEM. */
  privateKey: string;
}

export interface SimulatorKeys {
  wechat: {
    mchid: string;
    appid: string;
    /** 32 characters; callbacks are encrypted with it. */
    apiV3Key: string;
    merchantSerial: string;
    /** PEM. */
    merchantPublicKey: string;
    /** The new one, which merchants change to. */
    publicKey: PlatformKey;
    /** The old one; null where the merchant never had it. */
    certificate: PlatformKey | null;
  };
  alipay: {
    appId: string;
    sellerId: string;
    /** PEM. */
    appPublicKey: string;
    /** PEM. */
    platformPrivateKey: string;
    /** Certificate mode; null where a request in it is refused. */
    certificates: { appCertSn: string; rootCertSn: string; alipayCertSn: string } | null;
  };
}

/** By the names that the Worker reads them by. */
export type Variables = Record<string, string>;

export interface KeySet {
  keys: SimulatorKeys;
  variables: Variables;
}

const generate = promisify(generateKeyPair);

/** New keys, in the public key mode of both gateways. Takes about half a second. */
export async function makeKeys(): Promise<KeySet> {
  const [merchant, wechat, app, alipay] = await Promise.all([1, 2, 3, 4].map(makePair));
  if (!merchant || !wechat || !app || !alipay) throw new Error('four pairs were asked for');
  const apiV3Key = randomBytes(16).toString('hex');
  const serial = `PUB_KEY_ID_${'0'.repeat(31)}1`;
  const merchantSerial = randomBytes(20).toString('hex').toUpperCase();
  const keys: SimulatorKeys = {
    wechat: {
      mchid: '1900000109',
      appid: 'wx0000000000000109',
      apiV3Key,
      merchantSerial,
      merchantPublicKey: merchant.publicKey,
      publicKey: { serial, privateKey: wechat.privateKey },
      certificate: null,
    },
    alipay: {
      appId: '2021000000000109',
      sellerId: '2088000000000109',
      appPublicKey: app.publicKey,
      platformPrivateKey: alipay.privateKey,
      certificates: null,
    },
  };
  const variables = toVariables(keys, {
    WECHAT_PRIVATE_KEY: merchant.privateKey,
    WECHAT_VERIFY_KEYS: JSON.stringify({ [serial]: wechat.publicKey }),
    ALIPAY_PRIVATE_KEY: app.privateKey,
    ALIPAY_PUBLIC_KEY: alipay.publicKey,
  });
  return { keys, variables };
}

async function makePair(): Promise<{ publicKey: string; privateKey: string }> {
  return generate('rsa', {
    modulusLength: 2048,
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
}

function toVariables(keys: SimulatorKeys, secrets: Variables): Variables {
  return {
    WECHAT_MCHID: keys.wechat.mchid,
    WECHAT_APPID: keys.wechat.appid,
    WECHAT_SERIAL_NO: keys.wechat.merchantSerial,
    WECHAT_API_V3_KEY: keys.wechat.apiV3Key,
    ALIPAY_APP_ID: keys.alipay.appId,
    ALIPAY_SELLER_ID: keys.alipay.sellerId,
    ...secrets,
  };
}

const VECTORS = join(import.meta.dirname, '../../test/gateways/vectors/keys.json');

const Text = z.string();
const TestKeys = z.object({
  wechat: z.object({
    mchid: Text,
    appid: Text,
    api_v3_key: Text,
    merchant: z.object({ serial_no: Text, private_key_pkcs8: Text }),
    platform_public_key: z.object({
      id: Text,
      public_key: Text,
      private_key_for_simulators: Text,
    }),
    platform_certificate: z.object({
      serial_no: Text,
      certificate: Text,
      private_key_for_simulators: Text,
    }),
  }),
  alipay: z.object({
    app_id: Text,
    seller_id: Text,
    app: z.object({ private_key_pkcs8_base64: Text, public_key_base64: Text }),
    platform: z.object({
      public_key_base64: Text,
      certificate: Text,
      private_key_for_simulators: Text,
    }),
    app_cert_sn: Text,
    alipay_cert_sn: Text,
    alipay_root_cert_sn: Text,
  }),
});

/**
 * The keys of the test vectors. `certificateVariables` are those of Alipay's certificate mode, to be
 * given instead of ALIPAY_PUBLIC_KEY.
 */
export function testKeys(): KeySet & { certificateVariables: Variables } {
  const { wechat, alipay } = TestKeys.parse(JSON.parse(readFileSync(VECTORS, 'utf8')));
  const keys: SimulatorKeys = {
    wechat: {
      mchid: wechat.mchid,
      appid: wechat.appid,
      apiV3Key: wechat.api_v3_key,
      merchantSerial: wechat.merchant.serial_no,
      merchantPublicKey: publicPem(wechat.merchant.private_key_pkcs8),
      publicKey: {
        serial: wechat.platform_public_key.id,
        privateKey: wechat.platform_public_key.private_key_for_simulators,
      },
      certificate: {
        serial: wechat.platform_certificate.serial_no,
        privateKey: wechat.platform_certificate.private_key_for_simulators,
      },
    },
    alipay: {
      appId: alipay.app_id,
      sellerId: alipay.seller_id,
      appPublicKey: toPem('PUBLIC KEY', alipay.app.public_key_base64),
      platformPrivateKey: alipay.platform.private_key_for_simulators,
      certificates: {
        appCertSn: alipay.app_cert_sn,
        rootCertSn: alipay.alipay_root_cert_sn,
        alipayCertSn: alipay.alipay_cert_sn,
      },
    },
  };
  const variables = toVariables(keys, {
    WECHAT_PRIVATE_KEY: wechat.merchant.private_key_pkcs8,
    WECHAT_VERIFY_KEYS: JSON.stringify({
      [wechat.platform_public_key.id]: wechat.platform_public_key.public_key,
      [wechat.platform_certificate.serial_no]: wechat.platform_certificate.certificate,
    }),
    ALIPAY_PRIVATE_KEY: alipay.app.private_key_pkcs8_base64,
    ALIPAY_PUBLIC_KEY: alipay.platform.public_key_base64,
  });
  const certificateVariables = {
    ALIPAY_CERTS: JSON.stringify({ [alipay.alipay_cert_sn]: alipay.platform.certificate }),
    ALIPAY_APP_CERT_SN: alipay.app_cert_sn,
    ALIPAY_ROOT_CERT_SN: alipay.alipay_root_cert_sn,
  };
  return { keys, variables, certificateVariables };
}

function publicPem(privatePem: string): string {
  return createPublicKey(privatePem).export({ type: 'spki', format: 'pem' }).toString();
}

function toPem(label: string, base64: string): string {
  const lines = base64.match(/.{1,64}/g) ?? [];
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ''].join('\n');
}
