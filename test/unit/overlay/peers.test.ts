// From the store's report to the backend: what is judged unfit is said, and the rest arrives.

import pino from 'pino';
import t from 'tap';
import type { LeaseUpdate } from '../../../src/lease/lease.js';
import { parseIpv4 } from '../../../src/net/ipv4.js';
import { parseIpv6 } from '../../../src/net/ipv6.js';
import { parsePrefix } from '../../../src/net/prefix.js';
import { Peers } from '../../../src/overlay/peers.js';
import { FakeBackend, FakeHost } from '../../support/fake-host.js';
import { leaseOf, type LeaseWords } from '../../support/leases.js';

const NETWORK = parsePrefix('10.5.0.0/16')!;
const OWN = { subnet: '10.5.1.0/24', publicIp: '172.20.0.1', created: 1n };
const OTHER = { subnet: '10.5.2.0/24', publicIp: '172.20.0.2', created: 2n };
const INSIDE = { subnet: '10.5.2.0/26', publicIp: '172.20.0.4', created: 4n };

function setUp() {
  const lines: Record<string, unknown>[] = [];
  const write = (line: string): void => void lines.push(JSON.parse(line) as Record<string, unknown>);
  const host = new FakeHost(OWN.publicIp);
  // Of what a backend is made with, the fake one looks at the interface alone, and Peers asks for none of it.
  const backend = new FakeBackend(host, { iface: { mtuBytes: 1500 } } as FakeBackend['context']);
  const peers = new Peers({
    judge: {
      networks: { v4: NETWORK },
      leasable: { v4: { first: parseIpv4('10.5.0.0')!, last: parseIpv4('10.5.255.255')! } },
      own: { v4: parsePrefix(OWN.subnet)! },
      ownPublicIp: { v4: parseIpv4(OWN.publicIp)! },
    },
    backend,
    fullBytes: () => 1500,
    log: pino({}, { write }),
  });
  t.teardown(() => peers.close());
  return { lines, backend, peers };
}

function snapshot(...leases: readonly LeaseWords[]): LeaseUpdate {
  return { kind: 'snapshot', leases: leases.map(leaseOf) };
}

t.test('Peers.apply() hands on the first snapshot even when it is empty', (t) => {
  const { backend, peers, lines } = setUp();
  peers.ownPublicIpIs({ v4: parseIpv4('172.20.0.9')! });
  t.equal(backend.applied, 0, 'nothing is known yet, which is not that there is nobody');
  peers.ownPublicIpIs({ v4: parseIpv4(OWN.publicIp)! });
  peers.apply(snapshot(OWN));
  t.equal(backend.applied, 1);
  t.match(lines, [{ msg: 'leases changed', added: 0, changed: 0, removed: 0 }]);
  t.end();
});

t.test('Peers.apply() names what it uses, and what it does not', (t) => {
  const { backend, peers, lines } = setUp();
  const bogus = { subnet: '10.5.9.0/24', publicIp: '127.0.0.1' };
  peers.apply(snapshot(OWN, OTHER, INSIDE, bogus));
  t.strictSame([...backend.peers.keys()], ['10.5.2.0-24', '10.5.2.0-26']);
  t.match(lines, [
    { msg: 'lease refused: 10.5.9.0/24 of 127.0.0.1: public IP cannot be a host’s', lease: '10.5.9.0-24' },
    { msg: 'leases changed', added: 2, peers: '10.5.2.0/24 of 172.20.0.2, 10.5.2.0/26 of 172.20.0.4' },
  ]);
  t.strictSame(
    peers.conditions().map(({ code }) => code),
    ['lease-refused', 'lease-nested'],
  );
  t.match(peers.status(), {
    peers: [{ subnet: '10.5.2.0/24', reachability: { state: 'unknown' } }, { subnet: '10.5.2.0/26' }],
    refusedLeases: [{ key: '10.5.9.0-24', code: 'bad-public-ip' }],
    alarms: [/10\.5\.2\.0\/26/],
  });
  t.match(peers.metrics()[0], { name: 'leases_refused', values: [{ value: 1 }] });
  t.end();
});

t.test('Peers.ownPublicIpIs() judges all leases anew', async (t) => {
  const { backend, peers } = setUp();
  peers.apply(snapshot(OWN, OTHER));
  peers.ownPublicIpIs({ v4: parseIpv4(OTHER.publicIp)! });
  while (backend.peers.size > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  t.strictSame(
    peers.conditions().map(({ code }) => code),
    ['lease-refused'],
  );
});

t.test('Peers.interfaceChanged() has the probers follow the ways of the backend', async (t) => {
  const { backend, peers } = setUp();
  peers.apply(snapshot(OWN, OTHER));
  const sender = { send: () => undefined, close: () => undefined };
  await peers.probers.open(() => Promise.resolve({ sender, by: 'raw-socket' }));
  const pathsOf = () => peers.status().peers.map(({ path, paths }) => paths ?? path);
  t.strictSame(pathsOf(), [{}]);
  backend.waysTo = ({ host: { publicIp } }) => [publicIp.v4!, parseIpv6('fd00:99::2')!];
  peers.interfaceChanged();
  t.strictSame(pathsOf(), [{ v4: {}, v6: {} }]);
  t.equal(peers.status().peerCounts?.total, 1);
});
