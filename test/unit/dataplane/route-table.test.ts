// The table against a naive one: a list of leases, of which the longest that covers an address wins.

import t from 'tap';
import { Worker } from 'node:worker_threads';
import { MAX_ROWS, type Peer, RouteReader, RouteTable } from '../../../src/dataplane/route-table.js';
import { MAX_READERS } from '../../../src/dataplane/table-readers.js';
import { type Ipv4, ipv4 } from '../../../src/net/ipv4.js';
import {
  type Address,
  formatPrefix,
  lastOf,
  parsePrefix,
  type Prefix,
  prefixContains,
  prefixOf,
} from '../../../src/net/prefix.js';
import { wholesOf } from '../../support/random.js';

class Model {
  readonly leases = new Map<string, { prefix: Prefix; peer: Peer }>();

  lookup(address: Ipv4): { prefix: Prefix; peer: Peer } | undefined {
    let best: { prefix: Prefix; peer: Peer } | undefined;
    for (const lease of this.leases.values()) {
      if (prefixContains(lease.prefix, address) && lease.prefix.length > (best?.prefix.length ?? -1))
        best = lease;
    }
    return best;
  }

  hasPeer(address: Ipv4): boolean {
    return [...this.leases.values()].some(({ peer }) => peer.address === address);
  }
}

function peerOf(address: number, mtuBytes = 1472): Peer {
  return { address: ipv4(address >>> 0), port: 8285, mtuBytes };
}

function compare(table: RouteTable, reader: RouteReader, model: Model, addresses: readonly Ipv4[]): string[] {
  const faults: string[] = [];
  reader.enter();
  for (const address of addresses) {
    const row = reader.lookup(address | 0);
    const expected = model.lookup(address);
    const found = row < 0 ? undefined : table.row(row);
    const text = (lease: { prefix: Prefix<Address> } | undefined): string =>
      lease === undefined ? 'none' : formatPrefix(lease.prefix);
    if (text(found) !== text(expected))
      faults.push(`${address.toString(16)}: ${text(found)}, expected ${text(expected)}`);
    else if (expected !== undefined) {
      const read = [
        reader.peerAddress(row) >>> 0,
        reader.peerPort(row),
        reader.peerMtu(row),
        reader.network(row) >>> 0,
      ];
      const { peer, prefix } = expected;
      const wanted = [peer.address, peer.port, peer.mtuBytes, prefix.address];
      if (read.join() !== wanted.join()) faults.push(`row ${row}: ${read.join()}`);
    }
  }
  reader.leave();
  return faults;
}

for (const [network, lengths] of [
  ['10.5.0.0/16', [17, 32]],
  ['10.0.0.0/8', [9, 32]],
  ['10.5.5.0/24', [25, 32]],
  ['10.0.0.0/12', [24, 24]],
  ['0.0.0.0/1', [2, 32]],
] as const) {
  t.test(`RouteTable in ${network} equals a naive model through 3,000 random changes`, (t) => {
    const random = wholesOf(network.length * 7919);
    const whole = parsePrefix(network)!;
    const table = new RouteTable(whole);
    const reader = new RouteReader(table.buffer, 0);
    const model = new Model();
    const anywhere = (): Ipv4 => ipv4((whole.address + random(2 ** Math.min(31, 32 - whole.length))) >>> 0);
    for (let i = 0; i < 3000; i++) {
      const known = [...model.leases.values()];
      const kind = random(10);
      if (kind < 6 || known.length === 0) {
        const length = lengths[0] + random(lengths[1] - lengths[0] + 1);
        const near =
          known.length > 0 && random(2) === 0 ? known[random(known.length)].prefix.address : anywhere();
        const prefix = prefixOf(near, length);
        const peer = peerOf(0xac140000 + random(40), 1300 + random(3));
        table.set(prefix, peer);
        model.leases.set(formatPrefix(prefix), { prefix, peer });
      } else if (kind < 9) {
        const { prefix } = known[random(known.length)];
        table.delete(prefix);
        model.leases.delete(formatPrefix(prefix));
      } else {
        const { address } = known[random(known.length)].peer;
        const mtuBytes = 1000 + random(400);
        table.setPeerMtu(address, mtuBytes);
        for (const [key, lease] of model.leases) {
          if (lease.peer.address === address)
            model.leases.set(key, { ...lease, peer: { ...lease.peer, mtuBytes } });
        }
      }
      if (random(3) !== 0) continue;
      t.ok(table.publish());
      const edges = known.flatMap(({ prefix }) => [
        prefix.address,
        lastOf(prefix),
        ipv4((prefix.address + 2 ** (32 - prefix.length)) >>> 0),
      ]);
      const addresses = [
        ...edges.slice(0, 60),
        ...Array.from({ length: 20 }, anywhere),
        ipv4(0x08080808),
        ipv4(0),
      ];
      const faults = compare(table, reader, model, addresses);
      if (faults.length > 0) return t.fail(`after ${i} changes`, { faults });
      reader.enter();
      for (let p = 0; p < 45; p++) {
        const address = ipv4(0xac140000 + p);
        if (reader.hasPeer(address | 0) !== model.hasPeer(address))
          return t.fail(`hasPeer(${address}) after ${i} changes`);
      }
      reader.leave();
    }
    t.equal(table.size, model.leases.size);
    t.end();
  });
}

t.test('RouteTable holds 65,536 subnets, and not one more', (t) => {
  const table = new RouteTable(parsePrefix('10.0.0.0/8')!);
  for (let i = 0; i < MAX_ROWS; i++)
    table.set({ address: ipv4(0x0a000000 + i * 256), length: 24 }, peerOf(0xac000000 + i));
  t.ok(table.publish());
  t.throws(() => table.set(parsePrefix('10.0.0.0/25')!, peerOf(1)), RangeError);
  const reader = new RouteReader(table.buffer, 0);
  reader.enter();
  let wrong = 0;
  for (let i = 0; i < MAX_ROWS; i++) {
    const row = reader.lookup((0x0a000000 + i * 256 + 77) | 0);
    if (reader.peerAddress(row) >>> 0 !== 0xac000000 + i || !reader.hasPeer((0xac000000 + i) | 0)) wrong++;
  }
  reader.leave();
  t.equal(wrong, 0);
  for (let i = 0; i < MAX_ROWS; i++) table.delete({ address: ipv4(0x0a000000 + i * 256), length: 24 });
  t.ok(table.publish());
  reader.enter();
  t.equal(reader.lookup(0x0a000001), -1);
  t.notOk(reader.hasPeer(0xac000001 | 0));
  reader.leave();
  t.end();
});

t.test('RouteTable.set() refuses what lies outside', (t) => {
  const table = new RouteTable(parsePrefix('10.5.0.0/16')!);
  t.throws(
    () => table.set(parsePrefix('10.6.0.0/24')!, peerOf(1)),
    /10\.6\.0\.0\/24 is no prefix inside 10\.5\.0\.0\/16/,
  );
  t.throws(() => table.set({ address: ipv4(0x0a050001), length: 24 }, peerOf(1)), RangeError);
  t.equal(table.size, 0);
  t.end();
});

t.test('nothing is seen before publish(), and a publication is seen whole', (t) => {
  const table = new RouteTable(parsePrefix('10.5.0.0/16')!);
  const reader = new RouteReader(table.buffer, 3);
  const prefix = parsePrefix('10.5.2.0/24')!;
  table.set(prefix, peerOf(1));
  const seen = (): number => {
    reader.enter();
    const row = reader.lookup(0x0a050205);
    reader.leave();
    return row;
  };
  t.equal(seen(), -1);
  table.publish();
  t.equal(seen(), 0);
  table.delete(prefix);
  t.equal(seen(), 0);
  table.publish();
  t.equal(seen(), -1);
  t.end();
});

t.test('publish() leaves a side alone while a reader is in it', (t) => {
  const table = new RouteTable(parsePrefix('10.5.0.0/16')!);
  const reader = new RouteReader(table.buffer, 0);
  table.set(parsePrefix('10.5.2.0/24')!, peerOf(1));
  t.ok(table.publish());
  reader.enter();
  table.set(parsePrefix('10.5.3.0/24')!, peerOf(2));
  t.ok(table.publish(), 'the other side is free');
  table.set(parsePrefix('10.5.4.0/24')!, peerOf(3));
  t.notOk(table.publish(), 'this one is not');
  t.equal(reader.lookup(0x0a050300), -1, 'the reader still has what it had');
  reader.leave();
  t.ok(table.publish());
  reader.enter();
  t.equal(reader.peerAddress(reader.lookup(0x0a050400)), 3);
  t.equal(reader.peerAddress(reader.lookup(0x0a050300)), 2);
  reader.leave();
  t.end();
});

/** A reader that ends inside a lookup: by an exception, by process.exit(), or when it is terminated from outside. */
async function dieInLookup(table: RouteTable, reader: number, end: string): Promise<void> {
  const source = `
    import { workerData, parentPort } from 'node:worker_threads';
    const { RouteReader } = await import(workerData.module);
    new RouteReader(workerData.buffer, workerData.reader).enter();
    parentPort.postMessage('inside');
    ${end}`;
  const module = new URL('../../../dist/dataplane/route-table.js', import.meta.url).href;
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`), {
    workerData: { buffer: table.buffer, reader, module },
    execArgv: [],
  });
  worker.on('error', () => undefined);
  const exited = new Promise((resolve) => worker.once('exit', resolve));
  await new Promise((resolve) => worker.once('message', resolve));
  if (end.startsWith('for')) await worker.terminate();
  await exited;
}

for (const [how, end] of [
  ['throws', 'throw new Error("inside a lookup");'],
  ['exits', 'process.exit(1);'],
  ['is terminated', 'for (;;);'],
] as const) {
  t.test(`a reader that ${how} inside a lookup leaves an epoch that its successor mends`, async (t) => {
    const table = new RouteTable(parsePrefix('10.5.0.0/16')!);
    const change = (address: number): boolean => {
      table.set(parsePrefix('10.5.2.0/24')!, peerOf(address));
      return table.publish();
    };
    await dieInLookup(table, 0, end);
    t.ok(change(1), 'the dead one holds only one side');
    const reader = new RouteReader(table.buffer, 0);
    t.ok(change(2), 'its successor holds none');
    reader.enter();
    t.ok(change(3));
    t.notOk(change(4), 'the successor holds a side while it looks up');
    t.equal(reader.peerAddress(reader.lookup(0x0a050205)), 2);
    reader.leave();
    t.ok(table.publish(), 'and none when it has left');
    t.ok(change(5));
    t.ok(change(6));
    t.end();
  });

  t.test(`a reader that ${how} inside a lookup holds no publication up for good`, async (t) => {
    const table = new RouteTable(parsePrefix('10.5.0.0/16')!);
    const number = table.takeReader();
    await dieInLookup(table, number, end);
    for (const address of [1, 2]) {
      table.set(parsePrefix('10.5.2.0/24')!, peerOf(address));
      t.equal(table.publish(), address === 1);
    }
    table.returnReader(number);
    t.ok(table.publish(), 'nobody has taken its place');
    t.equal(table.takeReader(), number, 'the number is free again');
    t.end();
  });
}

t.test('RouteTable.takeReader() gives each number to one reader', (t) => {
  const table = new RouteTable(parsePrefix('10.5.0.0/16')!);
  const numbers = new Set(Array.from({ length: MAX_READERS }, () => table.takeReader()));
  t.equal(numbers.size, MAX_READERS);
  t.throws(() => table.takeReader(), RangeError);
  table.returnReader(7);
  t.equal(table.takeReader(), 7);
  t.throws(() => table.takeReader(), RangeError);
  t.end();
});

t.test('a thread that reads while another publishes never sees half a publication', async (t) => {
  // All leases always belong to one peer; a batch that sees two peers has seen a mixture.
  const table = new RouteTable(parsePrefix('10.5.0.0/16')!);
  const prefixes = Array.from({ length: 64 }, (_, i) => ({
    address: ipv4(0x0a050000 + i * 1024),
    length: 22,
  }));
  const setAll = (address: number): void => {
    for (const prefix of prefixes) table.set(prefix, peerOf(address));
  };
  setAll(1);
  table.publish();
  const stop = new Int32Array(new SharedArrayBuffer(8)); // and how many batches were read
  const source = `
    import { workerData, parentPort } from 'node:worker_threads';
    const { RouteReader } = await import(workerData.module);
    const reader = new RouteReader(workerData.buffer, 1);
    const stop = new Int32Array(workerData.stop);
    let batches = 0, mixtures = 0;
    const seen = new Set();
    do {
      reader.enter();
      const first = reader.peerAddress(reader.lookup(0x0a050000));
      for (let i = 1; i < 64; i++) {
        if (reader.peerAddress(reader.lookup(0x0a050000 + i * 1024 + 5)) !== first) mixtures++;
      }
      reader.leave();
      batches++;
      Atomics.store(stop, 1, batches);
      seen.add(first);
    } while (Atomics.load(stop, 0) === 0);
    parentPort.postMessage({ batches, mixtures, versions: seen.size });`;
  const module = new URL('../../../dist/dataplane/route-table.js', import.meta.url).href;
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`), {
    workerData: { buffer: table.buffer, stop: stop.buffer, module },
    execArgv: [],
  });
  const result = new Promise<{ batches: number; mixtures: number; versions: number }>((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  while (Atomics.load(stop, 1) === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  // The thread shares two cores with all that runs beside it.
  const endMs = performance.now() + 20_000;
  const isReadEnough = (): boolean => Atomics.load(stop, 1) > 1_000 || performance.now() > endMs;
  for (let version = 2; version < 3000 || !isReadEnough(); version++) {
    setAll(version);
    while (!table.publish());
  }
  Atomics.store(stop, 0, 1);
  const { batches, mixtures, versions } = await result;
  t.comment(`${batches} batches, ${versions} versions`);
  t.equal(mixtures, 0);
  t.ok(versions > 10);
});
