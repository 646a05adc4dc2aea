// The Debian package, built in a folder of the test's.

import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

export const ROOT = new URL('../..', import.meta.url).pathname;

/** Without what the test runner puts there for its children. */
export const env: NodeJS.ProcessEnv = { ...process.env, NODE_OPTIONS: '' };

/** The first of the programs that is not installed, for `skip`; false when all are. */
export function needs(...programs: readonly string[]): string | false {
  const missing = programs.find(
    (program) => spawnSync('sh', ['-c', 'command -v "$1"', 'sh', program], { stdio: 'ignore' }).status !== 0,
  );
  return missing === undefined ? false : `needs ${missing}`;
}

/** Returns the package's path. Throws when the build fails, which has said why on stderr. */
export function buildDeb(folder: string, more: NodeJS.ProcessEnv = {}): string {
  mkdirSync(folder);
  return execFileSync('bash', [join(ROOT, 'docs/install/build-deb.sh'), folder], {
    encoding: 'utf8',
    env: { ...env, ...more },
    stdio: ['ignore', 'pipe', 'ignore'],
  }).trim();
}
