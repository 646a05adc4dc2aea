// The interface between hosts is chosen once: what comes beside it changes nothing, and what goes comes back.

import { join } from 'node:path';
import t from 'tap';
import { type Host, Lab, labUnavailable, type Task, waitFor } from '../../bench/lab/lab.js';
import {
  daemonArguments,
  HEALTH_PORT,
  startDaemon,
  statusOf,
  tableOf,
  writeTable,
} from '../../bench/lab/twill-hosts.js';

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
): Promise<Scene> {
  const lab = Lab.open(name);
  const a = lab.addHost(1);
  const b = lab.addHost(2);
  const staticFile = join(lab.dir, 'static.json');
  writeTable(staticFile, tableOf([a, b]));
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
    await waitFor(
      async () =>
        ((await statusOf(lab, a)) as unknown as { interface: { name: string } }).interface.name === 'lan0',
      'the new name',
    );
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
    const { mtuBytes } = (await statusOf(lab, a)) as unknown as { mtuBytes: number };
    lab.ip(a.ns, 'addr del 172.20.0.1/24 dev eth0');
    await waitFor(async () => (await readiness(lab, a)) === 503, 'the loss to be told');
    lab.ip(a.ns, 'addr add 172.20.0.1/24 dev eth0');
    await waitFor(async () => (await readiness(lab, a)) === 200, 'a ready daemon');
    await waitFor(async () => (await ping(lab, a, b, 1)) === 0, 'the overlay');
    t.equal(await ping(lab, a, b, 20), 0);
    t.notMatch(daemon.log(), /external interface changed/);
    t.equal(((await statusOf(lab, a)) as unknown as { mtuBytes: number }).mtuBytes, mtuBytes);
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
