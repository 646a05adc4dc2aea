// The packages as they are given away, by `npm run test:packages`: minutes, and the Debian archive is asked.
//
// The Debian package is built twice, compared, installed in a clean Debian and run there; of it the image is made,
// pushed to a registry, pulled from there and run. Registry and containers live in network namespaces, buildah's store
// and the roots in a folder, and all of it goes at the end.

import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import t from 'tap';
import { Lab, labUnavailable, waitFor } from '../support/lab.js';
import { buildDeb, env, needs, ROOT } from './build-deb.js';

const MAX_COMPRESSED_BYTES = 100e6;
const REGISTRY = '127.0.0.1:5000';
const PROGRAMS = ['dpkg-shlibdeps', 'dpkg-deb', 'debootstrap', 'buildah', 'apt-get'];

const folder = mkdtempSync(join(tmpdir(), 'twill-packages-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
const skip = labUnavailable() || needs(...PROGRAMS);
const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };

const storage = join(folder, 'storage.conf');
const storageText = [
  '[storage]',
  'driver = "vfs"',
  `graphroot = "${folder}/graph"`,
  `runroot = "${folder}/run"`,
];
writeFileSync(storage, `${storageText.join('\n')}\n`);
const environment: NodeJS.ProcessEnv = { ...env, CONTAINERS_STORAGE_CONF: storage };

function run(program: string, args: readonly string[], more: NodeJS.ProcessEnv = {}): string {
  return execFileSync(program, args, {
    encoding: 'utf8',
    env: { ...environment, ...more },
    maxBuffer: 64 << 20,
  });
}

const script = (name: string): string => join(ROOT, 'docs/install', name);

/** A Debian root for one test: made once, copied for each. */
function debianRoot(name: string): string {
  const base = join(folder, 'base');
  if (!existsSync(base)) run('debootstrap', ['--variant=minbase', 'bookworm', base]);
  run('cp', ['-a', base, join(folder, name)]);
  return join(folder, name);
}

let deb: string;

t.test('two builds of the Debian package are equal', { skip }, (t) => {
  deb = buildDeb(join(folder, 'first'));
  const second = buildDeb(join(folder, 'second'));
  t.ok(readFileSync(deb).equals(readFileSync(second)));
  t.end();
});

t.test('the Debian package is installed, forwards, probes, and is removed', { skip }, (t) => {
  const said = run('bash', [script('try-deb.sh'), deb, debianRoot('try')]);
  for (const line of [
    `installed: twill ${version} install ok installed`,
    `twilld: ${version}`,
    `flanneld: ${version}`,
    `twill: ${version}`,
    'FLANNEL_SUBNET=10.5.1.1/24',
    'stopped',
    'removed',
  ])
    t.ok(said.split('\n').includes(line), line);
  t.match(said, /info {2}ready after \d+ ms pathProbes=/);
  t.end();
});

t.test('the image is pushed to a registry, pulled from it and run', { skip }, async (t) => {
  const lab = Lab.open('image-');
  t.teardown(() => lab.close());
  const host = lab.addHost(1);
  const tar = join(folder, 'twill.tar');
  const name = `${REGISTRY}/net/twill:${version}`;
  run('bash', [script('build-image.sh'), deb, tar, name], { ROOT: debianRoot('image') });

  const config = join(folder, 'registry.yml');
  const where = `{ filesystem: { rootdirectory: ${join(folder, 'registry')} } }`;
  writeFileSync(config, `version: 0.1\nstorage: ${where}\nhttp: { addr: ${REGISTRY} }\n`);
  lab.spawn(host.ns, registryProgram(), ['serve', config]);
  const get = (path: string): Promise<{ status: number; body: string }> =>
    lab.get(host.ns, `http://${REGISTRY}/v2/${path}`);
  await waitFor(
    () =>
      get('').then(
        ({ status }) => status === 200,
        () => false,
      ),
    'the registry',
  );
  const buildah = async (...args: string[]): Promise<string> => {
    const inStore = [`CONTAINERS_STORAGE_CONF=${storage}`, 'buildah', ...args];
    return (await lab.run(host.ns, 'env', inStore, { timeoutMs: 240_000 })).stdout;
  };
  // As docs/install.md says, but for TLS.
  await buildah('pull', '--quiet', `oci-archive:${tar}`);
  await buildah('push', '--quiet', '--tls-verify=false', name);
  t.same(JSON.parse((await get('net/twill/tags/list')).body), { name: 'net/twill', tags: [version] });
  const bytes = sizeOfBlobs(join(folder, 'registry'));
  t.comment(`${bytes} bytes compressed, as the registry holds them`);
  t.ok(bytes < MAX_COMPRESSED_BYTES, `${bytes} bytes`);

  await buildah('rmi', '--all');
  const container = (await buildah('from', '--quiet', '--tls-verify=false', name)).trim();
  // chroot: without a runtime for containers. Its network is that of the namespace, as with `hostNetwork`.
  const inside = async (...args: string[]): Promise<string> => {
    const rights = ['--isolation=chroot', '--cap-add=CAP_NET_ADMIN', '--cap-add=CAP_NET_RAW'];
    return buildah('run', ...rights, container, '--', ...args);
  };
  t.equal(await inside('twilld', '--version'), `${version}\n`);
  t.equal(await inside('flanneld', '--version'), `${version}\n`);
  // What manifests made for flannel's images run.
  t.equal(await inside('/opt/bin/flanneld', '--version'), `${version}\n`);
  t.match(await inside('cat', '/opt/bin/flanneld'), /exec \/usr\/bin\/twill-holder --stay/);
  await inside('sh', '-c', 'cp -f /flannel /run/flannel-cni');
  const versions = await inside('env', '-i', 'CNI_COMMAND=VERSION', '/run/flannel-cni');
  t.match(JSON.parse(versions), { cniVersion: '1.1.0' }, 'the CNI plugin that a node gets');
  await inside('/opt/bin/install-conf', '/etc/debian_version', '/run/10-flannel.conflist');
  t.match(await inside('cat', '/run/10-flannel.conflist'), /^12\./);
  await inside('cp', '-f', '/flannel', '/run/flannel');
  t.match(await inside('env', '-i', 'CNI_COMMAND=VERSION', '/run/flannel'), /"supportedVersions"/);
  const doctor = await inside('sh', '-c', 'twill doctor 2>&1 || true');
  // It says what a host without etcd and daemon lacks, and nothing of the image itself.
  const missing = [...doctor.matchAll(/^(?:fail|warn) +(\S+)/gm)].map(([, what]) => what);
  t.same(missing, ['etcd', 'daemon'], doctor);
  t.match(doctor, /^ok +programs +for rules: nft, iptables$/m);
  await buildah('rm', '--all');
});

/** Debian's package, unpacked and not installed: an installed one would be started. */
function registryProgram(): string {
  const place = join(folder, 'apt');
  mkdirSync(place);
  execFileSync('apt-get', ['download', '-qq', 'docker-registry'], { cwd: place, env, stdio: 'ignore' });
  const [file] = readdirSync(place).filter((name) => name.endsWith('.deb'));
  execFileSync('dpkg-deb', ['-x', join(place, file), place]);
  return join(place, 'usr/bin/docker-registry');
}

/** Layers and configuration, each once: what a node that has nothing of it loads. */
function sizeOfBlobs(registry: string): number {
  return readdirSync(registry, { recursive: true, encoding: 'utf8' })
    .filter((path) => /\/blobs\/sha256\/.*\/data$/.test(path) && basename(path) === 'data')
    .reduce((sum, path) => sum + readFileSync(join(registry, path)).length, 0);
}
