// What /readyz, twill_ready, /status and the log say, and that they say the same: 503 for what this host cannot do.

import t, { type Test } from 'tap';
import { type Host, Lab, labUnavailable, waitFor } from '../../bench/lab/lab.js';
import { HEALTH_PORT, startCluster, statusOf, tableOf, writeTable } from '../../bench/lab/twill-hosts.js';

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
    lab.get(host.ns, `${url}/metrics`),
    statusOf(lab, host),
  ]);
  const gauge = Number(/^twill_ready (\d)$/m.exec(metrics.body)?.[1]);
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
      writeTable(staticFile, { ...table, leases: [...table.leases, lease as never] });
      await expectReady(t, await says(sign));
      writeTable(staticFile, table);
      await becomesClean();
    }
  });

  await t.test('an edit of the config', async (t) => {
    writeTable(staticFile, { ...table, config: { ...table.config, SubnetMax: '10.5.200.0' } });
    await expectReady(t, await says(/warning cluster config-changed since \S+Z: .*restart/));
    writeTable(staticFile, table);
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
