// One network on a host without a kernel: how it starts, what it follows, and that nothing is left open.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import pino from 'pino';
import t, { type Test } from 'tap';
import { parseFlags } from '../../../src/config/flag-parser.js';
import type { Flags } from '../../../src/config/flags.js';
import { parseNetworkConfig } from '../../../src/config/network-config.js';
import { OverlayError } from '../../../src/core/errors.js';
import { heldNetworks } from '../../../src/kernel/host-lock.js';
import { GONE_MS } from '../../../src/kernel/underlay-watch.js';
import { leaseBackend } from '../../../src/lease/lease.js';
import { formatIpv4, parseIpv4 } from '../../../src/net/ipv4.js';
import { formatPrefix, formatPrefixes, parsePrefix } from '../../../src/net/prefix.js';
import type { OverlayOptions } from '../../../src/overlay/options.js';
import { openOverlay, type Overlay } from '../../../src/overlay/overlay.js';
import { THIS_HOST } from '../../../src/overlay/surroundings.js';
import type { CachedTable, SavedStart } from '../../../src/store/store.js';
import { FakeHost, type Step, STEPS } from '../../support/fake-host.js';
import { hostOf, leaseOf } from '../../support/leases.js';
import { MemoryNetwork } from '../../support/memory-store.js';
import { folderOf } from '../../support/folder.js';

// Names of networks are held on the machine that runs the tests: each process has others.
const BASE = `10.${process.pid % 256}.${((process.pid >> 8) % 8) * 32}`;
const NETWORK = `${BASE}.0/20`;
const CONFIG = `{"Network":"${NETWORK}","SubnetLen":24}`;
const ADDRESS = '172.20.0.1';
const SUBNETS = [1, 2, 3, 4].map((i) => `${BASE.replace(/\d+$/, (third) => String(Number(third) + i))}.0/24`);
const OWN = SUBNETS[0];
const PEER = leaseOf({ subnet: SUBNETS[2], publicIp: '172.20.0.3', created: 1n });

function groups(): Flags {
  const parsed = parseFlags(['--store=static', '--static-file=none'], {});
  if (parsed.kind !== 'run') throw new TypeError(`flags are ${parsed.kind}`);
  return parsed.flags;
}

interface Bench {
  readonly host: FakeHost;
  readonly network: MemoryNetwork;
  readonly store: ReturnType<MemoryNetwork['store']>;
  readonly stop: AbortController;
  readonly lines: string[];
  readonly phases: string[];
  readonly options: OverlayOptions;
  readonly file: string;
}

function setUp(
  t: Test,
  settings: { config?: string; saved?: SavedStart; network?: MemoryNetwork } = {},
): Bench {
  const { config = CONFIG, saved, network = new MemoryNetwork(config) } = settings;
  const host = new FakeHost(ADDRESS);
  const store = network.store(saved);
  const stop = new AbortController();
  const lines: string[] = [];
  const phases: string[] = [];
  const file = join(folderOf(t), 'subnet.env');
  const write = (line: string): void => void lines.push((JSON.parse(line) as { msg: string }).msg);
  const options: OverlayOptions = {
    ...groups(),
    store,
    subnetFile: file,
    log: pino({}, { write }),
    signal: stop.signal,
    surroundings: host.surroundings,
    onProgress: ({ phase = 'running' }) => {
      if (phases.at(-1) !== phase) phases.push(phase);
    },
  };
  return { host, network, store, stop, lines, phases, options, file };
}

async function openIn(t: Test, bench: Bench): Promise<Overlay> {
  const overlay = await openOverlay(bench.options);
  t.teardown(() => overlay.close());
  return overlay;
}

function codes(overlay: Overlay): string[] {
  return overlay.conditions().map(({ code }) => code);
}

async function isNothingHeld(): Promise<boolean> {
  return !(await heldNetworks()).some((held) => formatPrefix(held) === NETWORK);
}

function savedStart(table: CachedTable | undefined, isAway = true): SavedStart {
  return { isAway: () => Promise.resolve(isAway), table: () => table, formerPublicIp: () => undefined };
}

const TABLE: CachedTable = {
  config: parseNetworkConfig(CONFIG, 'table'),
  ownSubnets: { v4: parsePrefix(OWN)! },
  ownHost: hostOf({ publicIp: ADDRESS }),
  leases: [leaseOf({ subnet: OWN, publicIp: ADDRESS }), PEER],
  savedAt: 'then',
};

t.test('openOverlay() starts from the store', async (t) => {
  const bench = setUp(t);
  const { host, network, phases, lines, file } = bench;
  network.put(PEER);
  const overlay = await openIn(t, bench);
  t.strictSame(phases, [
    'starting',
    'waiting for the network config',
    'waiting for the external interface',
    'waiting for the network config',
    'waiting for the udp device',
    'waiting for a lease',
    'waiting for the udp data path',
    'waiting for the firewall rules',
    'running',
  ]);
  t.strictSame(lines, [
    `using interface eth0 with address ${ADDRESS}, public IP ${ADDRESS}`,
    `own subnet is ${OWN}`,
    'leases changed',
  ]);
  t.equal(formatPrefixes(overlay.networks), NETWORK);
  t.equal(formatPrefixes(overlay.subnets), OWN);
  t.equal(overlay.backendType, 'udp');
  t.equal(overlay.pathProbes, 'fake');
  t.equal(overlay.isAlive(), true);
  t.strictSame(codes(overlay), []);
  t.match(readFileSync(file, 'utf8'), new RegExp(`FLANNEL_SUBNET=.*\nFLANNEL_MTU=1472\n`));
  t.strictSame([...host.backend!.peers.keys()], [PEER.id]);
  t.match(overlay.status(), {
    network: NETWORK,
    lease: { subnet: OWN, mtuBytes: 1472 },
    interface: { name: 'eth0', publicIp: ADDRESS },
    subnetFile: file,
    peers: [{ subnet: SUBNETS[2], reachability: { state: 'unknown' } }],
    peerCounts: { total: 1 },
    refusedLeases: [],
  });
  t.ok(overlay.metrics().some(({ name }) => name === 'leases_refused'));
});

t.test('openOverlay() follows what the store says of this host', async (t) => {
  const bench = setUp(t);
  const { host, network } = bench;
  const former = leaseBackend('vxlan', { VNI: 1, VtepMAC: '02:00:00:00:00:01' });
  network.hints = { publicIp: { v4: parseIpv4('198.51.100.7')! }, backend: former };
  const overlay = await openIn(t, bench);
  t.equal(overlay.status().interface?.publicIp, '198.51.100.7');
  t.equal(host.backend!.context.formerBackend, former);
  t.equal(network.announced, 1);
  host.setAddress('172.20.0.9');
  host.nowMs += GONE_MS;
  await host.kernelChanged();
  t.equal(overlay.status().interface?.publicIp, '198.51.100.7', 'also of another interface');
});

t.test(
  'a start from the saved table follows what the store said, and announces once it answers',
  async (t) => {
    const network = new MemoryNetwork(CONFIG);
    network.isAway = true;
    const publicIp = { v4: parseIpv4('198.51.100.7')! };
    const table = { ...TABLE, ownHost: hostOf({ publicIp: '198.51.100.7' }), hints: { publicIp } };
    const bench = setUp(t, { network, saved: savedStart(table) });
    const overlay = await openIn(t, bench);
    t.equal(overlay.status().interface?.publicIp, '198.51.100.7');
    t.equal(network.announced, 0);
    network.comeBack();
    await bench.host.kernelChanged();
    t.equal(network.announced, 1);
  },
);

t.test('an overlay follows the leases of the others', async (t) => {
  const bench = setUp(t);
  const { host, network } = bench;
  const overlay = await openIn(t, bench);
  t.equal(host.backend!.applied, 1, 'that there is nobody is told, too');
  network.put(PEER);
  network.put(leaseOf({ subnet: SUBNETS[3], publicIp: ADDRESS, created: 2n }));
  while (host.backend!.peers.size === 0) await new Promise((resolve) => setTimeout(resolve, 10));
  t.strictSame([...host.backend!.peers.keys()], [PEER.id]);
  t.strictSame(codes(overlay), ['lease-refused'], 'our public IP under another subnet');
});

t.test('openOverlay() starts from the saved table, and rejoins', async (t) => {
  const bench = setUp(t, { saved: savedStart(TABLE) });
  const { host, network, lines } = bench;
  network.isAway = true;
  const overlay = await openIn(t, bench);
  t.strictSame([...host.backend!.peers.keys()], [PEER.id], 'peers of the table');
  t.strictSame(codes(overlay), ['store-unreachable', 'saved-table']);
  t.equal(network.leases.size, 0);
  network.put(PEER);
  network.comeBack();
  while (codes(overlay).length > 0) await new Promise((resolve) => setImmediate(resolve));
  t.ok(lines.includes(`store answers again: own subnet is still ${OWN}`));
  t.ok(network.leases.has(OWN.replace('/', '-')));
});

t.test('an overlay of a saved table ends when the store has another config', async (t) => {
  const bench = setUp(t, { saved: savedStart(TABLE), config: `{"Network":"${NETWORK}","SubnetLen":26}` });
  bench.network.isAway = true;
  const overlay = await openIn(t, bench);
  bench.network.comeBack();
  t.strictSame(await overlay.ended, { kind: 'outdated' });
});

t.test('an overlay says that its config has changed', async (t) => {
  const bench = setUp(t);
  const overlay = await openIn(t, bench);
  bench.network.setConfig(`{"Network":"${NETWORK}","SubnetLen":26}`);
  t.strictSame(codes(overlay), ['config-changed']);
  bench.network.setConfig(CONFIG);
  t.strictSame(codes(overlay), []);
});

t.test('an overlay ends when its lease is lost', async (t) => {
  const bench = setUp(t);
  const overlay = await openIn(t, bench);
  bench.network.delete(OWN.replace('/', '-'));
  t.match(await overlay.ended, { kind: 'lost', error: { code: 'E_LEASE_LOST' } });
});

t.test('an overlay follows the interface: MTU, then another address', async (t) => {
  const bench = setUp(t);
  const { host, network, file } = bench;
  const overlay = await openIn(t, bench);
  host.link = { ...host.link, mtuBytes: 9000 };
  await host.kernelChanged();
  t.equal(host.backend!.iface.mtuBytes, 9000);
  t.match(readFileSync(file, 'utf8'), /FLANNEL_MTU=8972\n/);
  t.match(overlay.status(), { lease: { mtuBytes: 8972 } });

  host.setAddress('172.20.0.9');
  await host.kernelChanged();
  t.strictSame(codes(overlay), ['interface-down']);
  host.nowMs = GONE_MS;
  await host.kernelChanged();
  t.match(overlay.status(), { interface: { publicIp: '172.20.0.9' } });
  while (codes(overlay).length > 0) await new Promise((resolve) => setImmediate(resolve));
  const own = network.leases.get(OWN.replace('/', '-'));
  t.equal(formatIpv4(own!.host.publicIp.v4!), '172.20.0.9');
  t.strictSame([...host.backend!.peers.keys()], [], 'our own lease is no peer, whatever it says');
});

t.test('an overlay says that its lease is behind while the store is away', async (t) => {
  const bench = setUp(t);
  const { host, network } = bench;
  const overlay = await openIn(t, bench);
  network.isAway = true;
  host.setAddress('172.20.0.9');
  await host.kernelChanged();
  host.nowMs = GONE_MS;
  await host.kernelChanged();
  t.strictSame(codes(overlay).sort(), ['public-ip-changed', 'store-unreachable']);
  network.comeBack();
  while (codes(overlay).length > 0) await new Promise((resolve) => setImmediate(resolve));
});

t.test('an overlay says what it cannot repair, from the second time on', async (t) => {
  const bench = setUp(t);
  const overlay = await openIn(t, bench);
  const backend = bench.host.backend!;
  backend.fault = new Error('no such device');
  await bench.host.kernelChanged();
  t.strictSame(codes(overlay), []);
  await bench.host.kernelChanged();
  t.strictSame(codes(overlay), ['repair-failed']);
  backend.fault = undefined;
  await bench.host.kernelChanged();
  t.strictSame(codes(overlay), []);
  await bench.host.rulesChanged();
  t.equal(bench.host.firewall!.resyncs, 1);
});

t.test('a firewall lock holds up subnet.env and no peer', async (t) => {
  const bench = setUp(t);
  const { host, network, file } = bench;
  network.put(PEER);
  let unlock = (): void => undefined;
  const reached = host.hold('rules', new Promise((resolve) => (unlock = resolve)));
  const opening = openIn(t, bench);
  await reached;
  t.strictSame([...host.backend!.peers.keys()], [PEER.id]);
  t.throws(() => readFileSync(file), { code: 'ENOENT' });
  host.firewall!.isLocked = true;
  unlock();
  const overlay = await opening;
  t.ok(readFileSync(file));
  t.strictSame(codes(overlay), ['firewall'], 'the rules do not stand yet, and that is said');
});

for (const step of STEPS) {
  t.test(`openOverlay() leaves nothing open when it is stopped at: ${step}`, async (t) => {
    const { host, store, stop, options } = setUp(t);
    const reached = host.hold(step);
    const opening = openOverlay(options);
    await reached;
    stop.abort(new Error('stopped by the test'));
    await t.rejects(opening, { message: 'stopped by the test' });
    t.strictSame([...host.open], []);
    t.ok(store.isClosed);
    t.ok(await isNothingHeld());
  });
}

for (const when of ['config', 'lease'] as const) {
  t.test(`openOverlay() leaves nothing open when it is stopped at: store, ${when}`, async (t) => {
    const { host, network, store, stop, options, phases } = setUp(t);
    if (when === 'config') network.isAway = true;
    else void host.hold('lease data', Promise.resolve()).then(() => (network.isAway = true));
    const opening = openOverlay(options);
    const phase = when === 'config' ? 'waiting for the network config' : 'waiting for a lease';
    while (phases.at(-1) !== phase) await new Promise((resolve) => setImmediate(resolve));
    stop.abort(new Error('stopped by the test'));
    await t.rejects(opening);
    t.strictSame([...host.open], []);
    t.ok(store.isClosed);
    t.ok(await isNothingHeld());
  });
}

const FATAL: readonly Step[] = ['interface', 'lease data', 'device'];
for (const step of FATAL) {
  t.test(`openOverlay() closes what it has opened when this fails: ${step}`, async (t) => {
    const { host, store, options } = setUp(t);
    host.failure = { step, error: new OverlayError('E_KERNEL', 'the kernel says no') };
    await t.rejects(openOverlay(options), { code: 'E_KERNEL', message: 'the kernel says no' });
    t.strictSame([...host.open], []);
    t.ok(store.isClosed);
    t.ok(await isNothingHeld());
  });
}

t.test('openOverlay() goes on without a socket for probes', async (t) => {
  const bench = setUp(t);
  bench.host.failure = { step: 'icmp', error: new Error('CAP_NET_RAW is needed') };
  const overlay = await openIn(t, bench);
  t.equal(overlay.pathProbes, 'off');
  t.strictSame(codes(overlay), ['probes-off']);
});

t.test('openOverlay() refuses a backend that there is not', async (t) => {
  const { host, options } = setUp(t, { config: `{"Network":"${NETWORK}","Backend":{"Type":"pigeon"}}` });
  const surroundings = { ...host.surroundings, openBackend: THIS_HOST.openBackend };
  await t.rejects(openOverlay({ ...options, surroundings }), {
    code: 'E_BACKEND',
    message: /^.+: Unknown backend type "pigeon": expected one of udp/,
  });
});

t.test('Overlay.close() closes in the reverse order, and once', async (t) => {
  const { host, network, store, options } = setUp(t);
  const overlay = await openOverlay(options);
  await Promise.all([overlay.close(), overlay.close()]);
  const opened = ['backend', 'firewall', 'icmp', 'kernel monitor', 'rules monitor'];
  t.strictSame(
    host.events.slice(0, 5),
    opened.map((name) => `open ${name}`),
  );
  t.strictSame(host.events.slice(5), [
    'close rules monitor',
    'close kernel monitor',
    'close firewall',
    'close icmp',
    'close backend',
  ]);
  t.ok(store.isClosed);
  t.ok(await isNothingHeld());
  t.equal(network.leases.size, 1, 'the lease stays');
  const before = host.backend!.reconciled;
  await host.kernelChanged();
  t.equal(host.backend!.reconciled, before, 'nothing is compared any more');
});

t.test('Overlay.close() does not wait for ever', async (t) => {
  const { host, lines, options } = setUp(t);
  const overlay = await openOverlay(options);
  host.backend!.isHung = true;
  t.equal(overlay.isAlive(), false);
  await overlay.close();
  t.ok(lines.includes('closing the backend takes longer than the end may: going on without'));
});

t.test('two overlays run in one process', async (t) => {
  const first = setUp(t);
  const third = Number(/\d+$/.exec(BASE)![0]);
  const other = `${BASE.replace(/\d+$/, String(third + 16))}.0/20`;
  const second = setUp(t, { config: `{"Network":"${other}","SubnetLen":24}` });
  const options = { ...second.options, subnetFile: `${second.file}.2` };
  const [one, two] = [await openIn(t, first), await openIn(t, { ...second, options })];
  first.network.setConfig(`{"Network":"${NETWORK}","SubnetLen":26}`);
  t.strictSame(codes(one), ['config-changed']);
  t.strictSame(codes(two), []);
  t.equal(formatPrefixes(two.networks), other);

  const twin = setUp(t, { network: first.network });
  await t.rejects(openOverlay({ ...twin.options, subnetFile: `${twin.file}.3` }), { code: 'E_RUNNING' });
  t.strictSame([...twin.host.open], []);
  t.strictSame([...first.host.open].length, 5, 'the first is not touched');
  await one.close();
  await second.host.kernelChanged();
  t.strictSame(codes(two), []);
});
