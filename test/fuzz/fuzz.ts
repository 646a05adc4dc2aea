// The long fuzz run: `npm run fuzz [-- inputs [seed]]`, 50 million inputs by default.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compileAddon, linkProgram, ROOT } from '../native/build.js';

const out = mkdtempSync(join(tmpdir(), 'twill-fuzz-'));
try {
  const program = await linkProgram(join(ROOT, 'test/fuzz/fuzz.cc'), await compileAddon(out), out);
  process.exitCode = spawnSync(program, process.argv.slice(2), { stdio: 'inherit' }).status ?? 1;
} finally {
  rmSync(out, { recursive: true, force: true });
}
