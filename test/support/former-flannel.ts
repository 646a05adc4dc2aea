// Kube-flannel as operators have it, for the tests that put twill in its place: facts about its manifests of several
// times, in objects of our own, and the folder in which docs/install/kubernetes/migrate.md changes them.

import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type DaemonSet, theOne } from './daemon-set.js';
import type { KubeObject } from './kube-objects.js';

const KUSTOMIZE = new URL('../../docs/install/kubernetes/kustomize', import.meta.url).pathname;

/** Kube-flannel of one time: where its images lay, and what its daemon's container had besides. */
export interface Former {
  readonly image: string;
  readonly plugin: string;
  readonly args: readonly string[];
  readonly more: object;
}

export const FORMERS: Readonly<Record<string, Former>> = {
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

const field = (name: string, fieldPath: string): object => ({ name, valueFrom: { fieldRef: { fieldPath } } });

/** The objects of that time; those which are the same in ours, `own`, are taken from there. */
export function formerFlannel(own: readonly KubeObject[], former: Former): KubeObject[] {
  const set = daemonSet(theOne<DaemonSet>(own, 'DaemonSet'), former);
  return own.map((object) => (object.kind === 'DaemonSet' ? set : object));
}

function daemonSet(set: DaemonSet, { image, plugin, args, more }: Former): KubeObject {
  const mount = (name: string, mountPath: string): object => ({ name, mountPath });
  const daemon = {
    name: 'kube-flannel',
    image,
    command: ['/opt/bin/flanneld'],
    args,
    env: [
      field('POD_NAME', 'metadata.name'),
      field('POD_NAMESPACE', 'metadata.namespace'),
      { name: 'EVENT_QUEUE_DEPTH', value: '5000' },
    ],
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

/** A folder of kustomize over `former`, as docs/install/kubernetes/kustomize is over kube-flannel.yml. */
export function putKustomization(
  folder: string,
  former: readonly KubeObject[],
  components: readonly string[],
): void {
  cpSync(KUSTOMIZE, folder, { recursive: true });
  writeFileSync(join(folder, 'kube-flannel.yml'), yamlOf(former));
  const file = join(folder, 'kustomization.yaml');
  const text = readFileSync(file, 'utf8');
  const listed = components.map((name) => `  - ${name}`).join('\n');
  writeFileSync(file, text.replace(/(?<=^components:\n)[\s\S]*/m, `${listed}\n`));
}

/** The objects as a file that kubectl takes: JSON is YAML. */
export function yamlOf(objects: readonly KubeObject[]): string {
  return objects.map((object) => `---\n${JSON.stringify(object)}\n`).join('');
}
