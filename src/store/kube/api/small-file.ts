// Files that others renew while we run: tokens, certificates, keys, kubeconfigs. All of them are small.

import { open } from 'node:fs/promises';
import { OverlayError } from '../../../core/errors.js';
import { fileSignature } from '../../../core/files.js';

// A kubeconfig of hundreds of clusters, or all the CAs of a distribution, has some hundred KB.
const MAX_BYTES = 4 << 20;

/**
 * The content of the file at `path`, which `what` names in messages: `Cannot read token file "/x": ENOENT`. Rejects
 * with OverlayError E_FILE, also for more than `maxBytes`, whatever kind of file it is.
 */
export async function readSmallFile(path: string, what: string, maxBytes = MAX_BYTES): Promise<Buffer> {
  let bytes: Buffer;
  try {
    const file = await open(path, 'r');
    try {
      bytes = await readUpTo(file, maxBytes + 1);
    } finally {
      await file.close();
    }
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'failed';
    throw new OverlayError('E_FILE', `Cannot read ${what} "${path}": ${code}`, { cause: error });
  }
  if (bytes.length > maxBytes)
    throw new OverlayError('E_FILE', `Cannot read ${what} "${path}": more than ${maxBytes} bytes`);
  return bytes;
}

async function readUpTo(
  file: { read: (buffer: Buffer, offset: number) => Promise<{ bytesRead: number }> },
  maxBytes: number,
): Promise<Buffer> {
  let bytes = Buffer.alloc(16 << 10);
  let length = 0;
  for (;;) {
    const { bytesRead } = await file.read(bytes, length);
    length += bytesRead;
    if (bytesRead === 0 || length >= maxBytes) return bytes.subarray(0, length);
    if (length === bytes.length) bytes = Buffer.concat([bytes, Buffer.alloc(bytes.length)]);
  }
}

/**
 * A value made from files: made anew when one of them was replaced or rewritten. While it cannot be, the one before
 * goes on to be used, since those who renew files are not all careful to do it in one step.
 */
export class FileValue<T> {
  readonly #paths: readonly string[];
  readonly #make: () => Promise<T>;
  #signature = '';
  #value: { readonly made: T } | undefined;
  #making: Promise<T> | undefined;

  /** `make` reads the files; it rejects with OverlayError. */
  constructor(paths: readonly string[], make: () => Promise<T>) {
    this.#paths = paths;
    this.#make = make;
  }

  /** The same object for as long as no file changes. Rejects when it could never be made. */
  get(): Promise<T> {
    // Before the files are read: what changes meanwhile is found the next time.
    const signature = this.#paths.map(fileSignature).join('|');
    if (this.#value !== undefined && signature === this.#signature) return Promise.resolve(this.#value.made);
    this.#making ??= this.#renew(signature).finally(() => (this.#making = undefined));
    return this.#making;
  }

  async #renew(signature: string): Promise<T> {
    try {
      this.#value = { made: await this.#make() };
      this.#signature = signature;
    } catch (error) {
      if (this.#value === undefined) throw error;
    }
    return this.#value.made;
  }
}
