// docs/kernels.md and README.md say of kernels what test/kernels/results.json has, which `npm run test:kernels` writes.

import { readFileSync } from 'node:fs';
import t from 'tap';
import { kernelsMarkdown, kernelsRun, readResults } from '../kernels/results.js';

const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
/** Cells without what prettier may do to them. */
const bare = (table: string): string => table.replace(/ +\|/g, ' |').replace(/-{3,}/g, '---').trim();

t.test('docs/kernels.md has the table of results', (t) => {
  const found = /<!-- table: kernels -->\n([\s\S]*?)\n<!-- end -->/.exec(read('docs/kernels.md'))?.[1] ?? '';
  t.equal(bare(found), bare(kernelsMarkdown(readResults())), 'run: npm run docs');
  t.end();
});

t.test('README.md names the kernels that were run', (t) => {
  t.equal(/\(run on ([^)]*)\)/.exec(read('README.md'))?.[1], kernelsRun(readResults()), 'run: npm run docs');
  t.end();
});

t.test('no result that is kept is of a test that failed', (t) => {
  const failed = readResults().flatMap(({ release, suites }) =>
    suites.filter((suite) => suite.failed > 0).map(({ suite }) => `${release}: ${suite}`),
  );
  t.same(failed, []);
  t.end();
});
