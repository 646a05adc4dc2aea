// The interface between hosts is chosen once: what comes beside it changes nothing, and what goes comes back.

import { join } from 'node:path';
import t from 'tap';
import { type Host, Lab, labUnavailable, type Task, waitFor } from '../support/lab.js';
import {
  daemonArguments,
  HEALTH_PORT,
  startDaemon,
  statusOf,
  tableOf,
  writeTable,
} from '../support/twill-hosts.js';

const skip = labUnavailable();
t.jobs = 3; // they only wait

interface Scene {
  readonly lab: Lab;
  readonly a: Host;
  readonly b: Host;
  readonly daemon: Task;
}

/** Two hosts; the first one is prepared by `prepare` and chooses its interface by `flags`. */
async function open(
  name: string,
  flags: readonly string[],
  prepare: (lab: Lab, a: Host) => void,
  backend: Readonly<Record<string, unknown>> = { Type: 'udp' },
): Promise<Scene> {
  const lab = Lab.open(name);
  const a = lab.addHost(1);
  const b = lab.addHost(2);
  const staticFile = join(lab.dir, 'static.json');
  writeTable(staticFile, tableOf([a, b], backend));
  prepare(lab, a);
  const args = daemonArguments(a, staticFile, ['--path-probes=false', ...flags]);
  const daemon = await lab.spawnUntil(
    a.ns,
    process.execPath,
    args.filter((arg) => arg !== '--iface=eth0'),
    /ready after/,
  );
  await startDaemon(lab, b, staticFile, ['--path-probes=false']);
  await waitFor(async () => (await ping(lab, a, b, 1)) === 0, 'the overlay');
  return { lab, a, b, daemon };
}

function startOn(lab: Lab, host: Host, staticFile: string, iface: string): Promise<Task> {
  const args = daemonArguments(host, staticFile).map((arg) =>
    arg === '--iface=eth0' ? `--iface=${iface}` : arg,
  );
  return lab.spawnUntil(host.ns, process.execPath, args, /ready after/);
}

/** Percent of echoes lost. */
async function ping(lab: Lab, a: Host, b: Host, count: number): Promise<number> {
  const args = ['-i', '0.05', '-W', '1', '-c', String(count), b.containerIp];
  const { stdout } = await lab.run(a.containerNs, 'ping', args, { mustSucceed: false });
  return Number(/([\d.]+)% packet loss/.exec(stdout)![1]);
}

const readiness = async (lab: Lab, host: Host): Promise<number> =>
  (await lab.get(host.ns, `http://127.0.0.1:${HEALTH_PORT}/readyz`)).status;

t.test('a virtual address and another default route beside those that were chosen', { skip }, async (t) => {
  const { lab, a, b, daemon } = await open('ul-', [], (lab, a) => {
    lab.ip(a.ns, 'addr change 172.20.0.1/24 dev eth0 valid_lft 3600 preferred_lft 3600');
    lab.ip(a.ns, 'addr add 172.20.0.101/24 dev eth0'); // a virtual one that is there at the start, and then goes
    lab.ip(a.ns, 'route add default via 172.20.0.254 dev eth0 metric 100');
  });
  t.teardown(() => lab.close());
  t.match(daemon.log(), /using interface eth0 with address 172\.20\.0\.1/);

  lab.ip(a.ns, 'addr del 172.20.0.101/24 dev eth0');
  lab.ip(a.ns, 'addr add 172.20.0.100/32 dev eth0');
  lab.ip(a.ns, 'link add eth1 type veth peer name other');
  for (const name of ['eth1', 'other']) lab.ip(a.ns, `link set ${name} up`);
  lab.ip(a.ns, 'addr add 198.51.100.1/24 dev eth1');
  lab.ip(a.ns, 'route add default via 198.51.100.254 dev eth1 metric 1');
  t.equal(await ping(lab, a, b, 240), 0, 'over longer than a reconcile takes');
  t.equal(await readiness(lab, a), 200);
  t.notMatch(daemon.log(), /external interface/);

  await t.test('a new name of the interface is followed', async (t) => {
    lab.ip(a.ns, 'link set eth0 down');
    lab.ip(a.ns, 'link set eth0 name lan0');
    lab.ip(a.ns, 'link set lan0 up');
    await waitFor(async () => (await statusOf(lab, a)).interface?.name === 'lan0', 'the new name');
    await waitFor(async () => (await ping(lab, a, b, 1)) === 0, 'the overlay');
    await waitFor(async () => (await readiness(lab, a)) === 200, 'a ready daemon');
    t.equal(await ping(lab, a, b, 20), 0);
  });
});

t.test(
  '--iface-regex that matches everything, and an address that is away for a moment',
  { skip },
  async (t) => {
    const { lab, a, b, daemon } = await open('ulr-', ['--iface-regex=.*'], () => undefined);
    t.teardown(() => lab.close());
    const mtuBytes = async () => (await statusOf(lab, a)).lease?.mtuBytes;
    t.equal(await mtuBytes(), 1472);
    lab.ip(a.ns, 'addr del 172.20.0.1/24 dev eth0');
    await waitFor(async () => (await readiness(lab, a)) === 503, 'the loss to be told');
    lab.ip(a.ns, 'addr add 172.20.0.1/24 dev eth0');
    await waitFor(async () => (await readiness(lab, a)) === 200, 'a ready daemon');
    await waitFor(async () => (await ping(lab, a, b, 1)) === 0, 'the overlay');
    t.equal(await ping(lab, a, b, 20), 0);
    t.notMatch(daemon.log(), /external interface changed/);
    t.equal(await mtuBytes(), 1472);
  },
);

t.test('an address that stays away is replaced by another', { skip }, async (t) => {
  const { lab, a, daemon } = await open('ulg-', ['--iface-regex=^eth0$'], () => undefined);
  t.teardown(() => lab.close());
  lab.ip(a.ns, 'addr add 172.20.1.11/24 dev eth0');
  lab.ip(a.ns, 'addr del 172.20.0.1/24 dev eth0');
  await waitFor(() => /has lost its address 172\.20\.0\.1/.test(daemon.log()), 'the loss', 30_000);
  await waitFor(() => /external interface changed/.test(daemon.log()), 'another choice', 30_000);
  t.match(await statusOf(lab, a), { interface: { name: 'eth0', address: '172.20.1.11' } });
});

for (const backend of [{ Type: 'vxlan' }, { Type: 'vxlan', DirectRouting: true }, { Type: 'host-gw' }]) {
  const mode = Object.values(backend).join(' ');
  t.test(`${mode}: no packet is lost over a new name of the interface`, { skip }, async (t) => {
    const { lab, a, b, daemon } = await open(
      `ul${mode.length}-`,
      ['--iface-regex=^eth0$'],
      () => undefined,
      backend,
    );
    t.teardown(() => lab.close());
    const args = ['-i', '0.02', '-c', '100', b.containerIp];
    const pinging = await lab.spawnUntil(a.containerNs, 'ping', args, /icmp_seq=10 /);
    try {
      lab.ip(a.ns, 'link set eth0 name lan0');
    } catch {
      t.comment('before Linux 6.2 an interface has to be down for a new name');
      return;
    }
    const named = async (): Promise<string | undefined> => (await statusOf(lab, a)).interface?.name;
    await waitFor(async () => (await named()) === 'lan0', 'the new name');
    await pinging.exited;
    t.match(pinging.log(), / 100 received/);
    await waitFor(async () => (await readiness(lab, a)) === 200, 'a ready daemon');
    t.strictSame((await statusOf(lab, a)).conditions, []);
    t.equal(await ping(lab, a, b, 5), 0);
    t.notMatch(daemon.log(), /making the VXLAN device anew|repair-failed/);
  });
}

// Two networks between the hosts; the default route of both, and at host a even the way to b's second address, is
// through the first one, whose router knows both.
//
//   a ─ eth0 172.20.0.1 ── br0 (.254) ── 172.20.0.2 eth0 ─ b
//     └ eth1 172.21.0.1 ── br1 (.254) ── 172.21.0.2 eth1 ┘
t.test('--iface names the interface without the default route', { skip }, async (t) => {
  const lab = Lab.open('ul2-');
  t.teardown(() => lab.close());
  const hosts = [lab.addHost(1), lab.addHost(2)];
  const [a, b] = hosts;
  const sw = lab.switchNs;
  await lab.run(sw, 'sysctl', ['-qw', 'net.ipv4.ip_forward=1']);
  lab.ip(sw, 'link add br1 type bridge');
  lab.ip(sw, 'link set br1 up');
  lab.ip(sw, 'addr add 172.20.0.254/24 dev br0');
  lab.ip(sw, 'addr add 172.21.0.254/24 dev br1');
  for (const { ns, index } of hosts) {
    lab.ip(sw, `link add q${index} type veth peer name eth1 netns ${ns}`);
    lab.ip(sw, `link set q${index} master br1 up`);
    lab.ip(ns, `addr add 172.21.0.${index}/24 dev eth1`);
    lab.ip(ns, 'link set eth1 up');
    lab.ip(ns, 'route add default via 172.20.0.254 dev eth0');
  }
  lab.ip(a.ns, 'route add 172.21.0.2/32 via 172.20.0.254 dev eth0');
  const staticFile = join(lab.dir, 'static.json');
  let daemons: Task[] = [];

  const modes: [Record<string, unknown>, string][] = [
    [{ Type: 'udp' }, '10.5.0.0/16 dev flannel0'],
    [{ Type: 'vxlan' }, '10.5.2.0/24 via 10.5.2.0 dev flannel.1'],
    [{ Type: 'vxlan', DirectRouting: true }, '10.5.2.0/24 via 172.21.0.2 dev eth1'],
    [{ Type: 'host-gw' }, '10.5.2.0/24 via 172.21.0.2 dev eth1'],
  ];
  for (const [backend, route] of modes) {
    await t.test(Object.values(backend).join(' '), async (t) => {
      for (const daemon of daemons) await lab.end(daemon);
      const { config } = tableOf(hosts, backend);
      const leases = hosts.map(({ subnet, index }) => ({ subnet, publicIP: `172.21.0.${index}` }));
      writeTable(staticFile, { config, leases });
      daemons = await Promise.all(hosts.map((host) => startOn(lab, host, staticFile, 'eth1')));
      await waitFor(async () => (await ping(lab, a, b, 1)) === 0, 'the overlay');
      await waitFor(() => lab.ip(a.ns, 'route show').includes(route), route);
      t.equal(await ping(lab, a, b, 20), 0);
      for (const host of hosts) {
        t.equal(await readiness(lab, host), 200);
        const status = async (): Promise<{ interface: { address: string }; peerCounts: { ok: number } }> =>
          JSON.parse((await lab.get(host.ns, `http://127.0.0.1:${HEALTH_PORT}/status`)).body) as never;
        await waitFor(async () => (await status()).peerCounts.ok === 1, 'the peer to be heard');
        t.match(await status(), { interface: { address: `172.21.0.${host.index}` }, conditions: [] });
      }
    });
  }
});

t.test('udp: a peer is looked up as the socket sends, by the address of --iface', { skip }, async (t) => {
  const lab = Lab.open('ulf-');
  t.teardown(() => lab.close());
  const hosts = [lab.addHost(1), lab.addHost(2)];
  const [a, b] = hosts;
  // An address inside the Network, to which only a table for this host's own address knows a way.
  lab.ip(b.ns, 'addr add 10.5.200.2/32 dev eth0');
  lab.ip(a.ns, 'rule add from 172.20.0.1 lookup 100');
  lab.ip(a.ns, 'route add 10.5.200.2/32 via 172.20.0.2 dev eth0 table 100');
  const staticFile = join(lab.dir, 'static.json');
  const { config } = tableOf(hosts);
  writeTable(staticFile, {
    config: { ...config, SubnetMin: '10.5.1.0', SubnetMax: '10.5.100.0' },
    leases: hosts.map(({ subnet }, i) => ({ subnet, publicIP: ['172.20.0.1', '10.5.200.2'][i] })),
  });
  await startDaemon(lab, a, staticFile);
  await startOn(lab, b, staticFile, '10.5.200.2');
  await waitFor(async () => (await ping(lab, a, b, 1)) === 0, 'the overlay');
  t.equal(await ping(lab, a, b, 20), 0);
  t.strictSame((await statusOf(lab, a)).conditions, []);
});
