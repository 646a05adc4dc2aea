// Writes what the documentation takes from the code: `npm run docs`. docs/operations.md and docs/architecture.md have
// tables, docs/cli.md samples, docs/api.md the reference; docs/status.schema.json is written whole.

import { readFileSync, writeFileSync } from 'node:fs';
import { format, resolveConfig } from 'prettier';
import { bashCompletion, flagsMarkdown } from '../../src/config/flag-docs.js';
import { countersMarkdown } from '../../src/native/counters.js';
import { conditionsMarkdown } from '../../src/core/conditions.js';
import { errorsMarkdown } from '../../src/core/errors.js';
import { apiMarkdown } from './api-docs.js';
import { refusalsMarkdown } from './refusal-docs.js';
import { statusMarkdown, statusSchema } from './status-docs.js';
import { layersMarkdown } from './layers.js';
import { cliSamples } from './cli-samples.js';
import { kernelsMarkdown, kernelsRun, readResults } from '../kernels/results.js';

function fill(name: string, kind: string, texts: Readonly<Record<string, string>>): void {
  const path = new URL(`../../docs/${name}`, import.meta.url);
  let text = readFileSync(path, 'utf8');
  for (const [what, content] of Object.entries(texts)) {
    const place = new RegExp(`(<!-- ${kind}: ${what} -->\n)[\\s\\S]*?(<!-- end -->)`);
    if (!place.test(text)) throw new Error(`docs/${name} has no place for the ${kind} of ${what}`);
    text = text.replace(place, (_all, head: string, tail: string) => `${head}\n${content}\n\n${tail}`);
  }
  writeFileSync(path, text);
}

fill('operations.md', 'table', {
  flags: flagsMarkdown(),
  errors: errorsMarkdown(),
  conditions: conditionsMarkdown(),
  refusals: refusalsMarkdown(),
  drops: countersMarkdown(),
  status: statusMarkdown(),
});
fill('architecture.md', 'table', { layers: layersMarkdown() });
fill('cli.md', 'sample', cliSamples());
fill('kernels.md', 'table', { kernels: kernelsMarkdown(readResults()) });
fill('api.md', 'reference', { exports: apiMarkdown() });
const readme = new URL('../../README.md', import.meta.url);
const limits = readFileSync(readme, 'utf8').replace(
  /\(run on [^)]*\)/,
  `(run on ${kernelsRun(readResults())})`,
);
writeFileSync(readme, limits);
writeFileSync(new URL('../../docs/install/twilld.bash', import.meta.url), bashCompletion());
const schemaPath = new URL('../../docs/status.schema.json', import.meta.url).pathname;
const style = await resolveConfig(schemaPath);
writeFileSync(schemaPath, await format(JSON.stringify(statusSchema()), { ...style, filepath: schemaPath }));
