// A DaemonSet that runs twill, as the tests look at it: what kube-flannel's users have, and nothing that hangs loose.

import type { Test } from 'tap';
import { parseHostGwConfig } from '../../src/backend/host-gw/config.js';
import { parseUdpBackend } from '../../src/backend/udp/config.js';
import { parseVxlanConfig } from '../../src/backend/vxlan/config.js';
import { parseFlags } from '../../src/config/flag-parser.js';
import { parseNetConfig } from '../../src/store/kube/net-config-file.js';
import type { KubeObject } from './kube-objects.js';

interface Mount {
  readonly name: string;
  readonly mountPath: string;
}

interface HttpProbe {
  readonly httpGet: { readonly host?: string; readonly path: string; readonly port: number };
}

export interface Container {
  readonly name: string;
  readonly image: string;
  readonly command?: readonly string[];
  readonly args?: readonly string[];
  readonly env?: readonly { readonly name: string; readonly value?: string; readonly valueFrom?: object }[];
  readonly livenessProbe?: HttpProbe;
  readonly readinessProbe?: HttpProbe;
  readonly resources?: object;
  readonly securityContext?: object;
  readonly volumeMounts?: readonly Mount[];
}

export interface PodSpec {
  readonly hostNetwork?: boolean;
  readonly priorityClassName?: string;
  readonly serviceAccountName?: string;
  readonly tolerations?: readonly object[];
  readonly nodeSelector?: object;
  readonly imagePullSecrets?: readonly object[];
  readonly initContainers: readonly Container[];
  readonly containers: readonly Container[];
  readonly volumes: readonly {
    readonly name: string;
    readonly configMap?: { readonly name: string };
    readonly hostPath?: { readonly path: string; readonly type?: string };
  }[];
}

export interface DaemonSet extends KubeObject {
  readonly spec: {
    readonly selector: { readonly matchLabels: Readonly<Record<string, string>> };
    readonly updateStrategy?: object;
    readonly template: {
      readonly metadata: { readonly labels: Readonly<Record<string, string>> };
      readonly spec: PodSpec;
    };
  };
}

/** The object of a kind; throws when there is not exactly one. */
export function theOne<T extends KubeObject>(objects: readonly KubeObject[], kind: string): T {
  const found = objects.filter((object) => object.kind === kind);
  if (found.length !== 1) throw new Error(`${found.length} objects of kind ${kind}`);
  return found[0] as T;
}

/** The container that runs the daemon. */
export function daemonOf(set: DaemonSet): Container {
  const found = set.spec.template.spec.containers.find(({ name }) => name === 'kube-flannel');
  if (found === undefined) throw new Error('no container kube-flannel');
  return found;
}

/** What holds of each DaemonSet of ours, however it was rendered. `objects` are those that are applied with it. */
export function checkDaemonSet(t: Test, objects: readonly KubeObject[]): void {
  const set = theOne<DaemonSet>(objects, 'DaemonSet');
  const { selector, template } = set.spec;
  t.match(template.metadata.labels, selector.matchLabels, 'the selector selects its own pods');
  const pod = template.spec;
  const volumes = pod.volumes.map(({ name }) => name);
  const mounts = [...pod.initContainers, ...pod.containers].flatMap(({ volumeMounts = [] }) => volumeMounts);
  t.strictSame(
    new Set(mounts.map(({ name }) => name)),
    new Set(volumes),
    'each volume is mounted, each mount has one',
  );
  const config = theOne<ConfigMap>(objects, 'ConfigMap');
  const named = pod.volumes.flatMap(({ configMap }) => configMap?.name ?? []);
  t.strictSame(named, [config.metadata.name]);
  t.equal(pod.serviceAccountName, theOne(objects, 'ServiceAccount').metadata.name);
  for (const object of objects)
    t.ok(object.metadata.namespace === undefined || object.metadata.namespace === set.metadata.namespace);
  checkConfig(t, config);
  checkDaemon(t, daemonOf(set));
}

export interface ConfigMap extends KubeObject {
  readonly data: Readonly<Record<string, string>>;
}

/** The two keys that kube-flannel has: a CNI config whose first plugin is ours, a network config that twilld takes. */
function checkConfig(t: Test, { data }: ConfigMap): void {
  t.strictSame(Object.keys(data).sort(), ['cni-conf.json', 'net-conf.json']);
  const cni = JSON.parse(data['cni-conf.json']) as { plugins: { type: string }[] };
  t.equal(cni.plugins[0].type, 'flannel');
  const config = parseNetConfig(data['net-conf.json'], 'net-conf.json');
  t.strictSame(config.warnings, []);
  t.strictSame(BACKENDS[config.backendType](config.backend).unknownKeys, []);
}

type BackendParser = (backend: Readonly<Record<string, unknown>>) => {
  readonly unknownKeys: readonly string[];
};

const BACKENDS: Readonly<Record<string, BackendParser>> = {
  udp: parseUdpBackend,
  vxlan: parseVxlanConfig,
  'host-gw': parseHostGwConfig,
};

/** Flags and variables are the program's; the probes ask where it listens. */
function checkDaemon(t: Test, daemon: Container): void {
  t.strictSame(daemon.command, ['/opt/bin/flanneld']);
  const env = Object.fromEntries((daemon.env ?? []).map(({ name, value }) => [name, value]));
  const parsed = parseFlags(daemon.args ?? [], env);
  if (parsed.kind !== 'run') throw new Error(parsed.kind);
  t.strictSame(parsed.warnings, []);
  t.equal(parsed.flags.store.isKube, true);
  const { takeover, controlSocket } = parsed.flags.servers;
  t.ok(takeover);
  t.ok(
    (daemon.volumeMounts ?? []).some(({ mountPath }) => controlSocket.startsWith(`${mountPath}/`)),
    'a pod beside this one has its control socket',
  );
  const { healthzIp: host, healthzPort: port } = parsed.flags.servers;
  for (const [probe, path] of [
    [daemon.livenessProbe, '/healthz'],
    [daemon.readinessProbe, '/readyz'],
  ] as const) {
    if (port === 0) t.equal(probe, undefined);
    else t.strictSame(probe?.httpGet, { host, path, port });
  }
}
