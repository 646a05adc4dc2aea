// The servers of Kubernetes that tests run: built once from Debian's source package, kept in a folder outside the tree.
//
//   $TWILL_KUBE_CACHE, else $XDG_CACHE_HOME/twill, else ~/.cache/twill
//     kubernetes-<version>/  kube-apiserver  kube-controller-manager  built-from

import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cacheFolder } from '../cache-folder.js';
import { ensurePackages } from '../packages.js';

const BUILD = fileURLToPath(new URL('build.sh', import.meta.url));

/** Programs that the build runs; tests need etcd and openssl besides. */
const BUILD_PROGRAMS = ['go', 'dpkg-source', 'flock'];

/** Programs of Debian that a cluster runs. */
export const KUBE_PROGRAMS = ['etcd', 'etcdctl', 'openssl', 'setpriv', 'socat'] as const;

export interface KubeBinaries {
  /** Such as "1.20.2". */
  readonly version: string;
  readonly apiServer: string;
  readonly controllerManager: string;
  /** One line: which source package, which compiler. */
  readonly builtFrom: string;
}

/** The newest that was built; undefined when there is none. Costs one look into a folder. */
export function findKubeBinaries(): KubeBinaries | undefined {
  const cache = cacheFolder();
  const versions = (existsSync(cache) ? readdirSync(cache) : [])
    .filter((name) => name.startsWith('kubernetes-'))
    .map((name) => name.slice('kubernetes-'.length))
    .sort((a, b) => b.localeCompare(a, 'en', { numeric: true }));
  const version = versions[0];
  if (version === undefined) return undefined;
  const folder = join(cache, `kubernetes-${version}`);
  return {
    version,
    apiServer: join(folder, 'kube-apiserver'),
    controllerManager: join(folder, 'kube-controller-manager'),
    builtFrom: readFileSync(join(folder, 'built-from'), 'utf8').trim(),
  };
}

/** Builds them when there are none: minutes of two cores, and Debian's archive is asked. Throws when that fails. */
export function ensureKubeBinaries(): KubeBinaries {
  ensurePackages(KUBE_PROGRAMS);
  const found = findKubeBinaries();
  if (found !== undefined) return found;
  ensurePackages(BUILD_PROGRAMS);
  const { status } = spawnSync('nice', ['-n', '10', 'bash', BUILD, cacheFolder()], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const built = findKubeBinaries();
  if (status === 0 && built !== undefined) return built;
  throw new Error(`Cannot build Kubernetes in "${cacheFolder()}": ${BUILD} ended with ${status}`);
}

/** Why no cluster can be started here, or false: for the `skip` of a test. */
export function kubeUnavailable(): string | false {
  return findKubeBinaries() === undefined
    ? 'needs kube-apiserver, which `npm run test:kube` builds once'
    : false;
}
