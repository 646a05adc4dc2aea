// Where the links and maps of the kernel lane are kept over a restart: a folder for each TUN device in the BPF file
// system, which is the host's. Whoever unlinks a pinned link that no process holds detaches its program
// (Documentation/bpf, "pinning").
//
// One BPF file system may be seen from several network namespaces, where devices of one name are different ones: the
// folder's name begins with the number of the namespace.

import { readdirSync, readlinkSync, statfsSync } from 'node:fs';
import { readdir, rmdir, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { checkInterfaceName } from './interface-name.js';
import { OverlayError } from '../core/errors.js';

/** Where systemd mounts the BPF file system; we never mount it. */
const BPF_FILES = '/sys/fs/bpf';

/** statfs(2): BPF_FS_MAGIC of linux/magic.h. */
const BPF_FS_MAGIC = 0xcafe4a11;

const ROOT = join(BPF_FILES, 'twill');

/** What a TUN device's lane has left behind. */
export interface LanePins {
  readonly device: string;
  readonly folder: string;
}

/** The folder for the lane of a device of this network namespace; "" where there is no BPF file system. */
export function lanePinFolder(device: string): string {
  const namespace = namespaceNumber();
  if (namespace === undefined || !hasBpfFiles()) return '';
  return join(ROOT, `${namespace}-${checkInterfaceName(device)}`);
}

/** All folders of this network namespace. */
export function findLanePins(): readonly LanePins[] {
  const namespace = namespaceNumber();
  if (namespace === undefined) return [];
  const start = `${namespace}-`;
  return namesIn(ROOT)
    .filter((name) => name.startsWith(start))
    .map((name) => ({ device: name.slice(start.length), folder: join(ROOT, name) }));
}

/** Detaches a lane that nobody holds, and forgets its maps; one that is gone is success. Rejects with OverlayError. */
export async function removeLanePins(folder: string): Promise<void> {
  try {
    for (const name of await readdir(folder)) await unlink(join(folder, name));
    await rmdir(folder);
    await rmdir(dirname(folder)).catch(() => undefined); // the folder of all lanes, unless another has pins there
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT') return;
    throw new OverlayError('E_KERNEL', `Cannot remove the pins of the lane in "${folder}": ${message}`, {
      cause,
    });
  }
}

function hasBpfFiles(): boolean {
  try {
    return statfsSync(BPF_FILES).type >>> 0 === BPF_FS_MAGIC;
  } catch {
    return false;
  }
}

/** Inode of the network namespace, as `ls -i` of /proc/self/ns/net shows it; undefined without /proc. */
function namespaceNumber(): string | undefined {
  try {
    return /\[(\d+)\]/.exec(readlinkSync('/proc/self/ns/net'))?.[1];
  } catch {
    return undefined;
  }
}

function namesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch {
    return []; // nothing was ever pinned
  }
}
