// Two probers on one socket, or none and why.

import t from 'tap';
import { ipv4, parseIpv4 } from '../../../src/net/ipv4.js';
import { ipv6 } from '../../../src/net/ipv6.js';
import { OverlayProber, type OverlayPeer } from '../../../src/probe/overlay-prober.js';
import { PathProber } from '../../../src/probe/path-prober.js';
import { type OpenIcmp, Probers, type ProbersOptions } from '../../../src/probe/probers.js';
import { randomOf } from '../../support/random.js';

type Peer = OverlayPeer<string>;

const PEER: Peer = { id: 'a', ways: [parseIpv4('192.0.2.7')!], lease: '10.5.7.0/24' };

function setUp(peers: readonly Peer[] = [PEER]) {
  const host = { fullBytes: 1500, peers, isClosed: false };
  const options: ProbersOptions<string> = {
    families: ['v4'],
    peers: () => host.peers,
    fullBytes: () => host.fullBytes,
    onPathMtu: () => undefined,
    targetOf: () => ipv4(0x0a050700),
    packetsOf: () => undefined,
    takeBusy: () => [],
    nameOf: (lease) => lease,
  };
  const sender = { send: () => undefined, close: () => (host.isClosed = true) };
  const open: OpenIcmp = () => Promise.resolve({ sender, by: 'raw-socket' });
  return { host, probers: new Probers(options), open };
}

t.test('Probers report of peers, and close the socket', async (t) => {
  const { host, probers, open } = setUp();
  t.equal(probers.by, 'off');
  t.same(probers.statusOf('a'), {
    reachability: { state: 'unknown', reason: 'path probes are switched off' },
  });
  t.strictSame(probers.conditions(), [], 'not open is no fault');
  await probers.open(open);
  t.equal(probers.by, 'raw-socket');
  t.same(probers.statusOf('a'), { path: {}, reachability: { state: 'unknown', reason: 'just asked' } });
  t.same(probers.statusOf('b'), { reachability: { state: 'unknown', reason: 'just come' } });
  t.match(probers.peerCounts(), { total: 1, unknown: 1, unreachable: 0 });
  t.strictSame([...probers.conditions(), ...probers.peerConditions()], []);
  t.ok(probers.metrics().some(({ name }) => name === 'peers_reachability'));
  probers.change([PEER.id], []);
  t.equal(probers.statusOf(PEER.id).path, undefined);
  host.fullBytes = 1400;
  probers.interfaceChanged();
  probers.close();
  t.ok(host.isClosed);
  t.doesNotThrow(() => probers.close());
});

t.test('Probers without a socket say so, and nothing else', async (t) => {
  const { probers } = setUp();
  await probers.open(() => Promise.reject(new Error('no raw ICMP socket: CAP_NET_RAW is needed')));
  const reason = 'path probes are off: no raw ICMP socket: CAP_NET_RAW is needed';
  t.equal(probers.by, 'off');
  t.match(probers.conditions(), [{ code: 'probes-off', text: reason }]);
  probers.change([], [PEER]);
  t.same(probers.statusOf('a'), { reachability: { state: 'unknown', reason } });
  t.equal(probers.peerCounts(), undefined);
  t.strictSame(probers.metrics(), []);
  probers.close();
});

t.test('Probers.open() closes the socket of an overlay that was closed meanwhile', async (t) => {
  const { host, probers, open } = setUp();
  const opening = probers.open(open);
  probers.close();
  await opening;
  t.ok(host.isClosed);
  t.equal(probers.by, 'off');
});

t.test('OverlayProber.changePeers() tells a PathProber what a look at all peers would', (t) => {
  const random = randomOf(7);
  const pick = (count: number): number => Math.floor(random() * count);
  const sender = { send: () => undefined, close: () => undefined };
  const shared = { sender, now: () => 0, randomBytes: (bytes: number) => Buffer.alloc(bytes) };
  const overlay = new OverlayProber<string>({
    ...shared,
    targetOf: () => undefined,
    packetsOf: () => undefined,
    takeBusy: () => [],
    hostAnswer: () => 'none',
  });
  const path = new PathProber({ ...shared, fullBytes: () => 1500, onPathMtu: () => undefined, random });
  const peers = new Map<string, Peer>();
  for (let round = 0; round < 500; round++) {
    const gone = [...peers.keys()].filter(() => pick(3) === 0);
    for (const id of gone) peers.delete(id);
    const come = Array.from({ length: pick(4) }, () => {
      // Few addresses: several peers have one.
      const [v4, v6] = [ipv4(1 + pick(4)), ipv6(BigInt(1 + pick(4)))];
      const id = String(pick(6));
      return { id, ways: [[v4], [v6], [v4, v6], []][pick(4)], lease: `of ${id}` };
    });
    for (const peer of come) peers.set(peer.id, peer);
    const isLast = new Map(come.map((peer) => [peer.id, peer]));
    const changes = overlay.changePeers(
      gone.filter((id) => !isLast.has(id)),
      isLast.values(),
    );
    path.changePeers(changes.left, changes.come);

    const ways = Array.from(peers.values(), (peer) => peer.ways).flat();
    for (let number = 1; number <= 4; number++)
      for (const address of [ipv4(number), ipv6(BigInt(number))])
        t.equal(path.report(address) !== undefined, ways.includes(address));
    t.equal(overlay.wayCount, ways.length);
    for (const { id, ways } of peers.values())
      t.strictSame(
        overlay.reportsOf(id).map(({ publicIp }) => publicIp),
        ways,
      );
    const counted = Object.values(overlay.summary()).reduce((sum, count) => sum + count);
    t.equal(counted, [...peers.values()].filter(({ ways }) => ways.length > 0).length);
  }
  t.end();
});

t.test('Probers.statusOf() has both ways of a peer, where there are two', async (t) => {
  const { probers, open } = setUp([{ ...PEER, ways: [ipv4(7), ipv6(7n)] }]);
  await probers.open(open);
  const reachability = { state: 'unknown', reason: 'just asked' } as const;
  t.strictSame(probers.statusOf('a'), {
    path: {},
    paths: { v4: {}, v6: {} },
    reachability,
    reachabilities: { v4: reachability, v6: reachability },
  });
  t.match(probers.peerCounts(), { total: 1, unknown: 1 });
  probers.close();
});
