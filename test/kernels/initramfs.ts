// What a kernel of the matrix starts with: busybox, the modules without which it cannot read the machine's root, and
// init.sh, which mounts that root and goes on there. All other modules are loaded from there, when they are asked for.

import { readFileSync } from 'node:fs';
import { packArchive, type ArchiveEntry } from './cpio.js';
import { type Kernel, readModules } from './kernel-package.js';

const BUSYBOX = '/bin/busybox'; // of busybox-static: it needs no library
const MODULES = ['virtio_pci', '9pnet_virtio', '9p', 'overlay'];

/** The archive for one kernel. `root` is the project's folder. */
export function buildInitramfs(kernel: Kernel, root: string): Buffer {
  const modules = readModules(kernel, MODULES).map(({ path, data }) => ({
    name: path.replace(/^.*\//, ''),
    data,
  }));
  const settings = `ROOT='${root}'\nMODULES='${kernel.modulesPath}'\n`;
  const order = modules.map(({ name }) => `${name}\n`).join('');
  const entries: ArchiveEntry[] = [
    { path: 'bin', kind: 'folder' },
    { path: 'bin/busybox', kind: 'program', data: readFileSync(BUSYBOX) },
    { path: 'init', kind: 'program', data: readFileSync(new URL('init.sh', import.meta.url)) },
    { path: 'settings', kind: 'file', data: Buffer.from(settings) },
    { path: 'modules', kind: 'folder' },
    { path: 'modules/order', kind: 'file', data: Buffer.from(order) },
    ...modules.map(({ name, data }) => ({ path: `modules/${name}`, kind: 'file', data }) as const),
  ];
  return packArchive(entries);
}
