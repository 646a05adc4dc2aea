// Files in memory of the kernel (memfd_create(2)), which outlive the process that wrote them with their descriptors.

import { fstatSync, ftruncateSync, readSync, writeSync } from 'node:fs';

/** All of a file; undefined when it has more bytes than that. */
export function readFileText(fd: number, maxBytes: number): string | undefined {
  const { size } = fstatSync(fd);
  if (size > maxBytes) return undefined;
  const bytes = Buffer.alloc(size);
  readSync(fd, bytes, 0, size, 0);
  return bytes.toString();
}

/** Empty at first, so that a process which is killed meanwhile leaves no old end behind a new beginning. */
export function replaceFile(fd: number, bytes: Uint8Array): void {
  ftruncateSync(fd, 0);
  writeSync(fd, bytes, 0, bytes.length, 0);
}
