// The overlay on a Kubernetes control plane, with traffic: three hosts in each mode, and the faults that the API server
// and its nodes can have. The same suite runs on a stand-in (test/lab) and on a real API server (test/kube).
//
//   API server ─── 172.20.0.250
//        │ podCIDRs, annotations
//   host a ─── host b ─── host c        each a Node; a pod behind each, by the CNI plugin

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import type { KubeStatus } from '../../src/ops/status.js';
import { CNI_PLUGIN } from './cni-plugin.js';
import { callCni, cniConfig } from './cni-pods.js';
import { DAEMON, type Host, type Lab, type Task, waitFor } from './lab.js';
import { HEALTH_PORT, statusOf } from './twill-hosts.js';

/** What a control plane's objects are. */
export type ApiNode = Readonly<Record<string, unknown>> & {
  readonly metadata: { readonly annotations?: Readonly<Record<string, string>> };
  readonly spec: { readonly podCIDR?: string };
  readonly status?: { readonly conditions?: readonly Readonly<Record<string, string>>[] };
};

/** An API server in a lab, with what assigns podCIDRs of 10.244.0.0/16 to nodes. */
export interface ControlPlane {
  /** Path of a kubeconfig that the hosts can use, with flannel's rights. */
  readonly kubeconfig: string;
  /** Name of its link at the switch. */
  readonly link: string;
  createNode(name: string): Promise<unknown>;
  deleteNode(name: string): Promise<unknown>;
  node(name: string): Promise<ApiNode>;
  /** Annotations with their whole names; null removes one. */
  annotate(name: string, annotations: Readonly<Record<string, string | null>>): Promise<unknown>;
  /** Nobody answers, and connections end. */
  kill(): Promise<void>;
  start(): Promise<void>;
  /** Connections stay, and nothing comes. */
  freeze(): unknown;
  thaw(): unknown;
}

export const KUBE_NETWORK = '10.244.0.0/16';
const PREFIX = 'flannel.alpha.coreos.com/';

/** A host that is a Node. */
export interface KubeHost extends Host {
  readonly node: string;
}

/** Hosts with daemons on one control plane. */
export class KubeHosts {
  readonly lab: Lab;
  readonly plane: ControlPlane;
  readonly daemons = new Map<string, Task>();

  constructor(lab: Lab, plane: ControlPlane) {
    this.lab = lab;
    this.plane = plane;
  }

  /** The command line of a daemon, and what comes before it. */
  words(host: Host, node: string, config: string, extra: readonly string[] = []): string[] {
    return [
      `NODE_NAME=${node}`,
      process.execPath,
      DAEMON,
      '--kube-subnet-mgr',
      `--kubeconfig-file=${this.plane.kubeconfig}`,
      `--net-config-path=${config}`,
      '--iface=eth0',
      `--subnet-file=${join(host.dir, 'subnet.env')}`,
      '--healthz-ip=127.0.0.1',
      `--healthz-port=${HEALTH_PORT}`,
      ...extra,
    ];
  }

  async start(host: Host, node: string, config: string, extra: readonly string[] = []): Promise<Task> {
    const words = this.words(host, node, config, extra);
    const daemon = await this.lab.spawnUntil(host.ns, 'env', words, /ready after/, 20_000);
    this.daemons.set(node, daemon);
    return daemon;
  }

  /** A node is created, its host gets a subnet, and a pod by the CNI plugin. */
  async join(index: number, node: string, config: string, extra: readonly string[] = []): Promise<KubeHost> {
    await this.plane.createNode(node);
    const host = this.lab.addHost(index, { subnet: undefined });
    await this.start(host, node, config, extra);
    this.lab.ip(host.ns, 'link delete cni0'); // the bridge plugin makes its own
    const pod = { host, id: `pod-${node}`, ns: host.containerNs };
    const { code, stdout } = await callCni(this.lab, pod, 'ADD', [CNI_PLUGIN], cniConfig(host));
    if (code !== 0) throw new Error(`no pod on ${node}: ${stdout}`);
    const { ips } = JSON.parse(stdout) as { readonly ips: readonly { readonly address: string }[] };
    return { ...host, subnet: subnetOf(host), containerIp: ips[0].address.split('/')[0], node };
  }

  async reaches(from: Host, to: Host): Promise<boolean> {
    const args = ['-c', '1', '-W', '1', to.containerIp];
    return (await this.lab.run(from.containerNs, 'ping', args, { mustSucceed: false })).code === 0;
  }

  async isReady(host: Host): Promise<boolean> {
    return (await this.lab.get(host.ns, `http://127.0.0.1:${HEALTH_PORT}/readyz`)).status === 200;
  }

  async store(host: Host): Promise<KubeStatus> {
    return (await statusOf(this.lab, host)).store as KubeStatus;
  }

  /** Runs `fault` under a ping every 10 ms between two containers; none may be lost. */
  async underTraffic(t: Test, a: Host, b: Host, fault: () => Promise<unknown>): Promise<void> {
    const ping = this.lab.spawn(a.containerNs, 'ping', ['-i', '0.01', '-W', '1', b.containerIp]);
    await waitFor(() => /icmp_seq=20 /.test(ping.log()), 'the ping to run');
    await fault();
    await this.lab.end(ping, 'SIGINT');
    const [, sent, received] = /(\d+) packets transmitted, (\d+) received/.exec(ping.log())!;
    // The last one may still be on its way when ping is ended.
    t.ok(Number(sent) - Number(received) <= 1, `${received} of ${sent}`);
  }
}

/** The subnet in the host's subnet.env. */
function subnetOf(host: Host): string {
  const text = readFileSync(join(host.dir, 'subnet.env'), 'utf8');
  const match = /^FLANNEL_SUBNET=(.*)\.1\/24$/m.exec(text);
  if (match === null) throw new Error(`no /24 in subnet.env:\n${text}`);
  return `${match[1]}.0/24`;
}

/** What the daemon of a mode writes: name without prefix, value. */
export async function annotationsOf(plane: ControlPlane, node: string): Promise<Record<string, string>> {
  const { annotations = {} } = (await plane.node(node)).metadata;
  const ours = Object.entries(annotations).filter(([name]) => name.startsWith(PREFIX));
  const named: [string, string][] = ours.map(([name, value]) => [name.slice(PREFIX.length), value]);
  return Object.fromEntries(named.sort());
}

const DATA = {
  udp: 'null',
  vxlan: /^\{"VNI":1,"VtepMAC":"([0-9a-f]{2}:){5}[0-9a-f]{2}"\}$/,
  'host-gw': 'null',
};
export const KUBE_MODES = ['udp', 'vxlan', 'host-gw'] as const;
export type KubeMode = (typeof KUBE_MODES)[number];

/** Three hosts reach each other, and their nodes say what flannel's would. */
export async function modeSuite(
  t: Test,
  hosts: KubeHosts,
  mode: KubeMode,
  config: string,
): Promise<readonly KubeHost[]> {
  const { plane } = hosts;
  const names = ['a', 'b', 'c'].map((name) => `${mode}-${name}`);
  const joined: KubeHost[] = [];
  for (const [i, name] of names.entries()) joined.push(await hosts.join(i + 1, name, config));
  for (const from of joined)
    for (const to of joined)
      if (from !== to) await waitFor(() => hosts.reaches(from, to), `${from.node} to reach ${to.node}`);
  for (const host of joined) {
    t.match(await annotationsOf(plane, host.node), {
      'backend-data': DATA[mode],
      'backend-type': mode === 'udp' ? '' : mode,
      'kube-subnet-manager': 'true',
      'public-ip': host.underlayIp,
    });
    const { conditions = [] } = (await plane.node(host.node)).status ?? {};
    t.match(
      conditions.find(({ type }) => type === 'NetworkUnavailable'),
      {
        status: 'False',
        reason: 'FlannelIsUp',
        message: 'Flannel is running on this node',
      },
    );
    t.ok(await hosts.isReady(host));
    t.match(await hosts.store(host), {
      kind: 'kube',
      node: host.node,
      leases: 3,
      watchEstablished: true,
      badKeys: 0,
    });
    t.match(readFileSync(join(host.dir, 'subnet.env'), 'utf8'), `FLANNEL_NETWORK=${KUBE_NETWORK}`);
  }
  return joined;
}

/** Faults of the API server and of nodes; nothing is lost between hosts that they do not touch. */
export async function faultSuite(
  t: Test,
  hosts: KubeHosts,
  [a, b, c]: readonly KubeHost[],
  config: string,
): Promise<void> {
  const { lab, plane } = hosts;
  const leases = async (): Promise<number> => (await hosts.store(a)).leases;

  await t.test('the API server is killed for 3 s and started again', async (t) => {
    await hosts.underTraffic(t, a, b, async () => {
      await plane.kill();
      await waitFor(async () => !(await hosts.isReady(a)), 'degraded', 20_000);
      await new Promise((resolve) => setTimeout(resolve, 3_000));
      await plane.start();
      await waitFor(() => hosts.isReady(a), 'readiness', 30_000);
    });
  });

  await t.test('the API server is frozen', async (t) => {
    await hosts.underTraffic(t, a, b, async () => {
      const startedMs = Date.now();
      await plane.freeze();
      await waitFor(async () => !(await hosts.isReady(a)), 'degraded', 25_000);
      t.ok(Date.now() - startedMs < 20_000, `noticed after ${Date.now() - startedMs} ms`);
      await plane.thaw();
      await waitFor(() => hosts.isReady(a), 'readiness', 30_000);
    });
  });

  await t.test('the API server is cut off by the network', async (t) => {
    await hosts.underTraffic(t, a, b, async () => {
      lab.ip(lab.switchNs, `link set ${plane.link} down`);
      await waitFor(async () => !(await hosts.isReady(a)), 'degraded', 30_000);
      lab.ip(lab.switchNs, `link set ${plane.link} up`);
      await waitFor(() => hosts.isReady(a), 'readiness', 40_000);
    });
  });

  await t.test(
    'a node loses its flag and gets it back: gone from the peers, and written again',
    async (t) => {
      await hosts.underTraffic(t, a, b, async () => {
        await plane.annotate(c.node, { [`${PREFIX}kube-subnet-manager`]: null });
        const written = async () => (await annotationsOf(plane, c.node))['kube-subnet-manager'] === 'true';
        await waitFor(written, 'the flag to be back', 15_000);
        await waitFor(() => hosts.reaches(a, c), 'traffic', 15_000);
      });
    },
  );

  await t.test('a stranger’s node with garbage harms nobody', async (t) => {
    await hosts.underTraffic(t, a, b, async () => {
      await plane.createNode('garbage');
      await plane.annotate('garbage', {
        [`${PREFIX}kube-subnet-manager`]: 'true',
        [`${PREFIX}backend-type`]: '',
        [`${PREFIX}backend-data`]: '{"VNI":',
        [`${PREFIX}public-ip`]: 'x'.repeat(20_000),
      });
      await waitFor(async () => (await hosts.store(a)).badKeys === 1, 'the bad node to be seen', 15_000);
      t.ok(await hosts.isReady(a));
      await plane.deleteNode('garbage');
      await waitFor(async () => (await hosts.store(a)).badKeys === 0, 'it to be gone', 15_000);
    });
  });

  await t.test('a node is deleted while a daemon is away: its route is gone after the start', async (t) => {
    await hosts.underTraffic(t, a, b, async () => {
      const victim = await hosts.join(4, 'victim', config);
      await waitFor(() => hosts.reaches(c, victim), 'the fourth host');
      await lab.end(hosts.daemons.get(victim.node)!);
      await lab.end(hosts.daemons.get(c.node)!);
      await plane.deleteNode(victim.node);
      await hosts.start(c, c.node, config);
      await waitFor(async () => (await leases()) === 3, 'the lease to go');
      await waitFor(async () => (await statusOf(lab, c)).peers.length === 2, 'two peers');
      t.notMatch(lab.ip(c.ns, 'route show'), victim.subnet);
      await waitFor(() => hosts.reaches(c, a), 'traffic');
    });
  });

  await t.test(
    'a daemon that starts while the API server is away forwards from its saved table',
    async (t) => {
      await lab.end(hosts.daemons.get(a.node)!);
      await plane.kill();
      const daemon = await hosts.start(a, a.node, config);
      const readyMs = Number(/ready after (\d+) ms/.exec(daemon.log())![1]);
      t.comment(`ready after ${readyMs} ms`);
      t.ok(await hosts.reaches(a, b));
      t.notOk(await hosts.isReady(a));
      t.match(
        (await statusOf(lab, a)).degraded.join(),
        /lease table of .* in use: kube has not answered yet/,
      );
      await plane.start();
      await waitFor(() => hosts.isReady(a), 'readiness', 30_000);
    },
  );

  await t.test(
    'the own node is deleted: degraded, and packets flow on; made anew: another subnet',
    async (t) => {
      const daemon = hosts.daemons.get(a.node)!;
      await plane.deleteNode(a.node);
      await waitFor(async () => !(await hosts.isReady(a)), 'degraded', 20_000);
      t.match(
        (await statusOf(lab, a)).conditions.map(({ code }) => code),
        ['node-missing'],
      );
      t.equal(daemon.child.exitCode, null);
      await plane.createNode('taker'); // gets the subnet that is free now, or the next one
      await plane.createNode(a.node);
      await waitFor(async () => (await plane.node(a.node)).spec.podCIDR !== undefined, 'a podCIDR', 30_000);
      if ((await plane.node(a.node)).spec.podCIDR === a.subnet) {
        await waitFor(() => hosts.isReady(a), 'the same subnet: annotated again', 20_000);
        return;
      }
      await waitFor(() => daemon.child.exitCode !== null, 'the daemon to end', 20_000);
      t.not(daemon.child.exitCode, 0);
      t.match(daemon.log(), /Own lease lost: node ".*" has another subnet than/);
    },
  );
}
