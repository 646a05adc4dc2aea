// Two probers on one socket, or none and why.

import t from 'tap';
import { type Ipv4, ipv4, parseIpv4 } from '../../../src/net/ipv4.js';
import { Probers, type ProbersOptions } from '../../../src/probe/probers.js';

interface Peer {
  readonly id: string;
  readonly publicIp: Ipv4;
  readonly lease: string;
}

const PEER: Peer = { id: 'a', publicIp: parseIpv4('192.0.2.7')!, lease: '10.5.7.0/24' };

function setUp(open: ProbersOptions<string>['open']) {
  const host = { fullBytes: 1500 };
  const options: ProbersOptions<string> = {
    fullBytes: () => host.fullBytes,
    onPathMtu: () => undefined,
    targetOf: () => ipv4(0x0a050700),
    packetsOf: () => undefined,
    nameOf: (lease) => lease,
    loadAddon: () => Promise.reject(new Error('not here')),
    ...(open === undefined ? {} : { open }),
  };
  return { host, options };
}

t.test('Probers report of peers, and close the socket', async (t) => {
  let isClosed = false;
  const sender = { send: () => undefined, close: () => (isClosed = true) };
  const { host, options } = setUp(() => Promise.resolve({ sender, by: 'raw-socket' }));
  const probers = await Probers.open(options);
  t.equal(probers.by, 'raw-socket');
  t.match(probers.reachabilityOf('a'), { state: 'unknown', reason: 'just come' });
  t.equal(probers.pathOf(PEER.publicIp), undefined);
  probers.setPeers(() => [PEER]);
  t.match(probers.reachabilityOf('a'), { state: 'unknown' });
  t.same(probers.pathOf(PEER.publicIp), {});
  t.match(probers.peerCounts(), { total: 1, unknown: 1, unreachable: 0 });
  t.strictSame([...probers.conditions(), ...probers.peerConditions()], []);
  t.ok(probers.metrics().some(({ name }) => name === 'peers_reachability'));
  host.fullBytes = 1400;
  probers.interfaceChanged();
  probers.start();
  probers.close();
  t.ok(isClosed);
  t.doesNotThrow(() => probers.close());
});

t.test('Probers without a socket say so, and nothing else', async (t) => {
  const { options } = setUp(() => Promise.reject(new Error('no raw ICMP socket: CAP_NET_RAW is needed')));
  const probers = await Probers.open(options);
  const reason = 'path probes are off: no raw ICMP socket: CAP_NET_RAW is needed';
  t.equal(probers.by, 'off');
  t.match(probers.conditions(), [{ code: 'probes-off', text: reason }]);
  probers.setPeers(() => [PEER]);
  probers.start();
  t.same(probers.reachabilityOf('a'), { state: 'unknown', reason });
  t.equal(probers.peerCounts(), undefined);
  t.strictSame(probers.metrics(), []);
  probers.close();

  const off = Probers.off(options);
  t.strictSame(off.conditions(), [], 'as the operator wants it');
  t.same(off.reachabilityOf('a'), { state: 'unknown', reason: 'path probes are switched off' });
  t.end();
});
