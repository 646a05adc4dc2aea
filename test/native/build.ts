// Compiles C++ with sanitizers: the addon, without the binding and on the fake kernel, and the CNI plugin.

import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { addonSources } from '../support/addon-sources.js';

export const ROOT = new URL('../..', import.meta.url).pathname;
const run = promisify(execFile);

const FLAGS = [
  `-I${join(ROOT, 'addon')}`,
  '-std=c++17',
  '-O1',
  '-g',
  '-Wall',
  '-Wextra',
  '-Werror',
  '-fno-omit-frame-pointer',
];
const SANITIZERS = ['-fsanitize=address,undefined', '-fno-sanitize-recover=all'];
// The system calls of the ports go to test/native/fake_kernel.cc.
const WRAPPED = [
  ...['read', 'write', 'writev', 'sendmmsg', 'sendto', 'recvmmsg', 'recvmsg', 'ioctl', 'open'],
  ...['socket', 'bind', 'connect', 'setsockopt', 'getsockopt'],
];
const LINK = `-Wl,${WRAPPED.map((name) => `--wrap=${name}`).join(',')}`;
const PARALLEL = 2;

/** Object files of the addon and the fake kernel, in directory `out`. */
export async function compileAddon(out: string): Promise<string[]> {
  const sources = [...addonSources(), join(ROOT, 'test/native/fake_kernel.cc')];
  const objects = sources.map((source) => join(out, `${basename(source, '.cc')}.o`));
  const pending = sources.map((source, i) => ['-c', source, '-o', objects[i]]);
  const work = async (): Promise<void> => {
    for (let args = pending.pop(); args !== undefined; args = pending.pop())
      await run('g++', [...FLAGS, ...SANITIZERS, ...args]);
  };
  await Promise.all(Array.from({ length: PARALLEL }, work));
  return objects;
}

/** Links a test program with them and returns its path. */
export async function linkProgram(source: string, objects: readonly string[], out: string): Promise<string> {
  const program = join(out, basename(source, '.cc'));
  await run('g++', [...FLAGS, ...SANITIZERS, source, ...objects, LINK, '-o', program]);
  return program;
}

/** The CNI plugin, and the tests of its JSON. */
export async function compilePlugin(
  out: string,
): Promise<{ readonly plugin: string; readonly jsonTest: string }> {
  const cni = join(ROOT, 'addon/cni');
  const sources = readdirSync(cni).filter((name) => name.endsWith('.cc'));
  const [plugin, jsonTest] = [join(out, 'twill-cni'), join(out, 'json_test')];
  const compile = (files: readonly string[], program: string): Promise<unknown> =>
    run('g++', [...FLAGS, ...SANITIZERS, ...files, '-o', program]);
  await Promise.all([
    compile(
      sources.map((name) => join(cni, name)),
      plugin,
    ),
    compile([join(ROOT, 'test/native/cni/json_test.cc'), join(cni, 'json.cc')], jsonTest),
  ]);
  return { plugin, jsonTest };
}
