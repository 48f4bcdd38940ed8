/**
 * `node dev/alipay-cert-sn.ts FILE...`: prints the SN of each certificate file that Alipay's console
 * hands out. The SN of appCertPublicKey_*.crt is ALIPAY_APP_CERT_SN, the one of alipayRootCert.crt is
 * ALIPAY_ROOT_CERT_SN, and the one of alipayCertPublicKey_RSA2.crt names that certificate in
 * ALIPAY_CERTS. Certificates are public, so nothing here is secret.
 */
import { createHash, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';

/** PKCS#1: sha256WithRSAEncryption and its siblings. Alipay leaves roots with other signatures (SM2) out. */
const RSA_SIGNATURES = '1.2.840.113549.1.1.';

/** The SN of one certificate, the app's or Alipay's. Of several in the file, the first one's. */
export function certificateSn(pem: string): string {
  const [first] = certificates(pem);
  if (!first) throw new Error('no certificate in the file');
  return sn(first);
}

/** The SN of a root file: those of all its certificates with an RSA signature, joined by `_`. */
export function rootCertificateSn(pem: string): string {
  return certificates(pem)
    .filter(({ signatureAlgorithmOid }) => signatureAlgorithmOid.startsWith(RSA_SIGNATURES))
    .map(sn)
    .join('_');
}

function certificates(pem: string): X509Certificate[] {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g) ?? [];
  return blocks.map((block) => new X509Certificate(block));
}

/** MD5 of the issuer, last part first (`CN=…,OU=…,O=…,C=…`), and the serial number in decimal. */
function sn({ issuer, serialNumber }: X509Certificate): string {
  const name = issuer.split('\n').toReversed().join(',');
  return createHash('md5')
    .update(`${name}${BigInt(`0x${serialNumber}`)}`)
    .digest('hex');
}

if (import.meta.main) {
  const files = process.argv.slice(2);
  if (files.length === 0) console.error('usage: node dev/alipay-cert-sn.ts FILE...');
  for (const file of files) {
    const pem = await readFile(file, 'utf8');
    const isRoot = certificates(pem)[0]?.ca;
    console.log(`${file}: ${isRoot ? rootCertificateSn(pem) : certificateSn(pem)}`);
  }
}
