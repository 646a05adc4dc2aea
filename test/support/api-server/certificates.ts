// A certificate authority and what it signs, made with openssl.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** PEM. */
export interface Certificate {
  readonly cert: string;
  readonly key: string;
}

export interface Subject {
  readonly commonName: string;
  readonly organization?: string;
  /** As openssl writes them: "IP:127.0.0.1", "DNS:localhost". */
  readonly names?: readonly string[];
  /** @default 2 */
  readonly days?: number;
}

const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];

export class Authority {
  readonly #dir = mkdtempSync(join(tmpdir(), `twill-ca-${process.pid}-`));
  #issued = 0;
  /** PEM. */
  readonly cert: string;

  constructor(commonName: string) {
    const subject = ['-subj', `/CN=${commonName}`, '-days', '2'];
    openssl(
      ...['req', '-x509', ...NEW_KEY, ...subject],
      ...['-keyout', this.#path('ca.key'), '-out', this.#path('ca.crt')],
    );
    this.cert = readFileSync(this.#path('ca.crt'), 'utf8');
  }

  issue({ commonName, organization, names = [], days = 2 }: Subject): Certificate {
    const file = `${++this.#issued}`;
    const [key, request, extensions, cert] = ['key', 'csr', 'ext', 'crt'].map((kind) =>
      this.#path(`${file}.${kind}`),
    );
    const lines = ['extendedKeyUsage=serverAuth,clientAuth'];
    if (names.length > 0) lines.push(`subjectAltName=${names.join(',')}`);
    writeFileSync(extensions, `${lines.join('\n')}\n`);
    const subject = `${organization === undefined ? '' : `/O=${organization}`}/CN=${commonName}`;
    openssl(...['req', ...NEW_KEY, '-subj', subject, '-keyout', key, '-out', request]);
    openssl(
      ...['x509', '-req', '-in', request, '-CA', this.#path('ca.crt'), '-CAkey', this.#path('ca.key')],
      ...['-set_serial', `${this.#issued}`, '-days', `${days}`, '-extfile', extensions, '-out', cert],
    );
    return { cert: readFileSync(cert, 'utf8'), key: readFileSync(key, 'utf8') };
  }

  close(): void {
    rmSync(this.#dir, { recursive: true, force: true });
  }

  #path(name: string): string {
    return join(this.#dir, name);
  }
}

function openssl(...args: string[]): void {
  execFileSync('openssl', args, { stdio: 'pipe' });
}
