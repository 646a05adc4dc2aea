// What an operator, another program or the network does to a running host, and how it comes back.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Lab, labUnavailable, waitFor } from '../support/lab.js';
import {
  countIn,
  HEALTH_PORT,
  metricsOf,
  startCluster,
  startDaemon,
  statusOf,
  tableOf,
  writeTable,
} from '../support/twill-hosts.js';

const skip = labUnavailable();

t.test('a host repairs itself', { skip }, async (t) => {
  const lab = Lab.open('fix-');
  t.teardown(() => lab.close());
  const { hosts, daemons, staticFile } = await startCluster(lab, 2);
  const [a, b] = hosts;
  const reaches = async (): Promise<boolean> =>
    (await lab.run(a.containerNs, 'ping', ['-c', '1', '-W', '1', b.containerIp], { mustSucceed: false }))
      .code === 0;
  const isReady = async (): Promise<boolean> =>
    (await lab.get(a.ns, `http://127.0.0.1:${HEALTH_PORT}/readyz`)).status === 200;

  const faults: [string, string, RegExp][] = [
    ['the TUN is deleted', 'link delete flannel0', /mtu 1472/],
    ['the TUN is taken down', 'link set flannel0 down', /[<,]UP/],
    ['its MTU is changed', 'link set flannel0 mtu 1280', /mtu 1472/],
    ['its address is removed', 'address flush dev flannel0', /inet 10\.5\.1\.0\/32/],
    ['the route is deleted', 'route delete 10.5.0.0/16', /flannel0/],
  ];
  for (const [what, command, sign] of faults) {
    await t.test(what, async (t) => {
      lab.ip(a.ns, command);
      const startedMs = Date.now();
      await waitFor(reaches, 'the containers to reach each other again');
      // Most of it is a new worker's start; the timer, which would mend it without an event, comes every 10 s.
      t.ok(Date.now() - startedMs < 5_000, `${Date.now() - startedMs} ms`);
      const device = (): string => lab.ip(a.ns, 'address show dev flannel0');
      await waitFor(() => sign.test(device()), String(sign));
      t.match(lab.ip(a.ns, 'route show'), /10\.5\.0\.0\/16 dev flannel0/);
      await waitFor(isReady, 'readiness');
    });
  }

  await t.test('each repair leaves a line and a count', async (t) => {
    lab.ip(a.ns, 'link set flannel0 mtu 1280');
    await waitFor(() => lab.ip(a.ns, 'link show flannel0').includes('mtu 1472'), 'repair');
    await lab.run(a.ns, 'sh', ['-c', 'echo 1 > /proc/sys/net/ipv4/conf/flannel0/send_redirects']);
    lab.ip(a.ns, 'address delete 10.5.1.0/32 dev flannel0');
    await waitFor(() => lab.ip(a.ns, 'address show dev flannel0').includes('10.5.1.0/32'), 'repair');
    const metrics = await metricsOf(lab, a);
    for (const object of ['device', 'address', 'route', 'setting'])
      t.ok(countIn(metrics, `kernel_repairs_total{object="${object}"}`) > 0, object);
    const log = daemons[0].log();
    t.match(log, /repaired: it was up, MTU 1280,/);
    t.match(log, /repaired: the route of 10\.5\.0\.0\/16 was missing/);
    t.match(log, /repaired: the address 10\.5\.1\.0\/32 was missing/);
    t.match(log, /repaired: send_redirects was 1/);
  });

  await t.test('addresses that somebody else puts on the device stay', async (t) => {
    const others = ['169.254.7.7/16', '192.168.88.1/32', '10.5.1.77/32'];
    for (const address of others) lab.ip(a.ns, `address add ${address} dev flannel0`);
    // Whoever repairs this has looked at all addresses.
    lab.ip(a.ns, 'address delete 10.5.1.0/32 dev flannel0');
    const addresses = (): string => lab.ip(a.ns, '-o -4 address show dev flannel0');
    await waitFor(() => addresses().includes('inet 10.5.1.0/32'), 'repair');
    for (const address of others) t.ok(addresses().includes(`inet ${address}`), address);
    for (const address of others) lab.ip(a.ns, `address delete ${address} dev flannel0`);
  });

  await t.test('what was set by ethtool outlives the device', async (t) => {
    const isOn = async (feature: string): Promise<boolean> =>
      (await lab.run(a.ns, 'ethtool', ['-k', 'flannel0'])).stdout.includes(`${feature}: on`);
    const index = (): string => lab.ip(a.ns, '-o link show flannel0').split(':')[0];
    const set = (state: string): Promise<unknown> => {
      const words = ['tx-tcp-segmentation', state, 'generic-receive-offload', state];
      return lab.run(a.ns, 'ethtool', ['-K', 'flannel0', ...words]);
    };
    await set('off');
    // Whoever repairs this has looked at the device.
    lab.ip(a.ns, 'link set flannel0 mtu 1280');
    await waitFor(() => lab.ip(a.ns, 'link show flannel0').includes('mtu 1472'), 'repair');
    const before = index();
    lab.ip(a.ns, 'link delete flannel0');
    await waitFor(reaches, 'traffic');
    t.not(index(), before, 'another device');
    await waitFor(async () => !(await isOn('generic-receive-offload')), 'what was set');
    t.notOk(await isOn('tx-tcp-segmentation'));
    t.ok(await isOn('tx-checksum-ip-generic'), 'left alone');
    await set('on');
  });

  await t.test('no spin while the device is gone', async (t) => {
    const ticks = (): number => {
      const fields = readFileSync(`/proc/${daemons[0].child.pid}/stat`, 'utf8').split(' ');
      return Number(fields[13]) + Number(fields[14]);
    };
    const before = ticks();
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    t.ok(ticks() - before < 20, `${ticks() - before} of 100 ticks`);
  });

  await t.test('the external interface goes down and up', async (t) => {
    lab.ip(a.ns, 'link set eth0 down');
    await waitFor(async () => !(await isReady()), 'degraded');
    t.match((await statusOf(lab, a)).degraded.join(), /eth0 is down/);
    lab.ip(a.ns, 'link set eth0 up');
    await waitFor(reaches, 'traffic', 10_000);
    await waitFor(isReady, 'readiness');
  });

  await t.test('the external interface loses its address and gets it back', async (t) => {
    lab.ip(a.ns, 'address delete 172.20.0.1/24 dev eth0');
    await waitFor(async () => !(await isReady()), 'degraded');
    t.equal(daemons[0].child.exitCode, null, 'it does not exit');
    lab.ip(a.ns, 'address add 172.20.0.1/24 dev eth0');
    await waitFor(reaches, 'traffic', 10_000);
    await waitFor(isReady, 'readiness');
  });

  await t.test('the MTU of the external interface changes', async (t) => {
    for (const mtu of [1400, 1500]) {
      lab.ip(a.ns, `link set eth0 mtu ${mtu}`);
      await waitFor(() => lab.ip(a.ns, 'link show flannel0').includes(`mtu ${mtu - 28} `), `MTU ${mtu - 28}`);
      await waitFor(
        () => readFileSync(join(a.dir, 'subnet.env'), 'utf8').includes(`FLANNEL_MTU=${mtu - 28}\n`),
        'subnet.env',
      );
    }
    t.ok(await reaches());
  });

  await t.test('a half-written static file changes nothing', async (t) => {
    const good = readFileSync(staticFile, 'utf8');
    writeFileSync(staticFile, good.slice(0, good.length / 2));
    await waitFor(async () => !(await isReady()), 'degraded');
    t.match((await statusOf(lab, a)).degraded.join(), /static\.json: not valid JSON.*last good table/);
    t.ok(await reaches(), 'traffic goes on');
    writeTable(staticFile, tableOf(hosts));
    await waitFor(isReady, 'readiness');
  });

  await t.test('leases come and go with the file', async (t) => {
    writeTable(staticFile, tableOf([a]));
    await waitFor(async () => !(await reaches()), 'the lease to go');
    writeTable(staticFile, tableOf(hosts));
    await waitFor(reaches, 'the lease to come back');
    t.equal((await statusOf(lab, a)).peers.length, 1);
  });

  await t.test('SIGUSR1 opens no inspector, SIGHUP and SIGPIPE do nothing', async (t) => {
    for (const signal of ['SIGUSR1', 'SIGHUP', 'SIGPIPE'] as const) daemons[0].child.kill(signal);
    t.ok(await reaches());
    const { stdout } = await lab.run(a.ns, 'cat', ['/proc/net/tcp']);
    t.notMatch(stdout, /:23ED /, 'nobody listens on 9229');
    t.equal(daemons[0].child.exitCode, null);
  });

  await t.test('a restart loses nothing that TCP would not repair, and keeps the device', async (t) => {
    const before = lab.ip(a.ns, '-o link show flannel0').split(':')[0];
    t.equal(await lab.end(daemons[0], 'SIGKILL'), 128);
    daemons[0] = await startDaemon(lab, a, staticFile);
    t.equal(lab.ip(a.ns, '-o link show flannel0').split(':')[0], before, 'the same device');
    t.ok(await reaches());
  });

  await t.test('a restart with another subnet takes its own former address away, and no other', async (t) => {
    lab.ip(a.ns, 'address add 192.168.88.1/32 dev flannel0');
    t.equal(await lab.end(daemons[0]), 0);
    const [, ofB] = tableOf(hosts).leases;
    writeTable(staticFile, {
      ...tableOf(hosts),
      leases: [{ subnet: '10.5.9.0/24', publicIP: a.underlayIp }, ofB],
    });
    await startDaemon(lab, a, staticFile);
    const addresses = lab.ip(a.ns, '-o -4 address show dev flannel0');
    t.strictSame([...addresses.matchAll(/inet (\S+)/g)].map(([, address]) => address).sort(), [
      '10.5.9.0/32',
      '192.168.88.1/32',
    ]);
  });
});
