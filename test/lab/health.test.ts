// What /readyz, twill_ready, /status and the log say, and that they say the same: 503 for what this host cannot do.

import { existsSync, mkdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { DAEMON, type Host, Lab, labUnavailable, waitFor } from '../support/lab.js';
import {
  countIn,
  HEALTH_PORT,
  metricsOf,
  startCluster,
  statusOf,
  tableOf,
  writeTable,
} from '../support/twill-hosts.js';

const skip = labUnavailable();

interface Told {
  readonly code: number;
  readonly body: string;
  readonly gauge: number;
  readonly isReady: boolean;
}

/** All that can be asked, at one moment. */
async function told(lab: Lab, host: Host): Promise<Told> {
  const url = `http://127.0.0.1:${HEALTH_PORT}`;
  const [readyz, metrics, { ready }] = await Promise.all([
    lab.get(host.ns, `${url}/readyz`),
    metricsOf(lab, host),
    statusOf(lab, host),
  ]);
  const gauge = countIn(metrics, 'ready');
  return { code: readyz.status, body: readyz.body, gauge, isReady: ready };
}

t.test('health is true, and one', { skip }, async (t) => {
  const lab = Lab.open('hlt-');
  t.teardown(() => lab.close());
  const { hosts, daemons, staticFile } = await startCluster(lab, 2);
  const [a] = hosts;
  const log = (): string => daemons[0].log();
  const table = tableOf(hosts);
  const says = async (condition: RegExp): Promise<Told> => {
    await waitFor(async () => condition.test((await told(lab, a)).body), String(condition), 15_000);
    return await told(lab, a);
  };
  const expectReady = async (t: Test, found: Told): Promise<void> => {
    t.match(found, { code: 200, gauge: 1, isReady: true });
    t.match(found.body, /^flanneld is ready\n/);
    t.same((await statusOf(lab, a)).degraded, []);
  };
  const expectUnready = (t: Test, found: Told): void => {
    t.match(found, { code: 503, gauge: 0, isReady: false });
    t.match(found.body, /^flanneld is degraded\n/);
  };
  const becomesClean = () =>
    waitFor(async () => (await told(lab, a)).body === 'flanneld is ready', 'no condition', 15_000);

  await t.test('nothing is wrong at first', async (t) => {
    t.match(await told(lab, a), { code: 200, body: 'flanneld is ready', gauge: 1, isReady: true });
  });

  await t.test('leases of other hosts that cannot be used', async (t) => {
    const leases: [Record<string, unknown>, RegExp][] = [
      [
        { subnet: '10.5.9.0/24', publicIP: '192.0.2.9', backendType: 'vxlan' },
        /warning peer peer-other-type/,
      ],
      [{ subnet: '10.5.9.0/24', publicIP: a.underlayIp }, /warning peer lease-refused/],
    ];
    for (const [lease, sign] of leases) {
      writeTable(staticFile, { ...table, leases: [...table.leases, lease] });
      await expectReady(t, await says(sign));
      writeTable(staticFile, table);
      await becomesClean();
    }
  });

  await t.test('an edit of the config', async (t) => {
    for (const change of [{ SubnetMax: '10.5.200.0' }, { Backend: { Type: 'vxlan' } }]) {
      writeTable(staticFile, { ...table, config: { ...table.config, ...change } });
      await expectReady(t, await says(/warning cluster config-changed since \S+Z: .*restart/));
      t.notMatch((await told(lab, a)).body, /peer-other-type/, 'leases without a type keep theirs');
      writeTable(staticFile, table);
      await becomesClean();
    }
  });

  await t.test('the kernel does not forward', async (t) => {
    for (const key of ['ip_forward', 'conf/flannel0/forwarding']) {
      const set = (value: string) => lab.run(a.ns, 'sh', ['-c', `echo ${value} > /proc/sys/net/ipv4/${key}`]);
      await set('0');
      expectUnready(t, await says(/error node forwarding-off since \S+Z: net\.ipv4\.\S+ is 0.*sysctl -w/));
      await set('1');
      await becomesClean();
    }
  });

  await t.test('subnet.env is deleted, changed, or cannot be written', async (t) => {
    const path = join(a.dir, 'subnet.env');
    const good = readFileSync(path, 'utf8');
    const isBack = () => existsSync(path) && readFileSync(path, 'utf8') === good;
    for (let i = 0; i < 5; i++) {
      rmSync(path);
      await waitFor(isBack, 'the file to be back', 1_000);
    }
    writeFileSync(path, 'FLANNEL_MTU=9000\n');
    await waitFor(isBack, 'the right text', 1_000);
    // The file is back before its folder is synced, and what is done is counted after that.
    const repairs = async (): Promise<number> =>
      countIn(await metricsOf(lab, a), 'subnet_file_repairs_total');
    await waitFor(async () => (await repairs()) !== 5, 'the last one to be counted', 1_000);
    t.equal(await repairs(), 6);
    rmSync(path);
    mkdirSync(path);
    expectUnready(t, await says(/error node subnet-file since \S+Z: Cannot write subnet file/));
    rmdirSync(path);
    await waitFor(isBack, 'the file to be back', 1_000);
    await becomesClean();
  });

  await t.test('what this host cannot do, in every place, and in the log once', async (t) => {
    lab.ip(a.ns, 'link set eth0 down');
    expectUnready(t, await says(/error node interface-down since \S+Z: .*eth0 is down/));
    await waitFor(() => / not ready /.test(log()), 'the line of the log');
    lab.ip(a.ns, 'link set eth0 up');
    await becomesClean();
    await waitFor(() => /no longer: external interface eth0 is down/.test(log()), 'the other line');
    t.equal(log().match(/error external interface eth0 is down/g)?.length, 1);
    t.match(log(), / info  ready /);
  });
});

t.test('what the start waits for', { skip }, async (t) => {
  const lab = Lab.open('hlw-');
  t.teardown(() => lab.close());
  const host = lab.addHost(1);
  const args = [
    DAEMON,
    '--etcd-endpoints=http://127.0.0.1:1',
    `--healthz-port=${HEALTH_PORT}`,
    `--subnet-file=${join(host.dir, 'subnet.env')}`,
  ];
  await lab.spawnUntil(host.ns, process.execPath, args, /etcd unreachable/);
  const { status, body } = await lab.get(host.ns, `http://127.0.0.1:${HEALTH_PORT}/readyz`);
  t.equal(status, 503);
  t.match(body, /^flanneld is not ready yet\n/);
  t.match(body, /error node starting since \S+Z: waiting for the network config/);
  t.match(body, /error node store-unreachable since \S+Z: etcd unreachable: /);
});
