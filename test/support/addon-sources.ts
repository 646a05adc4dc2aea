// The C++ of the addon that needs no Node: what tests and benchmarks compile into programs of their own.

import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { PROJECT_ROOT } from './lab.js';

/** Paths of its source files: without the binding, and without what are programs of their own. */
export function addonSources(): string[] {
  const folder = join(PROJECT_ROOT, 'addon');
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.cc') && !/^(?:binding|cni|holder)\//.test(name))
    .map((name) => join(folder, name));
}
