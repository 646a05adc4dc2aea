// Who we are for the API server: what each request carries, and the client certificate of its connection.
//
// Everything here is renewed by others while we run. Token files are read for each request, certificates when their
// files change, and an exec plugin is run when what it gave expires or is refused.

import { OverlayError } from '../../../core/errors.js';
import { orAbort } from '../../../core/waiting.js';
import type { ClientCertificate } from './dial.js';
import { type ExecCredential, type ExecRun, runExecPlugin } from './exec-credential.js';
import { WayFault } from './faults.js';
import type { KubeconfigUser } from './kubeconfig.js';
import { filesOf, readPair } from './pem.js';
import { FileValue, readSmallFile } from './small-file.js';

/** Never logged and never shown. */
export interface Pass {
  /** The header of this name. */
  readonly authorization: string | undefined;
  /** The same object for as long as it is the same certificate. */
  readonly certificate: ClientCertificate | undefined;
}

export interface Credentials {
  /** For the next request. Rejects with OverlayError E_FILE, WayFault "credentials", or with the signal's reason. */
  current(signal: AbortSignal): Promise<Pass>;
  /** The server has refused `pass`: it is not to be given again from memory. */
  refuse(pass: Pass): void;
  /** What can be known without running or asking anything. Rejects with OverlayError E_FILE. */
  check(): Promise<void>;
  /** Ends what runs. Idempotent. */
  close(): void;
}

/** Nobody: for a server that asks for nothing. */
export const ANONYMOUS: Credentials = {
  current: () => Promise.resolve({ authorization: undefined, certificate: undefined }),
  refuse: () => undefined,
  check: () => Promise.resolve(),
  close: () => undefined,
};

/** What a credential of a kubeconfig, or of a pod, is made of. */
export type FileUser = Pick<KubeconfigUser, 'certificate' | 'token' | 'tokenFile' | 'basic'>;

/** Tokens, passwords and certificates that stand in files. */
export class FileCredentials implements Credentials {
  readonly #user: FileUser;
  readonly #certificate: FileValue<ClientCertificate | undefined>;
  #lastToken: string | undefined;

  constructor(user: FileUser) {
    this.#user = user;
    const pair = user.certificate;
    this.#certificate = new FileValue(filesOf(pair?.cert, pair?.key), async () =>
      pair === undefined ? undefined : readPair(pair),
    );
  }

  async current(): Promise<Pass> {
    const [authorization, certificate] = await Promise.all([this.#authorization(), this.#certificate.get()]);
    return { authorization, certificate };
  }

  /** A token whose file is gone is not sent again and again: what is wrong then is the file. */
  refuse({ authorization }: Pass): void {
    if (this.#lastToken !== undefined && authorization === `Bearer ${this.#lastToken}`)
      this.#lastToken = undefined;
  }

  async check(): Promise<void> {
    await this.current();
  }

  close(): void {
    // Nothing runs.
  }

  async #authorization(): Promise<string | undefined> {
    const { token, tokenFile, basic } = this.#user;
    if (tokenFile !== undefined)
      return bearer(await this.#readToken(tokenFile), refuseFile(`token file "${tokenFile}"`));
    if (token !== undefined) return bearer(token, refuseFile('token of the kubeconfig'));
    if (basic === undefined) return undefined;
    return `Basic ${Buffer.from(`${basic.username}:${basic.password}`).toString('base64')}`;
  }

  /** While a file is being replaced the token before is as good as ever, unless it was refused. */
  async #readToken(path: string): Promise<string> {
    try {
      const token = (await readSmallFile(path, 'token file')).toString().trim();
      if (token === '') throw new OverlayError('E_FILE', `Cannot use token file "${path}": it is empty`);
      this.#lastToken = token;
    } catch (error) {
      if (this.#lastToken === undefined) throw error;
    }
    return this.#lastToken;
  }
}

// Two seconds are enough for a request to arrive before the credential it carries expires.
const EXPIRES_EARLY_MS = 2000;

/** What an exec plugin gives. */
export class ExecCredentials implements Credentials {
  readonly #run: ExecRun;
  readonly #closing = new AbortController();
  #pass: { readonly pass: Pass; readonly expiresAtMs: number | undefined } | undefined;
  #running: Promise<Pass> | undefined;

  constructor(run: ExecRun) {
    this.#run = run;
  }

  async current(signal: AbortSignal): Promise<Pass> {
    const known = this.#pass;
    const isFresh = known?.expiresAtMs === undefined || Date.now() < known.expiresAtMs - EXPIRES_EARLY_MS;
    if (known !== undefined && isFresh) return known.pass;
    // One at a time, however many requests wait for it; it goes on when they give up.
    this.#running ??= this.#renew().finally(() => (this.#running = undefined));
    return orAbort(this.#running, signal);
  }

  refuse(pass: Pass): void {
    if (this.#pass?.pass === pass) this.#pass = undefined;
  }

  check(): Promise<void> {
    return Promise.resolve();
  }

  close(): void {
    this.#closing.abort();
  }

  async #renew(): Promise<Pass> {
    const { token, certificate, expiresAtMs } = await runExecPlugin(this.#run, this.#closing.signal);
    const authorization = token === undefined ? undefined : bearer(token, refusePlugin);
    const pass = { authorization, certificate: this.#sameOr(certificate) };
    this.#pass = { pass, expiresAtMs };
    return pass;
  }

  /** A certificate that came again needs no new connection. */
  #sameOr(certificate: ExecCredential['certificate']): ClientCertificate | undefined {
    const known = this.#pass?.pass.certificate;
    const isSame =
      known !== undefined &&
      certificate !== undefined &&
      known.cert.equals(certificate.cert) &&
      known.key.equals(certificate.key);
    return isSame ? known : certificate;
  }
}

/** A header must not hold whatever a file holds; the token is never shown. */
function bearer(token: string, refuse: (problem: string) => Error): string {
  if (!/^[\x21-\x7e]+$/.test(token)) throw refuse('expected letters, digits and signs of ASCII');
  return `Bearer ${token}`;
}

const refuseFile =
  (source: string) =>
  (problem: string): Error =>
    new OverlayError('E_FILE', `Cannot use ${source}: ${problem}`);

const refusePlugin = (problem: string): Error =>
  new WayFault('credentials', `token of the exec plugin cannot be used: ${problem}`);
