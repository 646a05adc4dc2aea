// Certificates and keys in PEM, checked when they are read: what OpenSSL says later of a bad one names no file.

import { createPrivateKey, X509Certificate } from 'node:crypto';
import { OverlayError } from '../../../core/errors.js';
import type { ClientCertificate } from './dial.js';
import type { Pem } from './kubeconfig.js';
import { readSmallFile } from './small-file.js';

/** The files that these are read from. */
export function filesOf(...pems: readonly (Pem | undefined)[]): string[] {
  return pems.flatMap((pem) => (pem !== undefined && 'file' in pem ? [pem.file] : []));
}

/** CA certificates. Rejects with OverlayError E_FILE; no message holds what is in a file. */
export async function readCa(pem: Pem, what: string): Promise<Buffer> {
  const bytes = await read(pem, what);
  check(() => new X509Certificate(bytes), pem, what, 'it is not valid PEM');
  return bytes;
}

/** A client certificate and its key. Rejects with OverlayError E_FILE. */
export async function readPair(pair: { cert: Pem; key: Pem }): Promise<ClientCertificate> {
  const cert = await read(pair.cert, 'client certificate');
  const key = await read(pair.key, 'client key');
  const known = check(
    () => new X509Certificate(cert),
    pair.cert,
    'client certificate',
    'it is not valid PEM',
  );
  const secret = check(() => createPrivateKey(key), pair.key, 'client key', 'it is not valid PEM');
  if (!known.checkPrivateKey(secret))
    throw refusal(pair.key, 'client key', 'it is not that of the certificate');
  return { cert, key };
}

const read = (pem: Pem, what: string): Promise<Buffer> =>
  'data' in pem ? Promise.resolve(pem.data) : readSmallFile(pem.file, what);

function check<T>(parse: () => T, pem: Pem, what: string, problem: string): T {
  try {
    return parse();
  } catch {
    throw refusal(pem, what, problem); // OpenSSL's text adds nothing an operator can use
  }
}

function refusal(pem: Pem, what: string, problem: string): OverlayError {
  const where = 'file' in pem ? `"${pem.file}"` : 'of the kubeconfig';
  return new OverlayError('E_FILE', `Cannot use ${what} ${where}: ${problem}`);
}
