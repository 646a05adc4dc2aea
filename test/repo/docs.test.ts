// Tables in the documentation are what the code says.

import { readFileSync } from 'node:fs';
import t from 'tap';
import { flagsMarkdown } from '../../src/config/flags.js';
import { countersMarkdown } from '../../src/dataplane/counters.js';
import { errorsMarkdown } from '../../src/errors.js';

const operations = readFileSync(new URL('../../docs/operations.md', import.meta.url), 'utf8');

const TABLES: readonly [string, string][] = [
  ['flags', flagsMarkdown()],
  ['errors', errorsMarkdown()],
  ['drops', countersMarkdown()],
];

for (const [name, table] of TABLES) {
  t.test(`docs/operations.md has the table of ${name}`, (t) => {
    const found = new RegExp(`<!-- table: ${name} -->\n([\\s\\S]*?)\n<!-- end -->`).exec(operations)?.[1];
    t.equal(found?.trim(), table, `run: npm run docs`);
    t.end();
  });
}
