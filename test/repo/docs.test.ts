// Tables and samples in the documentation are what the code says.

import { udpOf } from '../../src/cli/daemon-client.js';
import { readdirSync, readFileSync } from 'node:fs';
import t from 'tap';
import { bashCompletion, flagsMarkdown } from '../../src/config/flag-docs.js';
import {
  countersMarkdown,
  DROP_MEANINGS,
  INBOUND_COUNTERS,
  OUTBOUND_COUNTERS,
} from '../../src/native/counters.js';
import { apiMarkdown } from './api-docs.js';
import { refusalsMarkdown } from './refusal-docs.js';
import { statusMarkdown, statusSchema } from './status-docs.js';
import { layersMarkdown } from './layers.js';
import { conditionsMarkdown } from '../../src/core/conditions.js';
import { errorsMarkdown } from '../../src/core/errors.js';
import { statusJson } from '../../src/cli/status.js';
import { printedStatus, type Schema, violations } from '../support/json-schema.js';
import { cliSamples, RECORDED, type Recorded, SAMPLE_WIDTH } from './cli-samples.js';

const architecture = readFileSync(new URL('../../docs/architecture.md', import.meta.url), 'utf8');
const operations = readFileSync(new URL('../../docs/operations.md', import.meta.url), 'utf8');

const schema = JSON.parse(
  readFileSync(new URL('../../docs/status.schema.json', import.meta.url), 'utf8'),
) as Schema;

const TABLES: readonly [string, string][] = [
  ['flags', flagsMarkdown()],
  ['errors', errorsMarkdown()],
  ['conditions', conditionsMarkdown()],
  ['refusals', refusalsMarkdown()],
  ['drops', countersMarkdown()],
  ['status', statusMarkdown()],
];

for (const [name, table] of TABLES) {
  t.test(`docs/operations.md has the table of ${name}`, (t) => {
    const found = new RegExp(`<!-- table: ${name} -->\n([\\s\\S]*?)\n<!-- end -->`).exec(operations)?.[1];
    t.equal(found?.trim(), table, `run: npm run docs`);
    t.end();
  });
}

const cli = readFileSync(new URL('../../docs/cli.md', import.meta.url), 'utf8');

for (const [name, sample] of Object.entries(cliSamples())) {
  t.test(`docs/cli.md has the sample of ${name}, as wide as a terminal at most`, (t) => {
    const found = new RegExp(`<!-- sample: ${name} -->\n([\\s\\S]*?)\n<!-- end -->`).exec(cli)?.[1];
    t.equal(found?.trim(), sample, 'run: npm run docs');
    t.same(
      sample.split('\n').filter((line) => line.length > SAMPLE_WIDTH),
      [],
    );
    t.end();
  });
}

t.test('the samples are of a daemon such as this one', (t) => {
  const { after } = JSON.parse(readFileSync(RECORDED, 'utf8')) as Recorded;
  const { outbound, inbound } = udpOf(after)!.counters!;
  // One that is new since then shows nowhere; one that is gone would be shown.
  const known: readonly string[] = [...OUTBOUND_COUNTERS, ...INBOUND_COUNTERS, ...Object.keys(DROP_MEANINGS)];
  const gone = Object.keys({ ...outbound, ...inbound }).filter((name) => !known.includes(name));
  t.same(gone, [], 'run: test/repo/record-cli.ts');
  t.same(violations(after, schema, schema), []);
  t.same(violations(statusJson(after), printedStatus(schema), schema), []);
  t.end();
});

t.test('docs/status.schema.json is what the types of the status document are', (t) => {
  t.same(schema, statusSchema(), 'run: npm run docs');
  t.end();
});

t.test('docs/install/twilld.bash is what the flags are', (t) => {
  const shipped = readFileSync(new URL('../../docs/install/twilld.bash', import.meta.url), 'utf8');
  t.equal(shipped, bashCompletion(), 'run: npm run docs');
  t.end();
});

t.test('docs/architecture.md has the table of layers', (t) => {
  const found = /<!-- table: layers -->\n([\s\S]*?)\n<!-- end -->/.exec(architecture)?.[1];
  t.equal(
    found?.replace(/ +\|/g, ' |').replace(/-+/g, '---').trim(),
    layersMarkdown().replace(/-+/g, '---'),
    'run: npm run docs',
  );
  t.end();
});

t.test('docs/api.md is what package.json exports', (t) => {
  const api = readFileSync(new URL('../../docs/api.md', import.meta.url), 'utf8');
  const found = /<!-- reference: exports -->\n([\s\S]*?)\n<!-- end -->/.exec(api)?.[1];
  t.equal(found?.trim(), apiMarkdown(), 'run: npm run docs');
  t.end();
});

t.test('docs/operations.md names every metric', (t) => {
  const src = new URL('../../src/', import.meta.url).pathname;
  const names = new Set(
    [...OUTBOUND_COUNTERS, ...INBOUND_COUNTERS]
      .filter((name) => !name.startsWith('drop_'))
      .map((name) => `dataplane_${name}_total`),
  );
  for (const file of readdirSync(src, { recursive: true, encoding: 'utf8' })) {
    if (!/^(kernel|backend|programmer|overlay|firewall|store|probe|ops|daemon).*\.ts$/.test(file)) continue;
    const text = readFileSync(`${src}${file}`, 'utf8');
    // The first text of a family: its name; a name ends in _total unless it is a gauge.
    const families =
      /(?:name: |gauge\(|family\(|add\(|: \[)\s*'([a-z]+(?:_[a-z]+)*)'(?=,\s*(?:help:|'[A-Z0-9]))/g;
    for (const [, name] of text.matchAll(families)) names.add(name);
    for (const [, name] of text.matchAll(/'([a-z_]+_total)'/g)) names.add(name);
  }
  t.ok(names.size > 40, `${names.size} found`);
  t.same(
    [...names].filter((name) => !operations.includes(`\`twill_${name}\``)),
    [],
    'each is in the table',
  );
  const shown = [...operations.matchAll(/`twill_([a-z_]+)`/g)].map(([, name]) => name);
  t.same(
    shown.filter((name) => !names.has(name) && name !== 'build_info'),
    [],
    'and the table names no other',
  );
  t.end();
});
