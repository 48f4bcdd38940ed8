/** The SNs equal those that alipay-sdk computes for the same files (test/gateways/vectors). */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { certificateSn, rootCertificateSn } from '../../dev/alipay-cert-sn.ts';
import keys from '../gateways/vectors/keys.json' with { type: 'json' };

const { app, platform, root_bundle, ...sns } = keys.alipay;

/** A root with an elliptic key, as Alipay's file holds beside those with RSA. */
const ELLIPTIC_ROOT = `-----BEGIN CERTIFICATE-----
MIIBvTCCAWOgAwIBAgIUFO2ylIpc33D+AE2rI8f5NOebr3IwCgYIKoZIzj0EAwIw
MzELMAkGA1UEBhMCQ04xEjAQBgNVBAoMCVRlc3QsIEluYzEQMA4GA1UEAwwHRUMg
cm9vdDAgFw0yNjExMjUxNDU4NTVaGA8yMTI2MTEwMTE0NTg1NVowMzELMAkGA1UE
BhMCQ04xEjAQBgNVBAoMCVRlc3QsIEluYzEQMA4GA1UEAwwHRUMgcm9vdDBZMBMG
ByqGSM49AgEGCCqGSM49AwEHA0IABHjXngedHsJ5mT/we9PQW95aNNLMw9MDWZ7/
AiEp5wMbqc1uR66BVgVeaOMmNHeYlZQuUhgje4yoG7QAX34Lw7yjUzBRMB0GA1Ud
DgQWBBSV5TewE6IzwH0dzJ0PzIH9/DU7uzAfBgNVHSMEGDAWgBSV5TewE6IzwH0d
zJ0PzIH9/DU7uzAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIHni
0fKoaQl5IYTMn5ELjQUtV1DEvOHLpJtlGjC4ZcykAiEApL4w1SDRsMj2bzNvz4DZ
pmbfBHXenOqrZQuZ9FJvtmY=
-----END CERTIFICATE-----`;

it('gives the SNs of the app, of Alipay and of the roots', () => {
  expect(certificateSn(app.certificate)).toBe(sns.app_cert_sn);
  expect(certificateSn(platform.certificate)).toBe(sns.alipay_cert_sn);
  expect(rootCertificateSn(root_bundle)).toBe(sns.alipay_root_cert_sn);
});

it('leaves out a root whose signature is not RSA', () => {
  expect(rootCertificateSn(`${ELLIPTIC_ROOT}\n${root_bundle}`)).toBe(sns.alipay_root_cert_sn);
});

it('takes the first of several certificates, the one that the file is named after', () => {
  expect(certificateSn(`${app.certificate}\n${root_bundle}`)).toBe(sns.app_cert_sn);
});

it('refuses a file without a certificate', () => {
  expect(() => certificateSn('no certificate')).toThrow('no certificate');
});

it('prints the SN of each file, and tells a root file from the others', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'certificates-'));
  const files = { app: app.certificate, roots: `${ELLIPTIC_ROOT}\n${root_bundle}` };
  try {
    for (const [name, pem] of Object.entries(files)) await writeFile(join(folder, name), pem);
    const script = join(import.meta.dirname, '../../dev/alipay-cert-sn.ts');
    const paths = [join(folder, 'app'), join(folder, 'roots')];
    const { stdout } = await promisify(execFile)(process.execPath, [script, ...paths]);
    expect(stdout).toBe(
      `${paths[0]}: ${sns.app_cert_sn}\n${paths[1]}: ${sns.alipay_root_cert_sn}\n`,
    );
  } finally {
    await rm(folder, { recursive: true });
  }
});
