// A short fuzz run; `npm run fuzz` is the long one.

import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { compileAddon, linkProgram, ROOT } from '../native/build.js';

const INPUTS = 500_000;

t.test('mutated packets find no fault', async (t) => {
  const out = mkdtempSync(join(tmpdir(), 'twill-fuzz-'));
  t.teardown(() => rmSync(out, { recursive: true, force: true }));
  const program = await linkProgram(join(ROOT, 'test/fuzz/fuzz.cc'), await compileAddon(out), out);
  // Another seed each day, so that many days see many inputs; it is in the output.
  const seed = Math.floor(Date.now() / 86_400_000);
  const { stdout } = await promisify(execFile)(program, [String(INPUTS), String(seed)]).catch(
    (error: { stdout: string; stderr: string }) => ({ stdout: `${error.stdout}\n${error.stderr}` }),
  );
  t.match(stdout, /^ok 1 - 500\d+ inputs, no fault$/m, stdout);
});
