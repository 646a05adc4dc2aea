// The certificates in use: those of the files, or those before them while the files cannot be used.

import { type Condition, Conditions } from '../../core/conditions.js';
import type { Logger } from '../../core/log.js';
import { readTlsFiles, tlsSignature } from './tls-files.js';
import type { TlsFiles, TlsMaterial } from './tls-files.js';

export class TlsKeeper {
  readonly #files: TlsFiles;
  readonly #log: Logger;
  readonly #conditions = new Conditions();
  #signature: string;
  #material: TlsMaterial | undefined;

  /** Throws OverlayError E_USAGE or E_FILE when the files cannot be used at all. */
  constructor(files: TlsFiles, log: Logger) {
    this.#files = files;
    this.#log = log;
    this.#signature = tlsSignature(files);
    this.#material = readTlsFiles(files);
  }

  /** Undefined without any file. */
  get material(): TlsMaterial | undefined {
    return this.#material;
  }

  /** Takes over changed files; keeps the old ones, and says so, when the new ones are unusable. Whether it took any. */
  reload(): boolean {
    const signature = tlsSignature(this.#files);
    if (signature === this.#signature) return false;
    try {
      this.#material = readTlsFiles(this.#files);
      this.#signature = signature;
      this.#conditions.release('store-certificates');
      return true;
    } catch (error) {
      const problem = `etcd certificates not renewed: ${(error as Error).message}`;
      if (problem !== this.#conditions.textOf('store-certificates')) this.#log.error(problem);
      this.#conditions.hold('store-certificates', problem);
      return false;
    }
  }

  conditions(): readonly Condition[] {
    return this.#conditions.list();
  }
}
