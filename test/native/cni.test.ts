// The CNI plugin under address and undefined-behaviour sanitizers: its JSON, and all that its unit tests do.

import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { cleanEnvironment } from '../support/lab.js';
import { compilePlugin, ROOT } from './build.js';

const run = promisify(execFile);
const UNIT = join(ROOT, 'test/unit/cni');

t.test('the CNI plugin', async (t) => {
  const out = mkdtempSync(join(tmpdir(), 'twill-cni-'));
  t.teardown(() => rmSync(out, { recursive: true, force: true }));
  const { plugin, jsonTest } = await compilePlugin(out);

  const { stdout } = await run(jsonTest).catch((error: { stdout: string; stderr: string }) => error);
  for (const [, not, name] of stdout.matchAll(/^(not )?ok \d+ - (.*)$/gm)) t.ok(not === undefined, name);
  t.match(stdout, /^1\.\.\d+$/m, 'it ran to its end');

  for (const file of readdirSync(UNIT)) {
    const result = await run(join(ROOT, 'node_modules/.bin/tsx'), [join(UNIT, file)], {
      cwd: out,
      env: cleanEnvironment({ TWILL_CNI: plugin }),
    }).catch((error: { stdout: string; stderr: string }) => error);
    t.match(result.stdout, /^# \{ total: \d+, pass: \d+ \}$|^1\.\.\d+$/m);
    t.notMatch(result.stdout, /^ *not ok/m, file);
  }
});
