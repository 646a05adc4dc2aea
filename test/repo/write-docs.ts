// Writes the tables that docs/operations.md takes from the code: `npm run docs`.

import { readFileSync, writeFileSync } from 'node:fs';
import { flagsMarkdown } from '../../src/config/flags.js';
import { countersMarkdown } from '../../src/dataplane/counters.js';
import { conditionsMarkdown } from '../../src/condition.js';
import { errorsMarkdown } from '../../src/errors.js';

const path = new URL('../../docs/operations.md', import.meta.url);
let text = readFileSync(path, 'utf8');
const tables = {
  flags: flagsMarkdown(),
  errors: errorsMarkdown(),
  conditions: conditionsMarkdown(),
  drops: countersMarkdown(),
};
for (const [name, table] of Object.entries(tables)) {
  const place = new RegExp(`(<!-- table: ${name} -->\n)[\\s\\S]*?(<!-- end -->)`);
  if (!place.test(text)) throw new Error(`docs/operations.md has no place for the table of ${name}`);
  text = text.replace(place, (_all, head: string, tail: string) => `${head}\n${table}\n\n${tail}`);
}
writeFileSync(path, text);
