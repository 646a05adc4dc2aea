// The picture and the tables of what was measured are what bench/ makes of the newest results, and nobody's by hand.

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';

const ROOT = new URL('../../', import.meta.url).pathname;

t.test('README.md, docs/performance.md and the pictures are made of the newest results', (t) => {
  // A program of its own: tests import no benchmark.
  const args = [join(ROOT, 'node_modules/tsx/dist/cli.mjs'), join(ROOT, 'bench/run.ts'), 'report', '--check'];
  execFile(process.execPath, args, (error, stdout, stderr) => {
    t.equal(`${stdout}${stderr}`, '');
    t.equal(error, null);
    t.end();
  });
});
