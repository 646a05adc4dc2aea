// What operators apply, applied to a real API server by the real kubectl and helm: it takes all of it, gives the daemon
// the rights that it needs and no others, and puts twill in the place of a kube-flannel that is there, and back.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { daemonOf, type DaemonSet, theOne } from '../support/daemon-set.js';
import { FORMERS, formerFlannel, putKustomization, yamlOf } from '../support/former-flannel.js';
import { KubeCluster, kubeUnavailable } from '../support/kube-cluster.js';
import { parseObjects } from '../support/kube-objects.js';
import { needsTool, runTool } from '../support/kube-tools.js';
import { folderOf } from '../support/folder.js';

const KUBERNETES = new URL('../../docs/install/kubernetes/', import.meta.url).pathname;
const MANIFEST = join(KUBERNETES, 'kube-twill.yml');
const SET = '/apis/apps/v1/namespaces/kube-flannel/daemonsets/kube-flannel-ds';
const own = parseObjects(readFileSync(MANIFEST, 'utf8'));
const skip = kubeUnavailable() || needsTool('kubectl') || needsTool('helm');

class Operator {
  readonly #cluster: KubeCluster;
  readonly #kubeconfig: string;

  constructor(cluster: KubeCluster) {
    const { certFile, keyFile } = cluster.userCertificate('operator', ['system:masters']);
    this.#cluster = cluster;
    this.#kubeconfig = join(cluster.place.dir, 'operator.json');
    const named = (name: string, key: string, value: object): object => ({ name, [key]: value });
    writeFileSync(
      this.#kubeconfig,
      JSON.stringify({
        apiVersion: 'v1',
        kind: 'Config',
        clusters: [named('c', 'cluster', { server: cluster.url, 'certificate-authority': cluster.caFile })],
        users: [named('u', 'user', { 'client-certificate': certFile, 'client-key': keyFile })],
        contexts: [named('x', 'context', { cluster: 'c', user: 'u' })],
        'current-context': 'x',
      }),
    );
  }

  kubectl(...args: readonly string[]): string {
    return runTool('kubectl', args, this.#kubeconfig);
  }

  helm(...args: readonly string[]): string {
    return runTool('helm', args, this.#kubeconfig);
  }

  /** The DaemonSet as the server has it. */
  async daemonSet(): Promise<DaemonSet & { metadata: { uid: string; generation: number } }> {
    return (await this.#cluster.admin.must('GET', SET)) as never;
  }
}

async function openCluster(t: Test): Promise<Operator> {
  // Nothing of what is applied here waits for a controller.
  const cluster = await KubeCluster.start({ hasControllerManager: false });
  t.teardown(() => cluster.close());
  t.comment(`kube-apiserver ${cluster.version}`);
  return new Operator(cluster);
}

const lines = (text: string): string[] => text.trim().split('\n');

t.test('a real API server takes the manifests, and finds nothing to change in them', { skip }, async (t) => {
  const operator = await openCluster(t);
  const apply = ['apply', '-f', MANIFEST, '-f', join(KUBERNETES, 'events-rbac.yml')];
  const said = lines(operator.kubectl(...apply));
  t.equal(said.length, own.length + 2);
  for (const line of said) t.match(line, / created$/);
  for (const line of lines(operator.kubectl(...apply))) t.match(line, / unchanged$/);

  // The question of each right, by verb and resource, and the answer.
  const account = '--as=system:serviceaccount:kube-flannel:flannel';
  const can = (verb: string, what: string, namespace: string): string =>
    lines(operator.kubectl('auth', 'can-i', '--list', account, `--namespace=${namespace}`))
      .filter((line) => line.startsWith(`${what} `) && line.includes(verb))
      .join();
  for (const [verb, what] of [
    ['get', 'nodes'],
    ['list', 'nodes'],
    ['watch', 'nodes'],
    ['patch', 'nodes/status'],
    ['get', 'pods'],
  ])
    t.match(can(verb, what, 'kube-flannel'), what, `${verb} ${what}`);
  t.match(can('create', 'events', 'default'), 'events');
  for (const [verb, what] of [
    ['patch', 'nodes'],
    ['update', 'nodes/status'],
    ['delete', 'nodes'],
    ['list', 'pods'],
    ['get', 'secrets'],
    ['create', 'events'],
  ])
    t.equal(can(verb, what, 'kube-flannel'), '', `no ${verb} ${what}`);
});

t.test('twill takes the place of kube-flannel, and kube-flannel that of twill', { skip }, async (t) => {
  const operator = await openCluster(t);
  const folder = folderOf(t);
  putKustomization(folder, formerFlannel(own, FORMERS['v0.28.9']), ['twill', 'tun']);
  const flannel = join(folder, 'kube-flannel.yml');
  operator.kubectl('apply', '-f', flannel);
  const before = await operator.daemonSet();

  // As docs/install/kubernetes/migrate.md has it.
  const strategy = (type: string): string => JSON.stringify({ spec: { updateStrategy: { type } } });
  const patch = [
    '--namespace=kube-flannel',
    'patch',
    'daemonset',
    'kube-flannel-ds',
    '-p',
    strategy('OnDelete'),
  ];
  operator.kubectl(...patch);
  const said = lines(operator.kubectl('apply', '-k', folder));
  const changed = said.filter((line) => !line.endsWith(' unchanged'));
  t.strictSame(changed, ['daemonset.apps/kube-flannel-ds configured'], 'config and rights stay');
  const during = await operator.daemonSet();
  t.equal(during.metadata.uid, before.metadata.uid, 'changed in place');
  t.match(during.spec.updateStrategy, { type: 'OnDelete' });
  t.equal(daemonOf(during).image, daemonOf(theOne(own, 'DaemonSet')).image);

  operator.kubectl('apply', '-f', flannel);
  const after = await operator.daemonSet();
  t.strictSame(after.spec.template, before.spec.template, 'back, and nothing of twill is left');
  t.equal(after.metadata.uid, before.metadata.uid);

  // The manifest of our own, over it.
  operator.kubectl('apply', '-f', MANIFEST);
  const last = await operator.daemonSet();
  t.equal(last.metadata.uid, before.metadata.uid);
  t.match(last.spec, theOne<DaemonSet>(own, 'DaemonSet').spec);
  const env = (set: DaemonSet): string[] => (daemonOf(set).env ?? []).map(({ name }) => name);
  t.strictSame(env(last), env(theOne(own, 'DaemonSet')), 'nothing of flannel’s is left');
});

t.test('twill is applied over a kube-flannel that was created, not applied', { skip }, async (t) => {
  const operator = await openCluster(t);
  const file = join(folderOf(t), 'kube-flannel.yml');
  writeFileSync(file, yamlOf(formerFlannel(own, FORMERS['v0.20.2'])));
  operator.kubectl('create', '-f', file);
  operator.kubectl('apply', '-f', MANIFEST);
  const { initContainers, containers } = (await operator.daemonSet()).spec.template.spec;
  const image = daemonOf(theOne(own, 'DaemonSet')).image;
  t.strictSame(
    [...initContainers, ...containers].map((container) => [container.name, container.image]),
    ['install-cni-plugin', 'install-cni', 'kube-flannel'].map((name) => [name, image]),
  );
});

t.test('helm installs the chart, and upgrades a release of flannel’s to it and back', { skip }, async (t) => {
  const operator = await openCluster(t);
  const release = ['flannel', '--namespace', 'kube-flannel'];
  const set = formerFlannel(own, FORMERS['v0.28.9']).filter(({ kind }) => kind !== 'Namespace');
  // The selector of flannel's chart.
  const former = yamlOf(set).replace(
    '"matchLabels":{"app":"flannel","k8s-app":"flannel"}',
    '"matchLabels":{"app":"flannel"}',
  );
  const chart = join(folderOf(t), 'kube-flannel');
  mkdirSync(join(chart, 'templates'), { recursive: true });
  writeFileSync(join(chart, 'Chart.yaml'), 'apiVersion: v2\nname: flannel\nversion: 0.28.9\n');
  writeFileSync(join(chart, 'templates/all.yaml'), former);
  operator.helm('install', ...release, chart, '--create-namespace');
  const before = await operator.daemonSet();
  operator.helm('upgrade', ...release, join(KUBERNETES, 'chart'), '--set', 'flannel.events=true');
  const during = await operator.daemonSet();
  t.equal(during.metadata.uid, before.metadata.uid);
  t.equal(daemonOf(during).image, daemonOf(theOne(own, 'DaemonSet')).image);
  operator.helm('rollback', ...release);
  const { image, args, env, livenessProbe, volumeMounts } = daemonOf(before);
  t.match(daemonOf(await operator.daemonSet()), { image, args, env, livenessProbe, volumeMounts });
  operator.helm('uninstall', ...release);
  operator.helm('install', ...release, join(KUBERNETES, 'chart'));
  t.match(
    (await operator.daemonSet()).spec.template.spec,
    theOne<DaemonSet>(own, 'DaemonSet').spec.template.spec,
  );
});
