// What the certificate of the API server is held against: the CA of the cluster, or those of the system.

import { existsSync } from 'node:fs';
import type { Trust } from './dial.js';
import type { Pem } from './kubeconfig.js';
import { filesOf, readCa } from './pem.js';
import { FileValue, readSmallFile } from './small-file.js';
import type { Environment } from './web-proxy.js';

// Where distributions keep the CAs that their operator trusts, in the order in which Go looks (crypto/x509). Node would
// take those it brings along, which know nothing of a company's own.
const SYSTEM_FILES = [
  '/etc/ssl/certs/ca-certificates.crt', // Debian, Alpine
  '/etc/pki/tls/certs/ca-bundle.crt', // Fedora, RHEL
  '/etc/ssl/ca-bundle.pem', // openSUSE
  '/etc/pki/tls/cacert.pem',
  '/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem',
  '/etc/ssl/cert.pem',
] as const;

export interface TrustOptions {
  readonly ca: Pem | undefined;
  readonly isUnverified: boolean;
  readonly serverName: string | undefined;
}

/**
 * Reads what to trust: for each connection anew, and the same object as before when no file changed. The result
 * rejects with OverlayError E_FILE. Without a CA the system's count, or those of SSL_CERT_FILE; without any, Node's.
 */
export function trustReader(options: TrustOptions, environment: Environment): () => Promise<Trust> {
  const { ca, isUnverified, serverName } = options;
  if (isUnverified) return constant({ ca: undefined, isUnverified, serverName });
  if (ca !== undefined) {
    const what = 'certificate authority';
    const value = new FileValue(filesOf(ca), async () => ({
      ca: await readCa(ca, what),
      isUnverified,
      serverName,
    }));
    return () => value.get();
  }
  const file = environment['SSL_CERT_FILE'] || SYSTEM_FILES.find((path) => existsSync(path));
  if (file === undefined) return constant({ ca: undefined, isUnverified, serverName });
  const value = new FileValue([file], async () => ({
    ca: await readSmallFile(file, 'the CAs of the system'),
    isUnverified,
    serverName,
  }));
  return () => value.get();
}

function constant(trust: Trust): () => Promise<Trust> {
  return () => Promise.resolve(trust);
}
