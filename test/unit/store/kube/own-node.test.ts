// The own node, against a server in memory that merges patches as the API does.

import pino from 'pino';
import t from 'tap';
import type { OverlayError } from '../../../../src/core/errors.js';
import type { ApiObject } from '../../../../src/store/kube/api/client.js';
import { KubeFault } from '../../../../src/store/kube/api/faults.js';
import { type KubeNode, readNode } from '../../../../src/store/kube/nodes/kube-node.js';
import { OwnNode } from '../../../../src/store/kube/own-node.js';
import { codesOf, textsOf } from '../../../support/conditions.js';
import { FakeClock, settle } from '../../../support/fake-clock.js';
import { udpAnnotations } from '../../../support/kube-nodes.js';
import { hostOf, prefixesOf } from '../../../support/leases.js';

const PREFIX = 'flannel.alpha.coreos.com/';
const HOST = hostOf({ publicIp: '172.30.0.11' });
const WALL_MS = Date.parse('2026-01-02T03:04:05.678Z');

interface Patch {
  readonly metadata?: { readonly annotations: Record<string, string> };
  readonly status?: { readonly conditions: readonly [Record<string, string>] };
}

/** One node, and what was said of it. */
class NodeServer {
  readonly patches: Patch[] = [];
  /** What the next patches end with. */
  readonly faults: KubeFault[] = [];
  annotations: Record<string, string> = { 'kubeadm.alpha.kubernetes.io/cri-socket': '/run/x.sock' };
  condition: Record<string, string> | undefined;
  podCidrs = ['10.244.1.0/24'];
  uid = 'uid-1';
  version = 10;

  patch(_path: string, patch: ApiObject): Promise<ApiObject> {
    const { metadata, status } = patch as Patch;
    const fault = this.faults.shift();
    if (fault !== undefined) return Promise.reject(fault);
    this.patches.push(patch);
    this.version++;
    Object.assign(this.annotations, metadata?.annotations);
    if (status !== undefined) this.condition = { ...this.condition, ...status.conditions[0] };
    return Promise.resolve(this.#object());
  }

  /** As a watch would tell it. */
  node(): KubeNode {
    return readNode(this.#object(), { prefix: PREFIX });
  }

  #object(): ApiObject {
    const { annotations, uid, version, podCidrs, condition } = this;
    return {
      metadata: { name: 'node1', uid, resourceVersion: String(version), annotations: { ...annotations } },
      spec: { podCIDRs: podCidrs },
      status: { conditions: condition === undefined ? [] : [condition] },
    };
  }
}

function open(
  server = new NodeServer(),
  { setsNetworkUnavailable = true, subnet = '10.244.1.0/24', host = HOST } = {},
) {
  const clock = new FakeClock();
  const log: string[] = [];
  const losses: OverlayError[] = [];
  const own = new OwnNode({
    client: { patch: (path, patch) => server.patch(path, patch) },
    prefix: PREFIX,
    subnets: prefixesOf(subnet),
    host,
    node: server.node(),
    hintedPublicIp: undefined,
    setsNetworkUnavailable,
    clock,
    random: () => 0.5,
    now: () => WALL_MS,
    log: pino({}, { write: (line: string) => log.push((JSON.parse(line) as { msg: string }).msg) }),
    onLost: (error) => losses.push(error),
  });
  return { own, server, clock, log, losses };
}

const fault = (status: number, retryAfterMs?: number): KubeFault =>
  new KubeFault(status, 'x', `cannot patch nodes/status: ${status}`, { retryAfterMs });

t.test('writes what flanneld writes, once, and the condition when packets flow', async (t) => {
  const { own, server } = open();
  await own.written();
  own.announce();
  await own.written();
  own.observe(server.node());
  await settle();
  const annotations = Object.fromEntries(
    Object.entries(udpAnnotations('172.30.0.11'))
      .sort()
      .map(([key, value]) => [PREFIX + key, value]),
  );
  t.strictSame(server.patches, [
    { metadata: { annotations } },
    {
      status: {
        conditions: [
          {
            type: 'NetworkUnavailable',
            status: 'False',
            reason: 'FlannelIsUp',
            message: 'Flannel is running on this node',
            lastHeartbeatTime: '2026-01-02T03:04:05Z',
            lastTransitionTime: '2026-01-02T03:04:05Z',
          },
        ],
      },
    },
  ]);
  await own.close();
});

t.test('a restart that differs in nothing writes nothing', async (t) => {
  const { own, server } = open();
  own.announce();
  await own.written();
  await own.close();
  server.patches.length = 0;
  const again = open(server);
  again.own.announce();
  await again.own.written();
  t.strictSame(server.patches, []);
  await again.own.close();
});

t.test('a condition of another network keeps the time of its transition', async (t) => {
  const server = new NodeServer();
  const since = '2025-01-01T00:00:00Z';
  server.condition = {
    type: 'NetworkUnavailable',
    status: 'False',
    reason: 'CalicoIsUp',
    lastTransitionTime: since,
  };
  const { own } = open(server);
  own.announce();
  await own.written();
  const written = server.patches.at(-1)!.status!.conditions[0];
  t.match(written, { reason: 'FlannelIsUp', lastTransitionTime: since });
  server.condition = { ...server.condition, status: 'True', reason: 'NoRouteCreated', message: '' };
  server.version++;
  own.observe(server.node());
  await own.written();
  t.match(server.condition, { status: 'False', lastTransitionTime: '2026-01-02T03:04:05Z' });
  await own.close();
});

t.test('--set-node-network-unavailable=false leaves the condition alone', async (t) => {
  const { own, server } = open(new NodeServer(), { setsNetworkUnavailable: false });
  own.announce();
  await own.written();
  t.equal(server.condition, undefined);
  await own.close();
});

t.test('faults are said, and tried again as the server wants it', async (t) => {
  const server = new NodeServer();
  server.faults.push(fault(0), fault(403), fault(429, 20_000));
  const { own, clock, log } = open(server);
  let isWritten = false;
  void own.written().then(() => (isWritten = true));
  await settle();
  t.strictSame(codesOf(own), ['lease-not-published']);
  await clock.advance(100);
  t.match(textsOf(own), [/node "node1" cannot be annotated: cannot patch nodes\/status: 403/]);
  await clock.advance(4000);
  t.equal(server.faults.length, 1, 'a refusal is not asked again at once');
  await clock.advance(1000);
  await clock.advance(19_000);
  t.equal(isWritten, false);
  await clock.advance(1000);
  t.equal(isWritten, true);
  t.strictSame(codesOf(own), []);
  t.equal(log.length, 3);
  t.match(own.counters, { writes: 1, writeFailures: 3 });
  await own.close();
});

t.test('whoever changes our annotations back is answered ever more slowly', async (t) => {
  const { own, server, clock } = open();
  await own.written();
  let changes = 0;
  for (let seconds = 0; seconds < 600; seconds++) {
    if (server.annotations[`${PREFIX}public-ip`] === '172.30.0.11') {
      server.annotations[`${PREFIX}public-ip`] = '203.0.113.9';
      server.version++;
      changes++;
      own.observe(server.node());
    }
    await clock.advance(1000);
  }
  t.ok(changes > 10 && changes < 25, `${changes} changes in 600 s`);
  t.equal(own.counters.overwritten, changes);
  await own.close();
});

t.test('an operator’s overwrite is followed while it stands', async (t) => {
  const { own, server, clock } = open();
  await own.written();
  const overwrite = async (address: string | undefined): Promise<string> => {
    const key = `${PREFIX}public-ip-overwrite`;
    if (address === undefined) delete server.annotations[key];
    else server.annotations[key] = address;
    server.version++;
    own.observe(server.node());
    await clock.advance(5000);
    return server.annotations[`${PREFIX}public-ip`];
  };
  t.equal(await overwrite('198.51.100.7'), '198.51.100.7');
  t.equal(await overwrite('nonsense'), '172.30.0.11');
  t.strictSame(codesOf(own), ['node-annotation-invalid']);
  t.equal(await overwrite(undefined), '172.30.0.11');
  t.strictSame(codesOf(own), []);
  await own.close();
});

t.test('a list from a cache that is behind our own write is not believed', async (t) => {
  const server = new NodeServer();
  const stale = server.node();
  const { own, clock } = open(server);
  await own.written();
  own.observe(stale);
  await settle();
  t.equal(server.patches.length, 1);
  await clock.advance(11_000);
  server.annotations = {};
  own.observe(stale); // etcd was restored
  await clock.advance(2000);
  t.equal(server.patches.length, 2);
  await own.close();
});

t.test('a list that shows a former node of our name is not believed either', async (t) => {
  const server = new NodeServer();
  const former = { ...server.node(), uid: 'uid-0', resourceVersion: '5', podCidrs: ['10.244.9.0/24'] };
  const { own, losses } = open(server);
  own.observe(former);
  await settle();
  t.strictSame(losses, []);
  await own.close();
});

t.test('what a list showed too early is believed when nothing newer comes', async (t) => {
  const server = new NodeServer();
  const restored = server.node();
  const { own, clock } = open(server);
  await own.written();
  server.annotations = {};
  own.observe(restored);
  await clock.advance(9_000);
  t.equal(server.patches.length, 1);
  await clock.advance(3_000);
  t.equal(server.patches.length, 2);
  own.observe(restored);
  await own.close();
  t.equal(clock.pending, 0);
});

t.test('another host that believes to be this node is said, and a single change is not', async (t) => {
  const { own, server, clock } = open();
  await own.written();
  const write = async (name: string, value: string): Promise<void> => {
    server.annotations[PREFIX + name] = value;
    server.version++;
    own.observe(server.node());
    await clock.advance(5000);
  };
  await write('public-ip-overwrite', '198.51.100.1');
  await write('public-ip-overwrite', '198.51.100.2');
  await write('public-ip', '203.0.113.9');
  t.strictSame(codesOf(own), [], 'an operator changes his mind, and errs once');
  t.equal(own.counters.overwritten, 1);
  await write('public-ip', '203.0.113.9');
  t.strictSame(textsOf(own), [
    'node "node1" is annotated by somebody else again and again: ' +
      'public-ip is "203.0.113.9": expected "198.51.100.2"',
  ]);
  t.strictSame(codesOf(own), ['lease-overwritten']);
  await clock.advance(120_000);
  t.strictSame(codesOf(own), []);
  await own.close();
});

t.test(
  'an address for this node that an operator gives or takes at run time waits for a restart',
  async (t) => {
    const { own, server } = open();
    await own.written();
    const give = (address: string): void => {
      server.annotations[`${PREFIX}node-public-ip`] = address;
      server.version++;
      own.observe(server.node());
    };
    give('198.51.100.1');
    t.strictSame(codesOf(own), ['node-annotation-changed']);
    t.match(textsOf(own), [
      /annotation node-public-ip is 198\.51\.100\.1, at the start it was none: restart/,
    ]);
    give('localhost');
    t.strictSame(codesOf(own), ['node-annotation-invalid']);
    delete server.annotations[`${PREFIX}node-public-ip`];
    server.version++;
    own.observe(server.node());
    t.strictSame(codesOf(own), []);
    await own.close();
  },
);

t.test('deleted and made anew', async (t) => {
  const { own, server, clock, losses } = open();
  await own.written();
  own.observe(undefined);
  t.strictSame(codesOf(own), ['node-missing']);
  server.uid = 'uid-2';
  server.annotations = {};
  server.podCidrs = [];
  server.version = 3; // of a server that began anew
  own.observe(server.node());
  t.strictSame(codesOf(own), ['pod-cidr-missing']);
  server.podCidrs = ['10.244.1.0/24'];
  server.version++;
  own.observe(server.node());
  await clock.advance(5000);
  t.strictSame(codesOf(own), []);
  t.equal(server.annotations[`${PREFIX}public-ip`], '172.30.0.11');
  t.equal(losses.length, 0);

  server.uid = 'uid-3';
  server.podCidrs = ['10.244.7.0/24'];
  own.observe(server.node());
  t.match(losses, [{ code: 'E_LEASE_LOST', message: /node "node1" has another subnet than 10.244.1.0\/24/ }]);
  await own.close();
});

t.test('publish() resolves when the new host stands there, and rejects at close()', async (t) => {
  const { own, server, clock } = open();
  await own.written();
  const publishing = own.publish(hostOf({ publicIp: '172.30.0.99' }));
  await clock.advance(5000);
  await publishing;
  t.equal(server.annotations[`${PREFIX}public-ip`], '172.30.0.99');
  server.faults.push(fault(500), fault(500));
  const last = own.publish(HOST);
  await settle();
  await Promise.all([t.rejects(last, { code: 'E_LEASE' }), own.close()]);
  await t.rejects(own.written(), { code: 'E_LEASE' });
  t.equal(clock.pending, 0);
});

t.test('a node of both families may be made anew with one podCIDR, and waits for the other', async (t) => {
  const server = new NodeServer();
  const [v4, v6] = ['10.244.1.0/24', 'fd00:244:0:1::/64'];
  server.podCidrs = [v6, v4];
  const host = hostOf({ publicIp: '172.30.0.11&fd30::11', backendType: 'host-gw' });
  const { own, losses } = open(server, { subnet: `${v4}&${v6}`, host });
  const made = (...podCidrs: string[]): void => {
    server.podCidrs = podCidrs;
    server.uid = `uid-${++server.version}`;
    own.observe(server.node());
  };
  made(v4);
  t.strictSame(textsOf(own), [`node "node1" has no IPv6 podCIDR any more: ${v4} and ${v6} stay in use`]);
  made('FD00:244::1:0:0:0:0/64');
  t.match(textsOf(own)[0], /has no IPv4 podCIDR any more/);
  made();
  t.match(textsOf(own)[0], /has no podCIDR any more/);
  made(v4, 'FD00:244:0:1:0:0:0:0/64');
  t.strictSame(codesOf(own), []);
  t.strictSame(losses, []);
  made(v4, 'fd00:244:0:2::/64');
  t.match(
    losses[0].message,
    /has another subnet than 10.244.1.0\/24 and fd00:244:0:1::\/64: its podCIDR is 10/,
  );
  await own.close();
});

t.test('an IPv6 address that an operator writes is followed as an IPv4 one is', async (t) => {
  const server = new NodeServer();
  server.podCidrs = ['fd00:244:0:1::/64'];
  const host = hostOf({ publicIp: 'fd30::11', backendType: 'host-gw' });
  const { own } = open(server, { subnet: 'fd00:244:0:1::/64', host });
  await own.written();
  const write = async (text: string): Promise<string | undefined> => {
    server.annotations[`${PREFIX}public-ipv6-overwrite`] = text;
    server.version++;
    own.observe(server.node());
    await own.written();
    return server.annotations[`${PREFIX}public-ipv6`];
  };
  t.equal(await write('2001:DB8:0::7'), '2001:db8::7');
  t.equal(await write('172.30.0.11'), 'fd30::11');
  t.strictSame(codesOf(own), ['node-annotation-invalid']);
  delete server.annotations[`${PREFIX}public-ipv6-overwrite`];
  server.annotations[`${PREFIX}public-ip-overwrite`] = 'nonsense of another family';
  server.version++;
  own.observe(server.node());
  t.strictSame(codesOf(own), []);
  t.equal(own.counters.overwritten, 0);
  t.equal(server.annotations[`${PREFIX}public-ip`], undefined);
  await own.close();
});
