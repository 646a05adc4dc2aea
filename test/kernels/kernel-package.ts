// A kernel of the Debian archive that apt is configured for: found, fetched and unpacked, into the cache folder only.
// Nothing of it is installed.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { cacheFolder } from '../support/cache-folder.js';
import { parseDependencies, loadOrder } from './modules.js';

/** A package with a kernel. */
export interface KernelPackage {
  readonly name: string;
  readonly version: string;
}

/** A kernel that is unpacked. */
export interface Kernel extends KernelPackage {
  /** What `uname -r` says when it runs. */
  readonly release: string;
  readonly imagePath: string;
  /** Folder with modules.dep and all modules. */
  readonly modulesPath: string;
}

function run(program: string, args: readonly string[], cwd?: string): string {
  return execFileSync(program, args, {
    encoding: 'utf8',
    timeout: 300_000,
    maxBuffer: 64 << 20,
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(cwd !== undefined && { cwd }),
  });
}

/** Numbers in a package's name: 6, 12, 117 and 12 of linux-image-6.12.117+deb12-amd64. */
function numbersOf(name: string): number[] {
  return [...name.replace('-amd64', '').matchAll(/\d+/g)].map(Number);
}

/**
 * The newest package of a series, as 6.1, among names of packages: the one for all PCs, signed. Undefined without one.
 */
export function newestOf(names: readonly string[], series: string): string | undefined {
  const form = new RegExp(
    `^linux-image-${series.replace('.', '\\.')}\\.\\d+(?:-\\d+)?(?:\\+deb\\d+)?-amd64$`,
  );
  const compare = (a: string, b: string): number => {
    const [left, right] = [numbersOf(a), numbersOf(b)];
    const at = left.findIndex((number, i) => number !== right[i]);
    return at < 0 ? 0 : left[at] - (right[at] ?? -1);
  };
  return names
    .filter((name) => form.test(name))
    .sort(compare)
    .at(-1);
}

/** The package of a series that the archive has; undefined when it has none. */
export function findPackage(series: string): KernelPackage | undefined {
  const name = newestOf(run('apt-cache', ['pkgnames', `linux-image-${series}.`]).split('\n'), series);
  if (name === undefined) return undefined;
  const version = /^Version: (\S+)$/m.exec(run('apt-cache', ['--no-all-versions', 'show', name]))?.[1];
  return version === undefined ? undefined : { name, version };
}

/** Fetches and unpacks a package, unless the cache has this version of it. Throws when it cannot be had. */
export function fetchKernel({ name, version }: KernelPackage): Kernel {
  const folder = join(cacheFolder(), 'kernels');
  const target = join(folder, `${name}_${version}`);
  if (!existsSync(target)) {
    mkdirSync(folder, { recursive: true });
    const stage = mkdtempSync(join(folder, '.fetch-'));
    try {
      unpack(stage, { name, version });
      // Whoever was first has put the same there.
      if (!existsSync(target)) renameSync(join(stage, 'root'), target);
    } finally {
      rmSync(stage, { recursive: true, force: true });
    }
  }
  const [release] = readdirSync(join(target, 'lib/modules'));
  return {
    name,
    version,
    release,
    imagePath: join(target, 'boot', `vmlinuz-${release}`),
    modulesPath: join(target, 'lib/modules', release),
  };
}

function unpack(stage: string, { name, version }: KernelPackage): void {
  run('apt-get', ['download', '-qq', `${name}=${version}`], stage); // its SHA-256 is compared with the signed list's
  const [file] = readdirSync(stage).filter((entry) => entry.endsWith('.deb'));
  const found = run('dpkg-deb', ['--field', file, 'Version'], stage).trim();
  if (found !== version) throw new Error(`${file} is version ${found}, expected ${version}`);
  run('dpkg-deb', ['--extract', file, 'root'], stage);
  const [release] = readdirSync(join(stage, 'root/lib/modules'));
  run('depmod', ['--basedir', join(stage, 'root'), release]);
}

/** Modules of a kernel, as bytes and not compressed, in the order in which they can be loaded. */
export function readModules(kernel: Kernel, names: readonly string[]): { path: string; data: Buffer }[] {
  const read = (file: string): string => readFileSync(join(kernel.modulesPath, file), 'utf8');
  const paths = loadOrder(parseDependencies(read('modules.dep')), read('modules.builtin'), names);
  return paths.map((path) => {
    const file = join(kernel.modulesPath, path);
    if (!path.endsWith('.xz')) return { path, data: readFileSync(file) };
    const data = execFileSync('xz', ['--decompress', '--stdout', file], { maxBuffer: 64 << 20 });
    return { path: path.replace(/\.xz$/, ''), data };
  });
}
