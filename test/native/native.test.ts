// Runs the C++ tests under address and undefined-behaviour sanitizers; each of their cases is a test here.

import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { compileAddon, linkProgram, ROOT } from './build.js';

const run = promisify(execFile);
const HERE = join(ROOT, 'test/native');

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
});
