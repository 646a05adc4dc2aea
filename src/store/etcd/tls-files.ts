// The certificate files of --etcd-keyfile, --etcd-certfile and --etcd-cafile: read, checked, and watched for change.
//
// Renewed certificates are picked up by comparing file identity (inode, size, mtime) at every connect and on a timer;
// inotify would miss the symlink swap by which cert-manager and kubelet renew files. A CA file alone is honoured, which
// flanneld ignores.

import { readFileSync } from 'node:fs';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { OverlayError } from '../../core/errors.js';
import { fileSignature } from '../../core/files.js';

export interface TlsFiles {
  readonly keyFile: string;
  readonly certFile: string;
  readonly caFile: string;
}

/** In the form etcd3 takes. */
export interface TlsMaterial {
  readonly rootCertificate: Buffer;
  readonly privateKey?: Buffer;
  readonly certChain?: Buffer;
}

/** Whether any of the three files is configured. */
export function hasTlsFiles(files: TlsFiles): boolean {
  return files.keyFile !== '' || files.certFile !== '' || files.caFile !== '';
}

/** Changes whenever one of the files is replaced or rewritten. */
export function tlsSignature(files: TlsFiles): string {
  return [files.keyFile, files.certFile, files.caFile]
    .map((path) => (path === '' ? '' : fileSignature(path)))
    .join('|');
}

/**
 * The content of the files; undefined when none is configured. Throws OverlayError E_FILE for a file that cannot be
 * read or is not PEM, E_USAGE when only one of key and certificate is given. No message holds file content.
 */
export function readTlsFiles(files: TlsFiles): TlsMaterial | undefined {
  if (!hasTlsFiles(files)) return undefined;
  if ((files.keyFile === '') !== (files.certFile === '')) {
    const [given, missing] = files.keyFile === '' ? ['certfile', 'keyfile'] : ['keyfile', 'certfile'];
    throw new OverlayError('E_USAGE', `Cannot use --etcd-${given} without --etcd-${missing}`);
  }
  const ca = files.caFile === '' ? undefined : readPem(files.caFile, '--etcd-cafile', parseCertificate);
  const material = ca === undefined ? {} : { rootCertificate: ca };
  if (files.keyFile === '') return material as TlsMaterial;
  return {
    ...material,
    privateKey: readPem(files.keyFile, '--etcd-keyfile', parseKey),
    certChain: readPem(files.certFile, '--etcd-certfile', parseCertificate),
  } as TlsMaterial; // without a CA file grpc-js uses the system roots
}

function readPem(path: string, flag: string, check: (pem: Buffer) => unknown): Buffer {
  let pem: Buffer;
  try {
    pem = readFileSync(path);
  } catch (error) {
    throw new OverlayError(
      'E_FILE',
      `Cannot read ${flag} "${path}": ${(error as NodeJS.ErrnoException).code ?? 'failed'}`,
      { cause: error },
    );
  }
  try {
    check(pem);
  } catch {
    // OpenSSL's text adds nothing an operator can use, and it must never quote the file.
    throw new OverlayError('E_FILE', `Cannot use ${flag} "${path}": it is not valid PEM`);
  }
  return pem;
}

const parseCertificate = (pem: Buffer): unknown => new X509Certificate(pem);
const parseKey = (pem: Buffer): unknown => createPrivateKey(pem);
