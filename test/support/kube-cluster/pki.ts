// Keys and certificates of a cluster, made by openssl: P-256, for they are made anew for each.
//
//   serving CA ── certificate of the API server     clients CA ── certificates of users (CN: name, O: groups)
//
// Two authorities, so that the serving one can be changed while the users' certificates stay good.

import { execFileSync } from 'node:child_process';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** PEM files of a certificate and its key. */
export interface Pair {
  readonly certFile: string;
  readonly keyFile: string;
}

export class Pki {
  readonly #dir: string;
  #serial = 0;

  constructor(dir: string) {
    this.#dir = dir;
  }

  /** Makes an authority; one of that name is replaced in one step. */
  authority(name: string): Pair {
    const pair = this.#pair(name);
    const made = this.#pair(`${name}-new`);
    this.#openssl(
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30'],
      ...['-subj', `/CN=${name} ${++this.#serial}`, '-keyout', made.keyFile, '-out', made.certFile],
    );
    renameSync(made.keyFile, pair.keyFile);
    renameSync(made.certFile, pair.certFile);
    return pair;
  }

  /** A server's certificate for these IP addresses and names. */
  server(name: string, authority: Pair, addresses: readonly string[], names: readonly string[]): Pair {
    const subjects = [...addresses.map((ip) => `IP:${ip}`), ...names.map((dns) => `DNS:${dns}`)];
    return this.#sign(name, authority, `/CN=${name}`, [
      'extendedKeyUsage = serverAuth',
      `subjectAltName = ${subjects.join(', ')}`,
    ]);
  }

  /** A user's certificate. */
  client(user: string, groups: readonly string[], authority: Pair): Pair {
    const subject = [...groups.map((group) => `/O=${group}`), `/CN=${user}`].join('');
    return this.#sign(`user-${user.replaceAll(':', '-')}`, authority, subject, [
      'extendedKeyUsage = clientAuth',
    ]);
  }

  #sign(name: string, authority: Pair, subject: string, extensions: readonly string[]): Pair {
    const pair = this.#pair(name);
    const request = join(this.#dir, `${name}.csr`);
    const extensionFile = join(this.#dir, `${name}.ext`);
    writeFileSync(extensionFile, extensions.join('\n'));
    this.#openssl(
      ...['req', '-new', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'],
      ...['-subj', subject, '-keyout', pair.keyFile, '-out', request],
    );
    this.#openssl(
      ...['x509', '-req', '-days', '30', '-set_serial', `${Date.now()}${++this.#serial}`, '-in', request],
      ...['-CA', authority.certFile, '-CAkey', authority.keyFile, '-extfile', extensionFile],
      ...['-out', pair.certFile],
    );
    return pair;
  }

  #pair(name: string): Pair {
    return { certFile: join(this.#dir, `${name}.crt`), keyFile: join(this.#dir, `${name}.key`) };
  }

  #openssl(...args: readonly string[]): void {
    execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
  }
}

/** Text of a PEM file, for JSON. */
export function pem(path: string): string {
  return readFileSync(path, 'utf8');
}
