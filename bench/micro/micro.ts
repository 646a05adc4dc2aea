// Questions: what does a lookup cost, what does a table cost, and what do the addon's inner loops cost, each against
// the plain way to do it?
//
//   lookup   one destination among N leases: route-table.ts, a Map per prefix length, a scan of all leases (flanneld's
//            way). Random destinations, so that the table does not stay in the cache of the processor.
//   table    N leases into an empty table, published
//   native   see native.cc; timed in C++
//
// Unit: nanoseconds for one operation (the table: milliseconds for all of it). Benchmark.js repeats until its margin of
// error is small; the worst input of the lookup is the largest table.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Benchmark from 'benchmark';
import { RouteReader, RouteTable } from '../../src/dataplane/route-table.js';
import { type Ipv4, ipv4 } from '../../src/net/ipv4.js';
import { type Prefix, prefixKey, prefixOf } from '../../src/net/prefix.js';
import { addonSources } from '../../test/support/addon-sources.js';
import { PROJECT_ROOT } from '../../test/support/lab.js';
import { formatTable } from '../../test/support/measure.js';

const NETWORK: Prefix = { address: ipv4(10 << 24), length: 8 };
const SIZES = [100, 10_000, 65_536];
const PROBES = 1 << 16;

const leaseAt = (i: number): Prefix => ({ address: ipv4(((10 << 24) | (i << 8)) >>> 0), length: 24 });

function filled(size: number): RouteTable {
  const table = new RouteTable(NETWORK);
  for (let i = 0; i < size; i++)
    table.set(leaseAt(i), { address: ipv4(0x64400000 + i), port: 8285, mtuBytes: 1472 });
  table.publish();
  return table;
}

/** Destinations in the leases, in an order without a pattern; the same in every run. */
function destinations(size: number): Int32Array {
  let seed = 1;
  return Int32Array.from({ length: PROBES }, () => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fffffff;
    return leaseAt((seed >>> 8) % size).address + (seed & 255);
  });
}

function nanoseconds(name: string, work: () => void): string[] {
  let row: string[] = [];
  new Benchmark(name, work, { minSamples: 20, maxTime: 1 })
    .on('complete', (event: Benchmark.Event) => {
      const { mean, rme } = event.target.stats!;
      row = [name, (mean * 1e9).toFixed(1), `± ${rme.toFixed(1)} %`];
    })
    .on('error', (event: Benchmark.Event) => {
      throw (event.target as { error?: Error }).error ?? new Error(`${name} failed`);
    })
    .run();
  return row;
}

let found = 0; // results are used, so that no lookup is optimised away

function lookups(size: number): string[][] {
  const probes = destinations(size);
  const table = filled(size);
  const reader = new RouteReader(table.buffer, 0);
  reader.enter();
  const rows = new Map<number, number>();
  const networks = new Int32Array(size);
  for (let i = 0; i < size; i++) {
    rows.set(prefixKey(leaseAt(i)), i);
    networks[i] = leaseAt(i).address;
  }
  let at = 0;
  const next = (): number => probes[(at = (at + 1) & (PROBES - 1))];
  const byMap = (address: Ipv4): number => {
    for (let length = 32; length > NETWORK.length; length--) {
      const row = rows.get(prefixKey(prefixOf(address, length)));
      if (row !== undefined) return row;
    }
    return -1;
  };
  const byScan = (address: number): number => {
    for (let i = 0; i < size; i++) if ((address & 0xffffff00) === networks[i]) return i;
    return -1;
  };
  const result = [
    nanoseconds(`lookup, ${size} leases: table`, () => (found += reader.lookup(next()))),
    nanoseconds(`lookup, ${size} leases: Map per length`, () => (found += byMap(ipv4(next() >>> 0)))),
    nanoseconds(`lookup, ${size} leases: scan`, () => (found += byScan(next()))),
  ];
  reader.leave();
  return result;
}

function build(size: number): string[] {
  const [name, ns, error] = nanoseconds(`table of ${size} leases`, () => (found += filled(size).size));
  return [name, `${(Number(ns) / 1e6).toFixed(2)} ms`, error];
}

function native(): string[][] {
  const directory = mkdtempSync(join(tmpdir(), 'twill-micro-'));
  try {
    const program = join(directory, 'native');
    const source = join(PROJECT_ROOT, 'bench/micro/native.cc');
    execFileSync('g++', [
      '-std=c++17',
      '-O2',
      '-Wall',
      '-Wextra',
      `-I${join(PROJECT_ROOT, 'addon')}`,
      source,
      ...addonSources(),
      '-o',
      program,
    ]);
    const results = JSON.parse(execFileSync(program, { encoding: 'utf8' })) as { name: string; ns: number }[];
    return results.map(({ name, ns }) => [name, ns.toFixed(1), '']);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const rows = [...SIZES.flatMap(lookups), ...SIZES.map(build), ...native()];
console.log(formatTable([['what', 'ns', 'error'], ...rows]));
if (found === 0) throw new Error('the lookups found nothing');
