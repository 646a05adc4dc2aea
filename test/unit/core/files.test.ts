// Folders under the names that operators give them, and files that are replaced.

import {
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { fileSignature, realFolder, replaceFile } from '../../../src/core/files.js';
import { folderOf } from '../../support/folder.js';

t.test('realFolder() knows a folder through links, there or not', (t) => {
  const root = realpathSync(folderOf(t));
  mkdirSync(join(root, 'run'));
  symlinkSync('run', join(root, 'var-run'));
  t.equal(realFolder(join(root, 'var-run')), join(root, 'run'));
  t.equal(realFolder(join(root, 'var-run/flannel/deep')), join(root, 'run/flannel/deep'), 'to be made');
  t.equal(realFolder(join(root, 'run/../var-run/./flannel/')), join(root, 'run/flannel'));
  t.equal(realFolder('no-such/folder'), join(process.cwd(), 'no-such/folder'));
  t.equal(realFolder('/'), '/');
  t.end();
});

const replace = (path: string, mode: number, text: string): Promise<void> =>
  replaceFile(path, mode, (file) => file.writeFile(text));

t.test(
  'replaceFile() makes and replaces, with the mode whatever the umask, and leaves nothing beside',
  async (t) => {
    const folder = folderOf(t);
    const path = join(folder, 'file');
    const umask = process.umask(0o077);
    t.teardown(() => process.umask(umask));
    for (const text of ['one', 'another']) {
      await replace(path, 0o644, text);
      t.equal(readFileSync(path, 'utf8'), text);
      t.equal(statSync(path).mode & 0o777, 0o644);
    }
    t.strictSame(readdirSync(folder), ['file']);
  },
);

t.test('replaceFile() replaces a link, and does not write through it', async (t) => {
  const folder = folderOf(t, { precious: 'p' });
  const path = join(folder, 'file');
  symlinkSync('precious', path);
  symlinkSync('precious', join(folder, `.file.${process.pid}`));
  await replace(path, 0o600, 'new');
  t.equal(readFileSync(path, 'utf8'), 'new');
  t.equal(readFileSync(join(folder, 'precious'), 'utf8'), 'p');
});

t.test('replaceFile() that fails leaves what was there, and nothing beside', async (t) => {
  const folder = folderOf(t, { file: { inside: '' } });
  await t.rejects(replace(join(folder, 'file'), 0o600, 'new'), { code: /^E(ISDIR|EXIST|NOTEMPTY)$/ });
  t.strictSame(readdirSync(folder), ['file']);
  await t.rejects(replace(join(folder, 'none/file'), 0o600, 'new'), { code: 'ENOENT' });
});

t.test('replaceFile() leaves the file as it is when its text cannot be made', async (t) => {
  const folder = folderOf(t, { file: 'old', '.file.4711': 'left', '.file.x': 'not ours' });
  const writing = replaceFile(join(folder, 'file'), 0o600, async (file) => {
    await file.write('half');
    throw new Error('no more');
  });
  await t.rejects(writing, { message: 'no more' });
  t.equal(readFileSync(join(folder, 'file'), 'utf8'), 'old');
  t.strictSame(readdirSync(folder).sort(), ['.file.x', 'file']);
});

t.test('fileSignature() changes when a file is replaced, rewritten or gone', (t) => {
  const dir = folderOf(t, { first: '1', second: '22' });
  const link = join(dir, 'link');
  const seen = [fileSignature(link)];
  const step = (change: () => void): void => {
    change();
    const now = fileSignature(link);
    t.equal(now, fileSignature(link), 'the same until then');
    t.notOk(seen.includes(now));
    seen.push(now);
  };
  step(() => symlinkSync('first', link));
  step(() => writeFileSync(join(dir, 'first'), 'longer'));
  step(() => {
    symlinkSync('second', join(dir, 'swap'));
    renameSync(join(dir, 'swap'), link);
  });
  unlinkSync(link);
  t.equal(fileSignature(link), seen[0]);
  t.end();
});
