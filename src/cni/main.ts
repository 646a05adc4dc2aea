#!/usr/bin/env node
// The program `twill-cni` of the npm package: runs the plugin, which is compiled (addon/cni), and is what it was.
//
// `twill-cni --path` prints where the plugin is: one file, which needs neither this one nor Node.js, and which a node's
// folder of plugins gets a copy of. Why it is compiled: docs/adr/0009-cni-plugin-in-one-file.md.

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** As node-gyp compiles it, and as the package brings it. */
const PLACES: readonly string[] = [
  'build/Release/twill-cni',
  `prebuilds/${process.platform}-${process.arch}/twill-cni`,
].map((path) => fileURLToPath(new URL(`../../${path}`, import.meta.url)));

function main(): number {
  const plugin = PLACES.find((path) => existsSync(path));
  if (plugin === undefined) {
    process.stderr.write(`twill-cni: none of ${PLACES.join(', ')} is there\n`);
    return 1;
  }
  if (process.argv[2] === '--path') {
    process.stdout.write(`${plugin}\n`);
    return 0;
  }
  const { status, error } = spawnSync(plugin, [], { stdio: 'inherit' });
  if (error !== undefined) process.stderr.write(`twill-cni: ${error.message}\n`);
  return status ?? 1;
}

process.exitCode = main();
