// The kustomize components that put twill into a kube-flannel that is there, built by kubectl over what such a one is.

import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { checkDaemonSet, daemonOf, type DaemonSet, theOne } from '../../support/daemon-set.js';
import { type KubeObject, parseObjects, schemaViolations } from '../../support/kube-objects.js';
import { needsTool, runTool } from '../../support/kube-tools.js';

const ROOT = new URL('../../..', import.meta.url).pathname;
const KUBERNETES = join(ROOT, 'docs/install/kubernetes');
const skip = needsTool('kubectl');

const own = parseObjects(readFileSync(join(KUBERNETES, 'kube-twill.yml'), 'utf8'));

/** Kube-flannel of one time: where its images lay, and what its daemon's container had besides. */
interface Former {
  readonly image: string;
  readonly plugin: string;
  readonly args: readonly string[];
  readonly more: object;
}

const FORMERS: Readonly<Record<string, Former>> = {
  'v0.20.2': {
    image: 'docker.io/rancher/mirrored-flannelcni-flannel:v0.20.2',
    plugin: 'docker.io/rancher/mirrored-flannelcni-flannel-cni-plugin:v1.1.0',
    args: ['--ip-masq', '--kube-subnet-mgr', '--iface=eth1'],
    more: {
      resources: { requests: { cpu: '100m', memory: '50Mi' }, limits: { cpu: '100m', memory: '50Mi' } },
    },
  },
  'v0.25.1': {
    image: 'docker.io/flannel/flannel:v0.25.1',
    plugin: 'docker.io/flannel/flannel-cni-plugin:v1.4.0-flannel1',
    args: ['--ip-masq', '--kube-subnet-mgr'],
    more: { resources: { requests: { cpu: '100m', memory: '50Mi' } } },
  },
  'v0.28.9': {
    image: 'ghcr.io/flannel-io/flannel:v0.28.9',
    plugin: 'ghcr.io/flannel-io/flannel-cni-plugin:v1.9.1-flannel3',
    args: ['--ip-masq', '--kube-subnet-mgr', '--healthz-port=8081'],
    more: {
      ports: [{ name: 'healthz', containerPort: 8081, protocol: 'TCP' }],
      livenessProbe: { httpGet: { path: '/healthz', port: 'healthz' }, initialDelaySeconds: 10 },
      readinessProbe: { httpGet: { path: '/readyz', port: 'healthz' }, initialDelaySeconds: 5 },
    },
  },
};

const env = (names: readonly string[]): object[] => names.map((name) => ({ name, value: 'x' }));

/** The DaemonSet as that time had it. */
function former({ image, plugin, args, more }: Former): KubeObject {
  const set = theOne<DaemonSet>(own, 'DaemonSet');
  const mount = (name: string, mountPath: string): object => ({ name, mountPath });
  const daemon = {
    name: 'kube-flannel',
    image,
    command: ['/opt/bin/flanneld'],
    args,
    env: env(['POD_NAME', 'POD_NAMESPACE', 'EVENT_QUEUE_DEPTH']),
    volumeMounts: [mount('run', '/run/flannel'), mount('flannel-cfg', '/etc/kube-flannel/')],
    ...more,
  };
  const installers = [
    {
      name: 'install-cni-plugin',
      image: plugin,
      command: ['cp'],
      args: ['-f', '/flannel', '/opt/cni/bin/flannel'],
    },
    {
      name: 'install-cni',
      image,
      command: ['cp'],
      args: ['-f', '/etc/kube-flannel/cni-conf.json', '/etc/cni/net.d'],
    },
  ];
  const pod = {
    serviceAccountName: 'flannel',
    initContainers: installers,
    containers: [daemon],
    volumes: [
      { name: 'run', hostPath: { path: '/run/flannel' } },
      { name: 'flannel-cfg', configMap: { name: 'kube-flannel-cfg' } },
    ],
  };
  const template = { metadata: set.spec.template.metadata, spec: pod };
  return { ...set, spec: { selector: set.spec.selector, template } } as KubeObject;
}

/** The objects that `kubectl apply -k` would apply; `hasTun`: with the optional component. */
function build(folder: string, set: KubeObject, hasTun = false): KubeObject[] {
  cpSync(join(KUBERNETES, 'kustomize'), folder, { recursive: true });
  const objects = own.map((object) => (object.kind === 'DaemonSet' ? set : object));
  writeFileSync(
    join(folder, 'kube-flannel.yml'),
    objects.map((object) => JSON.stringify(object)).join('\n---\n'),
  );
  const file = join(folder, 'kustomization.yaml');
  const text = readFileSync(file, 'utf8');
  if (hasTun) writeFileSync(file, text.replace('# - tun', '- tun'));
  return parseObjects(runTool('kubectl', ['kustomize', folder]));
}

for (const [version, was] of Object.entries(FORMERS)) {
  t.test(`twill takes the place of flannel ${version}`, { skip }, (t) => {
    const objects = build(t.testdir(), former(was));
    t.same(schemaViolations(objects), []);
    checkDaemonSet(t, objects);
    const set = theOne<DaemonSet>(objects, 'DaemonSet');
    const { initContainers, containers } = set.spec.template.spec;
    const images = [...initContainers, ...containers].map(({ image }) => image);
    t.same(new Set(images), new Set([daemonOf(theOne(own, 'DaemonSet')).image]), 'each image is twill’s');
    const daemon = daemonOf(set);
    t.same(daemon.args, was.args, 'the flags stay');
    t.notMatch(daemon.resources, { limits: { memory: '50Mi' } });
    t.same((daemon.env ?? []).map(({ name }) => name).sort(), [
      'EVENT_QUEUE_DEPTH',
      'FLANNELD_HEALTHZ_IP',
      'FLANNELD_HEALTHZ_PORT',
      'NODE_NAME',
      'POD_NAME',
      'POD_NAMESPACE',
    ]);
    // Config and rights are the operator's.
    for (const kind of ['ConfigMap', 'ClusterRole', 'ServiceAccount'])
      t.same(theOne(objects, kind), theOne(own, kind));
    t.end();
  });
}

t.test('the component tun mounts what the udp backend opens', { skip }, (t) => {
  const objects = build(t.testdir(), former(FORMERS['v0.28.9']), true);
  t.same(schemaViolations(objects), []);
  checkDaemonSet(t, objects);
  const set = theOne<DaemonSet>(objects, 'DaemonSet');
  const volume = (from: DaemonSet): unknown =>
    from.spec.template.spec.volumes.find(({ name }) => name === 'dev-net');
  t.same(volume(set), volume(theOne(own, 'DaemonSet')));
  t.ok(daemonOf(set).volumeMounts?.some(({ mountPath }) => mountPath === '/dev/net'));
  t.end();
});

t.test('the tag in the component is the one that is built', (t) => {
  const component = readFileSync(join(KUBERNETES, 'kustomize/twill/kustomization.yaml'), 'utf8');
  const tags = [...component.matchAll(/newName: (\S+), newTag: (\S+) }/g)].map(
    ([, name, tag]) => `${name}:${tag}`,
  );
  t.same(new Set(tags), new Set([daemonOf(theOne(own, 'DaemonSet')).image]));
  t.end();
});
