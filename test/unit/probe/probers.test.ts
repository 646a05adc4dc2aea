// Two probers on one socket, or none and why.

import t from 'tap';
import { type Ipv4, ipv4, parseIpv4 } from '../../../src/net/ipv4.js';
import { randomOf } from '../../support/random.js';
import { type OpenIcmp, Probers, type ProbersOptions } from '../../../src/probe/probers.js';

interface Peer {
  readonly id: string;
  readonly publicIp: Ipv4;
  readonly lease: string;
}

const PEER: Peer = { id: 'a', publicIp: parseIpv4('192.0.2.7')!, lease: '10.5.7.0/24' };

function setUp() {
  const host = { fullBytes: 1500, peers: [PEER], isClosed: false };
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
  t.same(probers.reachabilityOf('a'), { state: 'unknown', reason: 'path probes are switched off' });
  t.strictSame(probers.conditions(), [], 'not open is no fault');
  await probers.open(open);
  t.equal(probers.by, 'raw-socket');
  t.match(probers.reachabilityOf('a'), { state: 'unknown' });
  t.match(probers.reachabilityOf('b'), { state: 'unknown', reason: 'just come' });
  t.same(probers.pathOf(PEER.publicIp), {});
  t.match(probers.peerCounts(), { total: 1, unknown: 1, unreachable: 0 });
  t.strictSame([...probers.conditions(), ...probers.peerConditions()], []);
  t.ok(probers.metrics().some(({ name }) => name === 'peers_reachability'));
  probers.change([PEER.id], []);
  t.equal(probers.pathOf(PEER.publicIp), undefined);
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
  t.same(probers.reachabilityOf('a'), { state: 'unknown', reason });
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

t.test('Probers.change() leaves what a look at all peers would', async (t) => {
  const random = randomOf(7);
  const pick = (count: number): number => Math.floor(random() * count);
  const { probers, open } = setUp();
  await probers.open(open);
  const peers = new Map([[PEER.id, PEER]]);
  for (let round = 0; round < 500; round++) {
    const gone = [...peers.keys()].filter(() => pick(3) === 0);
    for (const id of gone) peers.delete(id);
    const come = Array.from({ length: pick(4) }, () => {
      // Few addresses: several peers have one.
      const id = String(pick(6));
      return { id, publicIp: ipv4(1 + pick(4)), lease: `of ${id}` };
    });
    for (const peer of come) peers.set(peer.id, peer);
    const isLast = new Map(come.map((peer) => [peer.id, peer]));
    probers.change(
      gone.filter((id) => !isLast.has(id)),
      isLast.values(),
    );

    const addresses = new Set(Array.from(peers.values(), ({ publicIp }) => publicIp));
    for (let address = 1; address <= 4; address++)
      t.equal(probers.pathOf(ipv4(address)) !== undefined, addresses.has(ipv4(address)));
    t.equal(probers.peerCounts()?.total, peers.size);
  }
  probers.close();
});
