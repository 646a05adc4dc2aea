// The order of records: at each of them, every address has the answer of the table before the publication or after it.

import t from 'tap';
import { LaneTable } from '../../../src/dataplane/lane-table.js';
import { MAX_ROWS, type Peer, RouteTable } from '../../../src/dataplane/route-table.js';
import { LANE_RECORD, LANE_RECORD_WORDS } from '../../../src/native/counters.js';
import { type Ipv4, ipv4 } from '../../../src/net/ipv4.js';
import { parseIpv6 } from '../../../src/net/ipv6.js';
import { formatPrefix, parsePrefix, type Prefix, prefixContains, prefixOf } from '../../../src/net/prefix.js';
import { wholesOf } from '../../support/random.js';

const peerOf = (number: number, mtuBytes = 1472): Peer => ({
  address: ipv4((0xac140000 + number) >>> 0),
  port: 8285,
  mtuBytes,
});

const words = ({ address, port, mtuBytes }: Peer): string => `${address}:${port} mtu ${mtuBytes}`;

/** A longest-prefix map that is written as the kernel's is. */
class Trie {
  readonly entries = new Map<
    string,
    { readonly prefix: Prefix; readonly peer: Peer; readonly row: number }
  >();
  /** Rows whose peer was heard, by the trie's answer to its address. */
  readonly heard = new Set<number>();

  take(records: Int32Array, at: number): void {
    const [kind, network, length, address, port, mtuBytes, row] = records.subarray(
      at,
      at + LANE_RECORD_WORDS,
    );
    const prefix = { address: ipv4(network >>> 0), length };
    if (kind === LANE_RECORD.delete) return void this.entries.delete(formatPrefix(prefix));
    if (kind === LANE_RECORD.anotherLease) this.heard.delete(row);
    this.entries.set(formatPrefix(prefix), {
      prefix,
      peer: { address: ipv4(address >>> 0), port, mtuBytes },
      row,
    });
  }

  lookup(address: Ipv4): string {
    const covering = [...this.entries.values()].filter(({ prefix }) => prefixContains(prefix, address));
    const [longest] = covering.sort((a, b) => b.prefix.length - a.prefix.length);
    return longest === undefined ? 'none' : words(longest.peer);
  }
}

function follow(table: RouteTable): () => Int32Array[] {
  const changes = new LaneTable(table);
  let taken: Int32Array[] = [];
  table.follow((published) => {
    published.applyTo(changes);
    taken.push(changes.take());
  });
  return () => {
    const all = taken;
    taken = [];
    return all;
  };
}

const recordsOf = (records: Int32Array): string[] =>
  Array.from({ length: records.length / LANE_RECORD_WORDS }, (_none, i) => {
    const [kind, network, length, , , , row] = records.subarray(LANE_RECORD_WORDS * i);
    const name = kind === LANE_RECORD.delete ? 'delete' : kind === LANE_RECORD.set ? 'set' : 'set anew';
    return `${name} ${formatPrefix({ address: ipv4(network >>> 0), length })} row ${row}`;
  });

t.test('at every record an address has the answer of the table before or after', (t) => {
  for (let seed = 1; seed <= 40; seed++) {
    const random = wholesOf(seed);
    const network = parsePrefix('10.5.0.0/16')!;
    const table = new RouteTable(network);
    const take = follow(table);
    const trie = new Trie();
    // Few addresses and all lengths, so that leases are nested, and come and go and come again.
    const places = Array.from({ length: 6 }, () => ipv4((network.address + random(65536)) >>> 0));
    for (let publication = 0; publication < 25; publication++) {
      const samples = [...places, ...places.map((place) => ipv4((place ^ (1 << random(14))) >>> 0))];
      const before = samples.map((address) => trie.lookup(address));
      const changes = 1 + random(8);
      for (let i = 0; i < changes; i++) {
        const prefix = prefixOf(places[random(places.length)], 17 + random(16));
        const kind = random(5);
        if (kind < 3) table.set(prefix, peerOf(random(5), 1400 + random(2)));
        else if (kind === 3) table.delete(prefix);
        else table.setPeerMtu(peerOf(random(5)).address, 1300 + random(3));
      }
      const after = new Trie();
      for (let row = 0; row < table.rowLimit; row++) {
        const held = table.row(row);
        if (held === undefined) continue;
        const prefix = held.prefix as Prefix; // all leases of this table are of IPv4
        after.entries.set(formatPrefix(prefix), { prefix, peer: held.peer, row });
      }
      if (!table.publish()) return t.fail('a reader that does not exist holds the table');
      for (const records of take()) {
        for (let at = 0; at < records.length; at += LANE_RECORD_WORDS) {
          trie.take(records, at);
          for (const [i, address] of samples.entries()) {
            const answer = trie.lookup(address);
            if (answer === before[i] || answer === after.lookup(address)) continue;
            t.fail(`seed ${seed}, publication ${publication}, record ${at / LANE_RECORD_WORDS}`, {
              found: [answer, before[i], after.lookup(address)],
              records: recordsOf(records),
            });
            return t.end();
          }
        }
      }
      t.strictSame([...trie.entries.keys()].sort(), [...after.entries.keys()].sort());
      t.notOk(samples.some((address) => trie.lookup(address) !== after.lookup(address)));
    }
  }
  t.end();
});

t.test('sets before deletes, and a lease that came and went within one publication is deleted', (t) => {
  const table = new RouteTable(parsePrefix('10.5.0.0/16')!);
  const take = follow(table);
  const set = (prefix: string, peer: number): void => void table.set(parsePrefix(prefix)!, peerOf(peer));
  set('10.5.2.0/24', 2);
  set('10.5.3.0/24', 3);
  set('10.5.4.0/24', 4);
  table.delete(parsePrefix('10.5.4.0/24')!);
  t.ok(table.publish());
  t.strictSame(take().map(recordsOf), [
    ['set anew 10.5.2.0/24 row 0', 'set anew 10.5.3.0/24 row 1', 'delete 10.5.4.0/24 row 2'],
  ]);
  table.setPeerMtu(peerOf(2).address, 1300);
  t.ok(table.publish());
  t.strictSame(take().map(recordsOf), [['set 10.5.2.0/24 row 0']]);
  table.delete(parsePrefix('10.5.3.0/24')!);
  table.delete(parsePrefix('10.5.2.0/24')!);
  set('10.5.3.128/25', 5);
  set('10.5.0.0/17', 6);
  t.ok(table.publish());
  t.strictSame(
    take().map(recordsOf),
    [
      [
        'set anew 10.5.3.128/25 row 0',
        'set anew 10.5.0.0/17 row 1',
        'delete 10.5.3.0/24 row 1',
        'delete 10.5.2.0/24 row 0',
        'set anew 10.5.3.128/25 row 0',
        'set anew 10.5.0.0/17 row 1',
      ],
    ],
    'rows that changed hands are set again: their former leases were heard under their numbers until the deletes',
  );
  t.end();
});

t.test('a whole table of 65,536 leases', (t) => {
  const table = new RouteTable(parsePrefix('10.0.0.0/8')!);
  for (let i = 0; i < MAX_ROWS; i++)
    table.set({ address: ipv4(0x0a000000 + i * 256), length: 24 }, peerOf(i));
  t.ok(table.publish());
  const all = new LaneTable(table);
  all.insertAll();
  const records = all.take();
  t.equal(records.length, MAX_ROWS * LANE_RECORD_WORDS);
  t.equal(all.take().length, 0);
  t.end();
});

t.test('what goes over IPv6 is not in the map, and a lease whose peer moves there leaves it', (t) => {
  const table = new RouteTable({ v4: parsePrefix('10.5.0.0/16')!, v6: parsePrefix('fd00:5::/32', 6)! });
  const take = follow(table);
  const wide = { address: parseIpv6('2001:db8::1')!, port: 8285, mtuBytes: 1452 };
  const prefix = parsePrefix('10.5.2.0/24')!;
  const published = (): string[] => {
    table.publish();
    return take().flatMap((records) => [...records].join());
  };
  const row = table.set(prefix, peerOf(1));
  table.set(parsePrefix('fd00:5:0:2::/64', 6)!, peerOf(1));
  table.set(parsePrefix('10.5.3.0/24')!, wide);
  t.equal(published().length, 1);
  table.setPeerMtu(wide.address, 1300);
  t.strictSame(published(), ['']);
  table.set(prefix, wide);
  t.strictSame(published(), [[LANE_RECORD.delete, 0x0a050200, 24, 0, 0, 0, row].join()]);
  table.set(prefix, peerOf(1));
  t.match(published()[0], new RegExp(`,${0x0a050200},24,`));
  t.end();
});
