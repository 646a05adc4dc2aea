// Folders under the names that operators give them.

import { mkdirSync, realpathSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { realFolder } from '../../../src/core/files.js';

t.test('realFolder() knows a folder through links, there or not', (t) => {
  const root = realpathSync(t.testdir());
  mkdirSync(join(root, 'run'));
  symlinkSync('run', join(root, 'var-run'));
  t.equal(realFolder(join(root, 'var-run')), join(root, 'run'));
  t.equal(realFolder(join(root, 'var-run/flannel/deep')), join(root, 'run/flannel/deep'), 'to be made');
  t.equal(realFolder(join(root, 'run/../var-run/./flannel/')), join(root, 'run/flannel'));
  t.equal(realFolder('no-such/folder'), join(process.cwd(), 'no-such/folder'));
  t.equal(realFolder('/'), '/');
  t.end();
});
