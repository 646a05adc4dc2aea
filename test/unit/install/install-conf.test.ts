// The program that the image has as /opt/bin/install-conf, run as an init container runs it.

import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { folderOf } from '../../support/folder.js';

const PROGRAM = new URL('../../../docs/install/kubernetes/install-conf.sh', import.meta.url).pathname;

function installConf(args: readonly string[], mask = 0o022): { status: number | null; stderr: string } {
  const line = `umask ${mask.toString(8)}; exec "$@"`;
  return spawnSync('sh', ['-c', line, 'sh', PROGRAM, ...args], { encoding: 'utf8' });
}

/** A config as a ConfigMap is mounted: behind a link, and a folder to put it into. */
function mounted(
  folder: string,
  text = '{"name":"cbr0"}\n',
): { source: string; netD: string; target: string } {
  const data = join(folder, '..data');
  mkdirSync(data);
  writeFileSync(join(data, 'cni-conf.json'), text);
  const source = join(folder, 'cni-conf.json');
  symlinkSync(join('..data', 'cni-conf.json'), source);
  const netD = join(folder, 'net.d');
  mkdirSync(netD);
  return { source, netD, target: join(netD, '10-flannel.conflist') };
}

t.test('install-conf copies, with the mode of the source whatever the umask is', (t) => {
  for (const mode of [0o644, 0o600, 0o664]) {
    const { source, netD, target } = mounted(folderOf(t));
    chmodSync(source, mode);
    t.match(installConf([source, target], 0o077), { status: 0, stderr: '' });
    t.equal(readFileSync(target, 'utf8'), '{"name":"cbr0"}\n');
    t.equal(statSync(target).mode & 0o777, mode);
    t.same(readdirSync(netD), ['10-flannel.conflist'], 'and nothing beside it');
  }
  t.end();
});

t.test('install-conf replaces in one step, and leaves alone what is equal', (t) => {
  const { source, target } = mounted(folderOf(t));
  writeFileSync(target, 'a longer text than the new one has\n');
  const before = statSync(target).ino;
  t.match(installConf([source, target]), { status: 0, stderr: '' });
  const replaced = statSync(target);
  t.not(replaced.ino, before, 'whoever has the former file open reads it to its end');
  t.equal(readFileSync(target, 'utf8'), '{"name":"cbr0"}\n');
  t.match(installConf([source, target]), { status: 0, stderr: '' });
  t.equal(statSync(target).ino, replaced.ino);
  chmodSync(source, 0o600);
  t.match(installConf([source, target]), { status: 0, stderr: '' });
  t.equal(statSync(target).mode & 0o777, 0o600, 'another mode is a difference');
  t.end();
});

t.test('install-conf says what is wrong, and leaves what is there', (t) => {
  const { source, netD, target } = mounted(folderOf(t));
  writeFileSync(target, 'former\n');
  const empty = join(netD, '..', 'empty');
  writeFileSync(empty, '');
  const cases: readonly [readonly string[], number, string][] = [
    [[], 2, 'usage: install-conf SOURCE TARGET\n'],
    [[source], 2, 'usage: install-conf SOURCE TARGET\n'],
    [['/none', target], 1, `Cannot install /none as ${target}: /none is not a file\n`],
    [[empty, target], 1, `Cannot install ${empty} as ${target}: ${empty} is empty\n`],
    [[netD, target], 1, `Cannot install ${netD} as ${target}: ${netD} is not a file\n`],
    [[source, netD], 1, `Cannot install ${source} as ${netD}: ${netD} is a folder\n`],
    [
      [source, '/none/a.conflist'],
      1,
      `Cannot install ${source} as /none/a.conflist: /none is not a folder\n`,
    ],
  ];
  for (const [args, status, stderr] of cases) t.match(installConf(args), { status, stderr }, args.join(' '));
  t.equal(readFileSync(target, 'utf8'), 'former\n');
  t.same(readdirSync(netD), ['10-flannel.conflist']);
  t.end();
});

t.test('install-conf leaves nothing behind when the copy fails', (t) => {
  const { source, netD, target } = mounted(folderOf(t), 'x'.repeat(64 * 1024));
  // RLIMIT_FSIZE, in blocks of 512 bytes: the copy breaks off in the middle.
  const line = 'ulimit -f 8; trap "" XFSZ; exec "$@"';
  const { status, stderr } = spawnSync('sh', ['-c', line, 'sh', PROGRAM, source, target], {
    encoding: 'utf8',
  });
  t.equal(status, 1);
  t.match(stderr, /Cannot install .*: the copy is not whole\n$/);
  t.same(readdirSync(netD), []);
  t.end();
});
