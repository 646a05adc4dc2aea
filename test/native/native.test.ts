// Compiles the C++ tests with address and undefined-behaviour sanitizers and runs them; each of their cases is a test.

import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';

const ROOT = new URL('../..', import.meta.url).pathname;
const HERE = join(ROOT, 'test/native');
const run = promisify(execFile);

const FLAGS = ['-std=c++17', '-O1', '-g', '-Wall', '-Wextra', '-Werror', '-fno-omit-frame-pointer'];
// The system calls of the ports go to test/native/fake_kernel.cc.
const WRAPPED = ['read', 'write', 'writev', 'sendmmsg', 'sendto', 'recvmmsg', 'ioctl', 'open'];
const LINK = [`-Wl,${WRAPPED.map((name) => `--wrap=${name}`).join(',')}`];
const SANITIZERS = ['-fsanitize=address,undefined', '-fno-sanitize-recover=all'];
const SOURCES = [
  ...readdirSync(join(ROOT, 'addon'))
    .filter((name) => name.endsWith('.cc') && name !== 'binding.cc')
    .map((name) => join(ROOT, 'addon', name)),
  join(HERE, 'fake_kernel.cc'),
];

const out = mkdtempSync(join(tmpdir(), 'twill-native-'));
t.teardown(() => rmSync(out, { recursive: true, force: true }));
const objects = SOURCES.map((source) => join(out, `${basename(source, '.cc')}.o`));

t.test('the addon compiles with sanitizers', async () => {
  await Promise.all(
    SOURCES.map((source, i) => run('g++', [...FLAGS, ...SANITIZERS, '-c', source, '-o', objects[i]])),
  );
});

for (const file of readdirSync(HERE).filter((name) => name.endsWith('_test.cc'))) {
  t.test(file, async (t) => {
    const program = join(out, basename(file, '.cc'));
    await run('g++', [...FLAGS, ...SANITIZERS, join(HERE, file), ...objects, ...LINK, '-o', program]);
    const result = await run(program, { maxBuffer: 64 << 20 }).catch(
      (error: { stdout: string; stderr: string }) => error,
    );
    const lines = result.stdout.split('\n');
    for (const line of lines) {
      const match = /^(not )?ok \d+ - (.*)$/.exec(line);
      if (match !== null) t.ok(match[1] === undefined, match[2]);
    }
    const faults = lines.filter((line) => line.startsWith('# '));
    if (faults.length > 0) t.comment(faults.join('\n'));
    t.match(result.stdout, /^1\.\.\d+$/m, `it ran to its end\n${result.stderr}`);
  });
}
