// Names of pins, and their removal; a folder of an ordinary file system stands in for one of BPF.

import { existsSync, mkdirSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { folderOf } from '../../support/folder.js';
import { findLanePins, lanePinFolder, removeLanePins } from '../../../src/kernel/lane-pins.js';

t.test('a folder belongs to a device of this network namespace', (t) => {
  const [, namespace] = /\[(\d+)\]/.exec(readlinkSync('/proc/self/ns/net')) ?? [];
  const folder = lanePinFolder('flannel7');
  t.ok(['', `/sys/fs/bpf/twill/${namespace}-flannel7`].includes(folder), folder);
  t.ok(Array.isArray(findLanePins()));
  t.end();
});

t.test('what is pinned goes with its folder; one that is gone is success', async (t) => {
  const folder = join(folderOf(t), '1-flannel0');
  mkdirSync(folder);
  for (const name of ['encap', 'decap', 'routes']) writeFileSync(join(folder, name), '');
  await removeLanePins(folder);
  t.notOk(existsSync(folder));
  await removeLanePins(folder);
});

t.test('what cannot be removed is an error that names it', async (t) => {
  const folder = join(folderOf(t), 'file');
  writeFileSync(folder, '');
  await t.rejects(removeLanePins(folder), {
    code: 'E_KERNEL',
    message: /Cannot remove the pins.*file.*ENOTDIR/,
  });
});
