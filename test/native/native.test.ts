// Runs the C++ tests under address and undefined-behaviour sanitizers; each of their cases is a test here. Then a short
// fuzz run, with the same objects; `npm run fuzz` is the long one.

import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { compileAddon, linkProgram, ROOT } from './build.js';

const run = promisify(execFile);
const HERE = join(ROOT, 'test/native');
const FUZZ_INPUTS = 500_000;

t.test('C++', async (t) => {
  const out = mkdtempSync(join(tmpdir(), 'twill-native-'));
  t.teardown(() => rmSync(out, { recursive: true, force: true }));
  const objects = await compileAddon(out);
  for (const file of readdirSync(HERE).filter((name) => name.endsWith('_test.cc'))) {
    await t.test(file, async (t) => {
      const program = await linkProgram(join(HERE, file), objects, out);
      const result = await run(program, { maxBuffer: 64 << 20 }).catch(
        (error: { stdout: string; stderr: string }) => error,
      );
      const lines = result.stdout.split('\n');
      for (const line of lines) {
        const match = /^(not )?ok \d+ - (.*)$/.exec(line);
        if (match !== null) t.ok(match[1] === undefined, match[2]);
      }
      for (const line of lines.filter((text) => text.startsWith('# '))) t.comment(line.slice(2));
      t.match(result.stdout, /^1\.\.\d+$/m, `it ran to its end\n${result.stderr}`);
    });
  }

  await t.test('mutated packets find no fault', async (t) => {
    const program = await linkProgram(join(ROOT, 'test/fuzz/fuzz.cc'), objects, out);
    // Another seed each day, so that many days see many inputs; it is in the output.
    const seed = Math.floor(Date.now() / 86_400_000);
    const { stdout } = await run(program, [String(FUZZ_INPUTS), String(seed)]).catch(
      (error: { stdout: string; stderr: string }) => ({ stdout: `${error.stdout}\n${error.stderr}` }),
    );
    t.match(stdout, /^ok 1 - 500\d+ inputs, no fault$/m, stdout);
  });
});
