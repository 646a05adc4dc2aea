// A host whose engine carries IPv6, as a program for labs, while no daemon opens it so: `node --import tsx
// ipv6-host.ts <1 or 2>`. Its device has fd00:5:0:<index>::1, its peer is the other host at 172.20.0.<3 - index>.
//
// Prints "ready", and on SIGTERM the counters as one line of JSON.

import { execFileSync } from 'node:child_process';
import { Worker } from 'node:worker_threads';
import { OFFLOAD_FEATURES, type OffloadSwitches } from '../../src/config/options.js';
import { wordsOf } from '../../src/net/address-words.js';
import type { OwnHost } from '../../src/dataplane/inbound.js';
import { RouteTable } from '../../src/dataplane/route-table.js';
import { INBOUND_COUNTERS, OFFENDER_WORDS, OUTBOUND_COUNTERS } from '../../src/native/counters.js';
import { native } from '../../src/native/native.js';
import { ipv4 } from '../../src/net/ipv4.js';
import { parseIpv6 } from '../../src/net/ipv6.js';
import { maskOf, parsePrefix } from '../../src/net/prefix.js';

const MTU = 1472;
const index = Number(process.argv[2]);
const outerOf = (host: number): number => 0xac140000 + host;
const subnetOf = (host: number): string => `fd00:5:0:${host}::`;
const networkV4 = 0x0a050000 + index * 256;
const network = wordsOf(parseIpv6(subnetOf(index))!);

const engine = native.open({
  device: 'flannel0',
  listen: { v4: outerOf(index) },
  port: 8285,
  queues: 1,
  offload: Object.fromEntries(OFFLOAD_FEATURES.map((feature) => [feature, true])) as OffloadSwitches,
  inner: {
    v4: { replySource: 0x0a050000, ownAddress: networkV4, broadcast: 0x0a05ffff },
    v6: { replySource: wordsOf(parseIpv6('fd00:5::')!), ownAddress: network },
  },
  reserved: false,
  anyOption: false,
  auditOptions: false,
  bufferBytes: 4 << 20,
});
if ('errno' in engine) throw new Error(`${engine.operation}: errno ${engine.errno}`);
const { id } = engine;
for (const command of [
  `link set flannel0 mtu ${MTU} up`,
  `-6 address add ${subnetOf(index)}1/128 dev flannel0 nodad`,
  '-6 route add fd00:5::/48 dev flannel0',
])
  execFileSync('ip', command.split(' '));

const table = new RouteTable({ v6: parsePrefix('fd00:5::/48', 6)! });
const peer = { address: ipv4(outerOf(3 - index)), port: 8285, mtuBytes: MTU };
table.set(parsePrefix(`${subnetOf(3 - index)}/64`, 6)!, peer);
table.publish();
const own: OwnHost = {
  network: networkV4 | 0,
  mask: 0xffffff00 | 0,
  publicIp: outerOf(index) | 0,
  ifaceAddress: outerOf(index) | 0,
  wide: { network, mask: wordsOf(maskOf(64, 6)) },
};
for (const direction of ['outbound', 'inbound']) {
  const task = { engine: id, queue: 0, direction, own, sourceCheck: 'strict' };
  const workerData = { ...task, table: table.buffer, reader: table.takeReader() };
  new Worker(new URL('../../dist/dataplane/worker.js', import.meta.url), { workerData, execArgv: [] });
}
native.probe(id);
process.stdout.write('ready\n');

function counters(isOutbound: boolean, names: readonly string[]): Record<string, number> {
  const values = new Float64Array(names.length);
  native.readCounters(id, isOutbound, values, new Uint32Array(OFFENDER_WORDS * names.length));
  return Object.fromEntries(names.map((name, i) => [name, values[i]]));
}

setInterval(() => undefined, 1000);
process.on('SIGTERM', () => {
  const both = { outbound: counters(true, OUTBOUND_COUNTERS), inbound: counters(false, INBOUND_COUNTERS) };
  process.stdout.write(`${JSON.stringify(both)}\n`, () => process.exit(0));
});
