// Question: how fast does the control plane follow etcd, and what does a large table cost?
//
//   start → table      store opened, config read, lease acquired, first snapshot validated      target ≤ 2 s
//   burst              1,000 puts written at once: first put → last one validated               target ≤ 1 s
//   event → listener   one put at a time: before the put → validated in this process            target ≤ 50 ms median
//   RSS                of a process of its own that holds the same table and saw the bursts      target ≤ 200 MB
//   work per event     the lease view alone, in a table of 100 and of 10,000: must not grow
//
// Unit: ms and MB. A real etcd on this machine; the store's own code path up to the backend's diff. `--leases=N`,
// `--samples=N` change the size. The worst input is the burst that touches every lease of a tenth of the table.

import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { leasableRange, prefixesOf } from '../src/config/network-config.js';
import { openLogger } from '../src/core/log.js';
import type { Lease, LeaseUpdate } from '../src/lease/lease.js';
import { LeaseView } from '../src/lease/lease-view.js';
import { formatIpv4, ipv4, type Ipv4, parseIpv4 } from '../src/net/ipv4.js';
import { parsePrefix } from '../src/net/prefix.js';
import { EtcdStore } from '../src/store/etcd/etcd-store.js';
import type { Membership } from '../src/store/store.js';
import { startEtcd } from '../test/support/etcd-server.js';
import { formatTable } from '../test/support/measure.js';
import { hostOf, leaseOf } from '../test/support/leases.js';
import { numberOption } from './options.js';

const PREFIX = '/coreos.com/network';
const NETWORK = '{"Network":"10.0.0.0/8","SubnetLen":24,"Backend":{"Type":"udp"}}';
const BURST = 1000;
const OWN_IP = parseIpv4('172.31.255.1')!;

const LEASES = numberOption('leases', 10_000, 65_000);
const SAMPLES = numberOption('samples', 200, 100_000);

const base64 = (text: string): string => Buffer.from(text).toString('base64');
const subnetOf = (i: number): string => `10.${1 + Math.floor(i / 250)}.${i % 250}.0`;

function put(i: number, publicIp: Ipv4): { key: string; value: string } {
  return {
    key: base64(`${PREFIX}/subnets/${subnetOf(i)}-24`),
    value: base64(`{"PublicIP":"${formatIpv4(publicIp)}","PublicIPv6":null}`),
  };
}

async function gateway(url: string, path: string, body: object): Promise<void> {
  const response = await fetch(`${url}/v3/kv/${path}`, { method: 'POST', body: JSON.stringify(body) });
  const text = await response.text();
  if (!response.ok) throw new Error(`etcd refused ${path}: ${text}`);
}

function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
}

/** Microseconds per put event in a table of `size` leases. */
function workPerEvent(size: number): number {
  const view = new LeaseView({
    networks: { v4: parsePrefix('10.0.0.0/8')! },
    leasable: { v4: { first: parseIpv4('10.0.1.0')!, last: parseIpv4('10.255.255.255')! } },
    own: { v4: parsePrefix('10.255.0.0/24')! },
    ownPublicIp: { v4: OWN_IP },
  });
  const lease = (i: number, publicIp: Ipv4): Lease =>
    leaseOf({ subnet: `${subnetOf(i)}/24`, publicIp, created: 1n });
  view.apply({
    kind: 'snapshot',
    leases: Array.from({ length: size }, (_, i) => lease(i, ipv4(0xac100000 + i))),
  });
  const rounds: number[] = [];
  for (let round = 0; round < 20; round++) {
    const updates: LeaseUpdate[] = Array.from({ length: 1000 }, (_, i) => ({
      kind: 'events',
      events: [{ kind: 'put', lease: lease(i % size, ipv4(0xac110000 + round * 1000 + i)) }],
    }));
    const startedAtMs = performance.now();
    for (const update of updates) view.apply(update);
    rounds.push(performance.now() - startedAtMs);
  }
  return quantile(rounds, 0.5); // ms per 1,000 = µs per event
}

/** What comes after a start from a saved table alone. */
const NO_TABLE = { onConfirmed: (): void => undefined, onOutdated: (): void => undefined };

interface Opened {
  readonly member: Membership;
  readonly view: LeaseView;
  readonly close: () => Promise<void>;
}

async function openStore(url: string, publicIp: Ipv4): Promise<Opened> {
  const store = new EtcdStore({
    endpoints: url,
    prefix: PREFIX,
    tls: { keyFile: '', certFile: '', caFile: '' },
    username: '',
    password: '',
    renewMarginMinutes: 60,
    tablePath: undefined,
    log: openLogger({ level: 'warn', format: 'text' }),
  });
  const signal = AbortSignal.timeout(60_000);
  const network = await store.readConfig(signal);
  const { config } = network;
  const member = await network.join({ host: hostOf({ publicIp }), previousSubnets: undefined }, signal);
  return {
    member,
    view: new LeaseView({
      networks: prefixesOf(config),
      leasable: leasableRange(config),
      own: member.own,
      ownPublicIp: { v4: publicIp },
    }),
    close: async () => {
      await member.close();
      store.close();
    },
  };
}

/** The process whose memory is measured: nothing but a store and a lease view. Ends with its standard input. */
async function hold(url: string): Promise<void> {
  const { member, view, close } = await openStore(url, ipv4(OWN_IP + 1));
  member.watch({
    ...NO_TABLE,
    onLeases: (update) => {
      view.apply(update);
      process.send!('seen');
    },
    onConfig: () => undefined,
    onOwnLeaseLost: () => process.exit(1),
  });
  process.once('disconnect', () => void close());
  process.on('message', () => process.send!(process.memoryUsage().rss));
}

function startHolder(url: string): { ready: Promise<void>; rss: () => Promise<number>; end: () => void } {
  const child = fork(fileURLToPath(import.meta.url), [`--hold=${url}`], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const ready = new Promise<void>((resolve) => child.once('message', () => resolve()));
  const rss = (): Promise<number> =>
    new Promise((resolve) => {
      child.on('message', (message) => typeof message === 'number' && resolve(message));
      child.send('rss');
    });
  return { ready, rss, end: () => child.disconnect() };
}

async function main(): Promise<void> {
  const etcd = await startEtcd({ args: ['--quota-backend-bytes', '1000000000'] });
  try {
    await etcd.ctl('put', `${PREFIX}/config`, NETWORK);
    for (let i = 0; i < LEASES; i += 100) {
      const success = Array.from({ length: Math.min(100, LEASES - i) }, (_, j) => ({
        request_put: put(i + j, ipv4(0xac100000 + i + j)),
      }));
      await gateway(etcd.url, 'txn', { success });
    }

    const startedAtMs = performance.now();
    const { member, view, close } = await openStore(etcd.url, OWN_IP);
    const addresses = new Map<number, number>();
    let notify = (): void => undefined;
    const ready = new Promise<void>((resolve) => (notify = resolve));
    member.watch({
      ...NO_TABLE,
      onLeases: (update) => {
        const { diff } = view.apply(update);
        for (const { subnets, host } of [...diff.added, ...diff.changed]) {
          addresses.set(subnets.v4!.address, host.publicIp.v4!);
        }
        notify();
      },
      onConfig: () => undefined,
      onOwnLeaseLost: (error) => {
        throw error;
      },
    });
    await ready;
    const startMs = performance.now() - startedAtMs;
    if (addresses.size !== LEASES) throw new Error(`${addresses.size} of ${LEASES} leases in the table`);

    const waitFor = (isDone: () => boolean): Promise<void> =>
      new Promise((resolve) => {
        notify = () => isDone() && resolve();
        notify();
      });

    const latencies: number[] = [];
    for (let sample = 0; sample < SAMPLES + 20; sample++) {
      const value = ipv4(0xac180000 + sample);
      const address = parseIpv4(subnetOf(sample % LEASES))!;
      const sentAtMs = performance.now();
      const seen = waitFor(() => addresses.get(address) === value);
      await Promise.all([gateway(etcd.url, 'put', put(sample % LEASES, value)), seen]);
      if (sample >= 20) latencies.push(performance.now() - sentAtMs);
    }

    const burst = async (round: number): Promise<number> => {
      const values = Array.from({ length: BURST }, (_, i) => ipv4(0xac190000 + round * BURST + i));
      const burstAtMs = performance.now();
      const all = waitFor(() => values.every((value, i) => addresses.get(parseIpv4(subnetOf(i))!) === value));
      for (let i = 0; i < BURST; i += 50) {
        await Promise.all(
          values.slice(i, i + 50).map((value, j) => gateway(etcd.url, 'put', put(i + j, value))),
        );
      }
      await all;
      return performance.now() - burstAtMs;
    };
    const bursts: number[] = [];
    for (let round = 0; round < 5; round++) bursts.push(await burst(round));

    const holder = startHolder(etcd.url);
    await holder.ready;
    for (let round = 5; round < 8; round++) await burst(round);
    const rssMb = (await holder.rss()) / 1e6;
    holder.end();
    const small = workPerEvent(100);
    const large = workPerEvent(10_000);
    const row = (name: string, value: string, target: string): string[] => [name, value, target];
    const rows = [
      ['control plane', 'measured', 'target'],
      row(`start → table, ${LEASES} leases`, `${startMs.toFixed(0)} ms`, '2000 ms'),
      row(
        `burst of ${BURST} puts, median of 5 (writing included)`,
        `${quantile(bursts, 0.5).toFixed(0)} ms (max ${Math.max(...bursts).toFixed(0)})`,
        '1000 ms',
      ),
      row(
        `event → listener, median of ${SAMPLES}`,
        `${quantile(latencies, 0.5).toFixed(2)} ms (p99 ${quantile(latencies, 0.99).toFixed(2)})`,
        '50 ms',
      ),
      row('RSS with the table', `${rssMb.toFixed(0)} MB`, '200 MB'),
      row('work per event, table of 100', `${small.toFixed(2)} µs`, ''),
      row('work per event, table of 10,000', `${large.toFixed(2)} µs`, 'as above'),
    ];
    console.log(formatTable(rows));
    await close();
  } finally {
    await etcd.remove();
  }
}

const held = process.argv.find((argument) => argument.startsWith('--hold='));
await (held === undefined ? main() : hold(held.slice('--hold='.length)));
