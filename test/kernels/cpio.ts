// Writes the archive that Linux unpacks as its first root: cpio in the "newc" format, uncompressed
// (Documentation/driver-api/early-userspace/buffer-format.rst of the kernel).

/** A folder, a file or a symbolic link; `data` holds what is in the file, or where the link leads. */
export interface ArchiveEntry {
  /** Without a leading slash. Its folders go before it. */
  readonly path: string;
  readonly kind: 'folder' | 'file' | 'program' | 'link';
  readonly data?: Uint8Array;
}

const MODES = { folder: 0o40755, file: 0o100644, program: 0o100755, link: 0o120777 } as const;
const TRAILER = 'TRAILER!!!';
const ALIGNMENT = 4; // headers with names and data start at multiples of it

/** The archive with all entries, in their order. */
export function packArchive(entries: readonly ArchiveEntry[]): Buffer {
  const parts: Buffer[] = [];
  for (const [i, { path, kind, data = new Uint8Array() }] of entries.entries())
    parts.push(padded(header(i + 1, MODES[kind], path, data.length)), padded(Buffer.from(data)));
  parts.push(padded(header(0, 0, TRAILER, 0)));
  return Buffer.concat(parts);
}

/** The magic number, 13 numbers of eight hexadecimal digits each, and the name with its end. */
function header(inode: number, mode: number, path: string, size: number): Buffer {
  const name = Buffer.from(`${path}\0`);
  const [owner, group, links, time, major, minor, ownMajor, ownMinor, checksum] = [0, 0, 1, 0, 0, 0, 0, 0, 0];
  const numbers = [inode, mode, owner, group, links, time, size, major, minor, ownMajor, ownMinor];
  const digits = [...numbers, name.length, checksum].map((number) => number.toString(16).padStart(8, '0'));
  return Buffer.concat([Buffer.from(`070701${digits.join('')}`), name]);
}

function padded(bytes: Buffer): Buffer {
  const rest = bytes.length % ALIGNMENT;
  return rest === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(ALIGNMENT - rest)]);
}
