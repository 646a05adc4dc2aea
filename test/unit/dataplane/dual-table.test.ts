// The table with leases of both families behind peers of both, against a naive one: a list of leases, of which the
// longest that covers an address wins.

import t from 'tap';
import { ofWords, wordsOf } from '../../../src/net/address-words.js';
import { MAX_ROWS, type Peer, RouteReader, RouteTable } from '../../../src/dataplane/route-table.js';
import { type Ipv4, ipv4 } from '../../../src/net/ipv4.js';
import { type Ipv6, ipv6, parseIpv6 } from '../../../src/net/ipv6.js';
import {
  type Address,
  formatAddress,
  formatPrefix,
  lastOf,
  parsePrefix,
  type Prefix,
  prefixContains,
  prefixOf,
} from '../../../src/net/prefix.js';
import { wholesOf } from '../../support/random.js';

interface Lease {
  readonly prefix: Prefix<Address>;
  readonly peer: Peer;
}

const PEERS_V4 = ipv4(0xac140000);
const PEERS_V6 = parseIpv6('2001:db8:7::')!;

function textOf(lease: Lease | undefined): string {
  if (lease === undefined) return 'none';
  const { prefix, peer } = lease;
  return `${formatPrefix(prefix)} ${formatAddress(peer.address)} ${peer.port} ${peer.mtuBytes}`;
}

/** What a reader finds, put together from what it gives. */
function found(reader: RouteReader, address: Address): Lease | undefined {
  const isV4 = typeof address === 'number';
  const row = isV4 ? reader.lookup(address) : reader.lookupWide(...wordsOf(address));
  if (row < 0) return undefined;
  const words = (first: number, rest: 'networkWord' | 'peerWord'): Ipv6 =>
    ofWords([first, reader[rest](row, 1), reader[rest](row, 2), reader[rest](row, 3)]);
  const network = reader.network(row);
  const peer = reader.peerAddress(row);
  return {
    prefix: {
      address: isV4 ? ipv4(network >>> 0) : words(network, 'networkWord'),
      length: reader.length(row),
    },
    peer: {
      address: reader.isPeerWide(row) ? words(peer, 'peerWord') : ipv4(peer >>> 0),
      port: reader.peerPort(row),
      mtuBytes: reader.peerMtu(row),
    },
  };
}

function expected(leases: Iterable<Lease>, address: Address): Lease | undefined {
  let best: Lease | undefined;
  for (const lease of leases) {
    if (prefixContains(lease.prefix, address) && lease.prefix.length > (best?.prefix.length ?? -1))
      best = lease;
  }
  return best;
}

function hasPeer(reader: RouteReader, address: Address): boolean {
  return typeof address === 'number' ? reader.hasPeer(address) : reader.hasWidePeer(...wordsOf(address));
}

/** The address `by` behind another; round the end of the family to its beginning. */
function behind(address: Address, by: number): Address {
  return typeof address === 'number'
    ? ipv4((address + by) >>> 0)
    : ipv6(BigInt.asUintN(128, address + BigInt(by)));
}

for (const [v4, v6, lengths] of [
  ['10.5.0.0/16', 'fd00:5::/48', [49, 128]],
  ['10.0.0.0/8', '2001:db8::/32', [64, 64]],
  ['0.0.0.0/1', '::/0', [0, 128]],
  ['10.5.5.0/24', 'fd00:5::/96', [97, 128]],
] as const) {
  t.test(`RouteTable in ${v4} and ${v6} equals a naive model through 2,500 random changes`, (t) => {
    const random = wholesOf(v6.length * 7919);
    const networks = { v4: parsePrefix(v4)!, v6: parsePrefix(v6, 6)! };
    const table = new RouteTable(networks);
    const reader = new RouteReader(table.buffer, 0);
    const leases = new Map<string, Lease>();
    const word = (): number => random(2 ** 32);
    const anywhereV4 = (): Ipv4 =>
      ipv4((networks.v4.address | (word() & ~(-1 << Math.min(31, 32 - networks.v4.length)))) >>> 0);
    const anywhereV6 = (): Ipv6 => {
      const host =
        (BigInt(word()) << 96n) | (BigInt(word()) << 64n) | (BigInt(word()) << 32n) | BigInt(word());
      return ipv6(networks.v6.address | BigInt.asUintN(128 - networks.v6.length, host));
    };
    const anyPeer = (): Peer => {
      const address = random(2) === 0 ? behind(PEERS_V4, random(20)) : behind(PEERS_V6, random(20));
      return { address, port: 8285 + random(2), mtuBytes: 1300 + random(3) };
    };
    const anyPrefix = (): Prefix<Address> => {
      const known = [...leases.values()];
      const near =
        known.length > 0 && random(2) === 0 ? known[random(known.length)].prefix.address : undefined;
      if (typeof near === 'bigint' || (near === undefined && random(3) > 0))
        return prefixOf(near ?? anywhereV6(), lengths[0] + random(lengths[1] - lengths[0] + 1));
      return prefixOf(near ?? anywhereV4(), networks.v4.length + random(33 - networks.v4.length));
    };
    for (let i = 0; i < 2500; i++) {
      const known = [...leases.values()];
      const kind = random(10);
      if (kind < 6 || known.length === 0) {
        const lease = { prefix: anyPrefix(), peer: anyPeer() };
        const row = table.set(lease.prefix, lease.peer);
        leases.set(formatPrefix(lease.prefix), lease);
        if (textOf(table.row(row)) !== textOf(lease))
          return t.fail(`row ${row} is ${textOf(table.row(row))}`);
      } else if (kind < 9) {
        const { prefix } = known[random(known.length)];
        t.ok(table.delete(prefix));
        leases.delete(formatPrefix(prefix));
      } else {
        const { address } = known[random(known.length)].peer;
        const mtuBytes = 1000 + random(400);
        t.ok(table.setPeerMtu(address, mtuBytes));
        for (const [key, lease] of leases) {
          if (lease.peer.address === address)
            leases.set(key, { ...lease, peer: { ...lease.peer, mtuBytes } });
        }
      }
      if (random(4) !== 0) continue;
      t.ok(table.publish());
      const now = [...leases.values()];
      const edges = Array.from({ length: 20 }, () => now[random(now.length)])
        .filter((lease) => lease !== undefined)
        .flatMap(({ prefix }) => [
          prefix.address,
          behind(prefix.address, -1),
          lastOf(prefix),
          behind(lastOf(prefix), 1),
        ]);
      const addresses = [...edges, anywhereV4(), anywhereV6(), ipv4(0), ipv6(0n), ipv6(2n ** 128n - 1n)];
      reader.enter();
      for (const address of addresses) {
        const [is, should] = [textOf(found(reader, address)), textOf(expected(now, address))];
        if (is !== should) return t.fail(`${formatAddress(address)} after ${i}: ${is}, expected ${should}`);
      }
      for (let p = 0; p < 42; p++) {
        const address = p < 21 ? behind(PEERS_V4, p) : behind(PEERS_V6, p - 21);
        const should = now.some(({ peer }) => peer.address === address);
        if (hasPeer(reader, address) !== should) return t.fail(`peer ${formatAddress(address)} after ${i}`);
      }
      reader.leave();
    }
    t.equal(table.size, leases.size);
    t.end();
  });
}

t.test('RouteTable holds 65,536 leases of IPv6, and all are gone when they are deleted', (t) => {
  const table = new RouteTable({ v6: parsePrefix('fd00:5::/32', 6)! });
  const reader = new RouteReader(table.buffer, 0);
  const network = parsePrefix('fd00:5::/32', 6)!.address;
  const subnet = (i: number): Prefix<Ipv6> => ({ address: ipv6(network | (BigInt(i) << 64n)), length: 64 });
  const peer = (i: number): Ipv6 => ipv6(PEERS_V6 + BigInt(i));
  for (let i = 0; i < MAX_ROWS; i++) table.set(subnet(i), { address: peer(i), port: 8285, mtuBytes: 1452 });
  t.ok(table.publish());
  t.throws(() => table.set(subnet(MAX_ROWS), { address: peer(1), port: 1, mtuBytes: 1 }), RangeError);
  reader.enter();
  let wrong = 0;
  for (let i = 0; i < MAX_ROWS; i++) {
    const lease = found(reader, ipv6(subnet(i).address + 77n));
    if (lease?.peer.address !== peer(i) || !hasPeer(reader, peer(i))) wrong++;
  }
  reader.leave();
  t.equal(wrong, 0);
  for (let i = 0; i < MAX_ROWS; i++) table.delete(subnet(i));
  t.ok(table.publish());
  t.ok(table.settle());
  reader.enter();
  for (let i = 0; i < MAX_ROWS; i += 100)
    if (found(reader, subnet(i).address) !== undefined || hasPeer(reader, peer(i))) wrong++;
  reader.leave();
  t.equal(wrong, 0);
  t.end();
});

t.test('RouteTable.set() refuses a prefix of a family that the network has not, or outside it', (t) => {
  const peer = { address: PEERS_V6, port: 8285, mtuBytes: 1452 };
  const refuse = (table: RouteTable, prefix: Prefix<Address>, message: RegExp): void =>
    void t.throws(() => table.set(prefix, peer), message);
  const four = new RouteTable({ v4: parsePrefix('10.5.0.0/16')! });
  const six = new RouteTable({ v6: parsePrefix('fd00:5::/48', 6)! });
  const both = new RouteTable({ v4: parsePrefix('10.5.0.0/16')!, v6: parsePrefix('fd00:5::/48', 6)! });
  const outside = parsePrefix('fd00:6::/64', 6)!;
  refuse(four, parsePrefix('fd00:5::/64', 6)!, /fd00:5::\/64 is no prefix inside 10\.5\.0\.0\/16$/);
  refuse(six, parsePrefix('10.5.1.0/24')!, /10\.5\.1\.0\/24 is no prefix inside fd00:5::\/48$/);
  refuse(both, outside, /fd00:6::\/64 is no prefix inside 10\.5\.0\.0\/16 and fd00:5::\/48$/);
  refuse(both, { address: ipv6(outside.address - 1n), length: 64 }, /is no prefix/);
  t.equal(four.size + six.size + both.size, 0);
  t.end();
});

t.test('a lease that goes over to a peer of the other outer family keeps its row', (t) => {
  const table = new RouteTable(parsePrefix('10.5.0.0/16')!);
  const reader = new RouteReader(table.buffer, 0);
  const prefix = parsePrefix('10.5.2.0/24')!;
  for (const address of [PEERS_V4, PEERS_V6, PEERS_V4, PEERS_V6]) {
    t.equal(table.set(prefix, { address, port: 8285, mtuBytes: 1452 }), 0);
    t.ok(table.publish());
    reader.enter();
    t.equal(found(reader, ipv4(prefix.address + 9))?.peer.address, address);
    t.equal(hasPeer(reader, PEERS_V4), address === PEERS_V4);
    t.equal(hasPeer(reader, PEERS_V6), address === PEERS_V6);
    reader.leave();
  }
  t.end();
});

t.test('ofWords() is the inverse of wordsOf()', (t) => {
  for (const text of [
    '::',
    '::1',
    'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff',
    '8000::8000:0',
    'fd00:5:1:2:3:4:5:6',
  ]) {
    const address = parseIpv6(text)!;
    t.equal(ofWords(wordsOf(address)), address, text);
  }
  t.strictSame(wordsOf(parseIpv6('fd00:5:1:2:8000::7')!), [0xfd000005 | 0, 0x00010002, 0x80000000 | 0, 7]);
  t.end();
});
