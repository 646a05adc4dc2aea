// The host around an overlay: servers, health, and how it ends. There is no kernel, and the store is in memory.

import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import t, { type Test } from 'tap';
import { fetchStatus } from '../../src/cli/daemon-client.js';
import { parseFlags } from '../../src/config/flag-parser.js';
import { parseNetworkConfig } from '../../src/config/network-config.js';
import { runDaemon } from '../../src/daemon.js';
import { parsePrefix } from '../../src/net/prefix.js';
import type { SavedStart } from '../../src/store/store.js';
import { FakeHost } from '../support/fake-host.js';
import { hostOf } from '../support/leases.js';
import { MemoryNetwork } from '../support/memory-store.js';

// As in overlay/overlay.test.ts, in another half of the processes' networks.
const BASE = `10.${process.pid % 256}.${((process.pid >> 8) % 4) * 32 + 128}`;
const NETWORK = `${BASE}.0/20`;
const CONFIG = `{"Network":"${NETWORK}","SubnetLen":24}`;
const ADDRESS = '172.20.0.1';

function setUp(t: Test, saved?: SavedStart) {
  const folder = mkdtempSync(join(tmpdir(), 'twill-')); // a socket's path has 107 bytes at most
  const file = join(folder, 'subnet.env');
  const socket = join(folder, 'twilld.sock');
  const args = [
    '--store=static',
    '--static-file=none',
    `--subnet-file=${file}`,
    `--control-socket=${socket}`,
    '--healthz-port=0',
  ];
  const parsed = parseFlags(args, {});
  if (parsed.kind !== 'run') throw new TypeError(`flags are ${parsed.kind}`);
  const lines: string[] = [];
  const host = new FakeHost(ADDRESS);
  const network = new MemoryNetwork(CONFIG);
  const stop = new AbortController();
  const log = pino({}, { write: (line) => void lines.push((JSON.parse(line) as { msg: string }).msg) });
  let end = Promise.resolve();
  const run = (): Promise<unknown> => {
    const running = runDaemon(parsed.flags, log, '1.2.3', stop.signal, {
      openStore: () => network.store(saved),
      surroundings: host.surroundings,
    });
    end = Promise.allSettled([end, running]).then(() => undefined);
    return running;
  };
  t.teardown(async () => {
    stop.abort();
    await end;
    rmSync(folder, { recursive: true });
  });
  const said = async (pattern: RegExp, times = 1): Promise<void> => {
    while (lines.filter((line) => pattern.test(line)).length < times)
      await new Promise((resolve) => setTimeout(resolve, 10));
  };
  return { file, socket, lines, host, network, stop, run, said };
}

t.test('runDaemon() serves the overlay that it runs, until it is stopped', async (t) => {
  const { file, socket, lines, host, stop, run, said } = setUp(t);
  const running = run();
  await said(/^ready after \d+ ms$/);
  t.match(readFileSync(file, 'utf8'), /FLANNEL_MTU=1472\n/);
  t.match(await fetchStatus(socket), {
    version: '1.2.3',
    ready: true,
    network: NETWORK,
    lease: { mtuBytes: 1472 },
    interface: { name: 'eth0' },
    store: { kind: 'static' },
    backend: { type: 'udp' },
    peers: [],
  });
  host.backend!.fault = new Error('no such device');
  await host.kernelChanged();
  await host.kernelChanged();
  t.match(await fetchStatus(socket), {
    ready: false,
    degraded: ['daemon: cannot repair the kernel state: no such device'],
    conditions: [{ code: 'repair-failed', part: 'daemon' }],
  });
  await said(/^not ready$/);
  host.backend!.fault = undefined;
  await host.kernelChanged();
  t.match(await fetchStatus(socket), { ready: true, conditions: [] });
  stop.abort();
  await running;
  t.strictSame([...host.open], []);
  t.notOk(existsSync(socket));
  t.ok(existsSync(file), 'pods are started from it while the daemon is away');
  t.notOk(lines.some((line) => line.startsWith('closing')));
});

t.test('runDaemon() shows what the start waits for', async (t) => {
  const { socket, host, network, stop, run, lines } = setUp(t);
  network.isAway = true;
  const running = run();
  let status: Record<string, unknown> = {};
  while (!JSON.stringify(status).includes('waiting for the network config')) {
    status = (await fetchStatus(socket).catch(() => ({}))) as Record<string, unknown>;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  t.match(status, {
    ready: false,
    conditions: [
      { code: 'starting', part: 'daemon', text: 'waiting for the network config' },
      { code: 'store-unreachable', part: 'store' },
    ],
    store: { kind: 'static' },
    peers: [],
  });
  stop.abort();
  await running;
  t.strictSame([...host.open], []);
  t.notOk(lines.includes('not ready'), 'it has never been');
});

t.test('runDaemon() leaves alone what another daemon serves', async (t) => {
  const { socket, stop, run, said } = setUp(t);
  const running = run();
  await said(/^ready after/);
  await t.rejects(run(), { code: 'E_RUNNING', message: /has the subnet file/ });
  t.match(await fetchStatus(socket), { ready: true });
  stop.abort();
  await running;
});

t.test('runDaemon() rejects when the own lease is lost', async (t) => {
  const { host, network, socket, run, said } = setUp(t);
  const running = run();
  await said(/^ready after/);
  const [id] = network.leases.keys();
  network.delete(id);
  await t.rejects(running, { code: 'E_LEASE_LOST' });
  t.strictSame([...host.open], []);
  t.notOk(existsSync(socket));
});

t.test('runDaemon() starts again when the store has another config than the saved table', async (t) => {
  const table = {
    config: parseNetworkConfig(`{"Network":"${NETWORK}","SubnetLen":26}`, 'table'),
    ownSubnets: { v4: parsePrefix(`${BASE}.64/26`)! },
    ownHost: hostOf({ publicIp: ADDRESS }),
    leases: [],
    savedAt: 'then',
  };
  const saved = {
    isAway: () => Promise.resolve(true),
    table: () => table,
    formerPublicIp: () => undefined,
  };
  const { socket, host, network, stop, run, said } = setUp(t, saved);
  network.isAway = true;
  const running = run();
  await said(/ready after/);
  t.match(await fetchStatus(socket), { lease: { subnet: `${BASE}.64/26` }, ready: false });
  network.comeBack();
  await said(/ready after/, 2);
  const { lease } = (await fetchStatus(socket)) as { lease: { subnet: string } };
  t.match(lease.subnet, /\/24$/);
  stop.abort();
  await running;
  t.strictSame([...host.open], []);
});
