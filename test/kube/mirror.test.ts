// The mirror of nodes (src/store/kube/node-mirror.ts) against a real API server and controller manager.
//
// After each thing that befalls the server the mirror is to hold what the server has, and to have told every change
// just once.

import pino from 'pino';
import t from 'tap';
import { MONOTONIC_CLOCK } from '../../src/core/waiting.js';
import { HttpKubeClient } from '../../src/store/kube/api/http-client.js';
import type { KubeNode, NodeEvent } from '../../src/store/kube/nodes/kube-node.js';
import { NodeMirror, type NodeMirrorTuning } from '../../src/store/kube/nodes/node-mirror.js';
import { waitFor } from '../support/lab.js';
import { type Json, KubeCluster, kubeUnavailable } from '../support/kube-cluster.js';

const skip = kubeUnavailable();
const PREFIX = 'flannel.alpha.coreos.com/';

/** A running mirror, what it told as lines, and the table that follows from it. */
class Bench {
  readonly lines: string[] = [];
  readonly table = new Map<string, KubeNode>();
  readonly client: HttpKubeClient;
  readonly mirror: NodeMirror;

  private constructor(client: HttpKubeClient, tuning: Partial<NodeMirrorTuning>) {
    this.client = client;
    this.mirror = new NodeMirror({
      client,
      reading: { prefix: PREFIX },
      listener: {
        onSnapshot: (nodes) => nodes.forEach((node) => this.#take({ kind: 'put', node })),
        onEvents: (events) => events.forEach((event) => this.#take(event)),
      },
      log: pino({ level: 'silent' }),
      clock: MONOTONIC_CLOCK,
      random: Math.random,
      tuning,
    });
  }

  static async open(kubeconfigFile: string, tuning: Partial<NodeMirrorTuning> = {}): Promise<Bench> {
    const bench = new Bench(await HttpKubeClient.open({ apiUrl: '', kubeconfigFile }, {}), tuning);
    await bench.live();
    return bench;
  }

  #take(event: NodeEvent): void {
    if (event.kind === 'put') {
      const { name, annotations, podCidrs } = event.node;
      this.table.set(name, event.node);
      this.lines.push(`put ${name} ${podCidrs.join(',')} ${annotations['public-ip'] ?? ''}`.trim());
    } else {
      this.table.delete(event.name);
      this.lines.push(`${event.kind} ${event.name}`);
    }
  }

  live(): Promise<void> {
    return waitFor(() => this.mirror.isLive, 'the mirror to watch', 60_000);
  }

  async close(): Promise<void> {
    await this.mirror.close();
    this.client.close();
  }
}

t.test('the mirror and a real API server', { skip, timeout: 230_000 }, async (t) => {
  const cluster = await KubeCluster.start();
  t.teardown(() => cluster.close());
  await cluster.createNodeWithPodCidr('n1');
  const account = await cluster.createAccount('flannel');
  const bench = await Bench.open(await cluster.kubeconfigFor(account));
  t.teardown(() => bench.close());
  const { mirror, lines } = bench;
  const annotate = (name: string, ip: string): Promise<Json> =>
    cluster.patchNode(name, { metadata: { annotations: { [`${PREFIX}public-ip`]: ip } } }, '/status');

  /** Waits until a mirror's table is what the server has. */
  async function converged({ mirror, table }: Bench = bench): Promise<void> {
    const { items } = (await cluster.admin.must('GET', '/api/v1/nodes')) as { items: Json[] };
    const show = (name: unknown, uid: unknown, cidrs: unknown, ip: unknown): string =>
      JSON.stringify([name, uid, cidrs ?? [], ip]);
    const wanted = items
      .map(({ metadata, spec }) => {
        const { name, uid, annotations = {} } = metadata as Record<string, Json>;
        return show(name, uid, (spec as Json).podCIDRs, annotations[`${PREFIX}public-ip`]);
      })
      .sort();
    const held = (): string[] =>
      [...table.values()]
        .map(({ name, uid, podCidrs, annotations }) => show(name, uid, podCidrs, annotations['public-ip']))
        .sort();
    await waitFor(() => held().join() === wanted.join(), `${wanted.join()}`, 30_000).catch((error: Error) => {
      throw new Error(`${error.message}\nheld: ${held().join()}\n${mirror.fault}`);
    });
  }

  t.test(
    'hears of a podCIDR that the controller manager assigns, and of nothing that does not count',
    async (t) => {
      await converged();
      lines.splice(0);
      await cluster.createNodeWithPodCidr('n2');
      await cluster.patchNode(
        'n2',
        { status: { conditions: [{ type: 'Ready', status: 'True' }] } },
        '/status',
      );
      await annotate('n2', '172.30.0.2');
      await cluster.deleteNode('n2');
      await waitFor(() => lines.at(-1) === 'delete n2', 'the deletion');
      t.same(lines, ['put n2', 'put n2 10.244.1.0/24', 'put n2 10.244.1.0/24 172.30.0.2', 'delete n2']);
      t.equal(mirror.counters.unchanged, 1);
    },
  );

  t.test('a node made anew is another node', async (t) => {
    await cluster.createNode('n3', { podCidrs: ['10.244.3.0/24'] });
    await cluster.deleteNode('n3');
    await cluster.createNode('n3', { podCidrs: ['10.244.33.0/24'] });
    await converged();
    t.same(lines.slice(-3), ['put n3 10.244.3.0/24', 'delete n3', 'put n3 10.244.33.0/24']);
  });

  t.test('what a list of metadata says is what the watch has said', async (t) => {
    const other = await Bench.open(await cluster.kubeconfigFor(account), {
      checkMs: [500, 500],
      settleMs: 500,
    });
    t.teardown(() => other.close());
    const { counters } = other.mirror;
    for (let i = 0; counters.checks < 3; i++) {
      await cluster.createNode('busy', { podCidrs: [`10.244.${i % 256}.0/24`] });
      await annotate('busy', `172.30.0.${i % 256}`);
      await cluster.deleteNode('busy');
    }
    await converged(other);
    t.same([counters.repairs, counters.lists], [0, 1]);
  });

  t.test('a server that is killed and started again costs no list', async (t) => {
    const { lists } = mirror.counters;
    lines.splice(0);
    await cluster.restartApiServer();
    await annotate('n1', '172.30.0.11');
    await converged();
    t.same(lines, ['put n1 10.244.0.0/24 172.30.0.11']);
    t.equal(mirror.counters.lists, lists);
  });

  t.test('what happens while we are away and is then compacted is found by a list', async (t) => {
    await cluster.createNode('n4', { podCidrs: ['10.244.4.0/24'] });
    await converged();
    const { lists } = mirror.counters;
    lines.splice(0);
    await cluster.stopApiServer();
    // As another API server would do it, in etcd.
    await cluster.etcdctl('del', '/registry/minions/n4');
    await cluster.etcdctl('put', '/registry/elsewhere', 'x');
    await cluster.compact();
    await cluster.startApiServer();
    await bench.live();
    await converged();
    t.same(lines, ['delete n4']);
    t.same([mirror.counters.lists - lists, mirror.counters.relists.expired], [1, 1]);
  });

  t.test('permissions that are taken away and given again', async (t) => {
    const short = await cluster.createAccount('short');
    const path = await cluster.kubeconfigFor(short);
    const other = await Bench.open(path);
    t.teardown(() => other.close());
    await cluster.admin.must('DELETE', '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/short');
    await waitFor(async () => {
      const api = cluster.as({ token: await cluster.tokenOf(short) });
      const { status } = await api.ask({ method: 'GET', path: '/api/v1/nodes' });
      api.disconnect();
      return status === 403;
    }, 'the permission to be gone');
    other.client.renew();
    await waitFor(() => /watch nodes.*403 Forbidden/.test(other.mirror.fault ?? ''), 'a fault');
    t.notOk(other.mirror.isLive);
    await cluster.admin.must('POST', '/apis/rbac.authorization.k8s.io/v1/clusterrolebindings', {
      metadata: { name: 'short' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'flannel' },
      subjects: [{ kind: 'ServiceAccount', name: 'short', namespace: 'kube-flannel' }],
    });
    await other.live();
  });

  t.test('another certificate and another authority', async () => {
    await cluster.changeAuthority();
    await annotate('n1', '172.30.0.12');
    await bench.live();
    await converged();
  });

  t.test('a frozen server is noticed within 20 s, and followed again', async (t) => {
    lines.splice(0);
    await bench.live();
    const frozenAtMs = performance.now();
    cluster.freezeApiServer();
    await waitFor(() => !mirror.isLive, 'the mirror to notice', 25_000);
    const ms = performance.now() - frozenAtMs;
    t.ok(ms < 20_000, `noticed after ${Math.round(ms)} ms`);
    cluster.thawApiServer();
    await annotate('n1', '172.30.0.13');
    await converged();
    t.same(lines, ['put n1 10.244.0.0/24 172.30.0.13']);
  });

  t.test('etcd put back to a backup: who was made since has vanished', async (t) => {
    // A watch from a version that the store has not reached is silent, as is one of a quiet cluster for a minute.
    const other = await Bench.open(await cluster.kubeconfigFor(account), { silenceMs: 3_000 });
    t.teardown(() => other.close());
    const backup = await cluster.backUp();
    await cluster.createNode('n5', { podCidrs: ['10.244.5.0/24'] });
    await annotate('n1', '172.30.0.14');
    await converged(other);
    other.lines.splice(0);
    await cluster.restore(backup);
    await converged(other);
    t.same(other.lines.sort(), ['put n1 10.244.0.0/24 172.30.0.13', 'vanished n5']);
    t.equal(other.mirror.counters.relists.rewound, 1);
  });
});
