// What runs on each kernel: tests whose outcome depends on it. Those that compare rates or times are left to the
// machine, and so is what needs etcd or a cluster.

import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Job } from './machine.js';

/** Folder, what a file's name starts with, and the seconds that one file may take by KVM. */
const SUITES: readonly [folder: string, prefix: string, seconds: number][] = [
  ['test/boundary', '', 120],
  ['test/native', 'lane', 120],
  ['test/lab', 'lane', 240],
  ['test/native', 'native', 400],
  ['test/lab', 'admission', 240],
  ['test/lab', 'modes', 240],
  ['test/lab', 'overlay', 240],
  ['test/lab', 'vxlan', 240],
  ['test/lab', 'host-gw', 240],
  ['test/lab', 'options', 120],
  ['test/lab', 'flows', 240],
  ['test/lab', 'icmp', 120],
  ['test/lab', 'sockets', 240],
  ['test/lab', 'device-lost', 240],
  ['test/lab', 'firewall.', 240],
  ['test/kernels', 'netem', 240],
];

/** A name as results show it: lab/overlay. */
export function suiteName(file: string): string {
  return file.replace(/^test\//, '').replace(/\.test\.ts$/, '');
}

/** The test files, in their order, of those suites whose names hold one of `wanted`; of all without any. */
export function findJobs(root: string, wanted: readonly string[]): Job[] {
  return SUITES.flatMap(([folder, prefix, seconds]) => {
    const path = join(root, folder);
    if (!existsSync(path)) return [];
    return readdirSync(path)
      .filter((name) => name.startsWith(prefix) && name.endsWith('.test.ts'))
      .sort()
      .map((name) => ({ file: `${folder}/${name}`, seconds }));
  }).filter(({ file }) => wanted.length === 0 || wanted.some((word) => suiteName(file).includes(word)));
}
