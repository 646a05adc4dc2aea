// Real daemons on a real etcd with real packets: what the faults of the store do to traffic (nothing), a start while etcd
// is down, and the way out when the lease is lost.

import t from 'tap';
import {
  ETCD_PREFIX,
  etcdctl,
  etcdDaemonArguments,
  joinHost,
  leasedSubnet,
  restartEtcd,
  startEtcd,
  startEtcdDaemon,
} from '../../bench/lab/etcd-hosts.js';
import type { Host, Task } from '../../bench/lab/lab.js';
import { Lab, labUnavailable, waitFor } from '../../bench/lab/lab.js';
import { HEALTH_PORT, statusOf } from '../../bench/lab/twill-hosts.js';

t.setTimeout(120_000);

const CONFIG = { Network: '10.5.0.0/16', SubnetLen: 24, Backend: { Type: 'udp' } };

t.test('daemons on etcd', { skip: labUnavailable() }, async (t) => {
  const lab = Lab.open('etcd-');
  t.teardown(() => lab.close());
  const etcd = await startEtcd(lab, CONFIG);
  const joined = [await joinHost(lab, 1), await joinHost(lab, 2)];
  const [a, b] = joined.map(({ host }) => host);
  const keyOf = (host: Host): string => `${ETCD_PREFIX}/subnets/${leasedSubnet(host).replace('/', '-')}`;
  const reaches = async (): Promise<boolean> =>
    (await lab.run(a.containerNs, 'ping', ['-c', '1', '-W', '1', b.containerIp], { mustSucceed: false }))
      .code === 0;
  const isReady = async (host: Host): Promise<boolean> =>
    (await lab.get(host.ns, `http://127.0.0.1:${HEALTH_PORT}/readyz`)).status === 200;
  await waitFor(reaches, 'the containers to reach each other');

  /** Pings every 10 ms while `fault` goes on; resolves to the number of packets without answer. */
  const lostDuring = async (fault: () => Promise<void>): Promise<number> => {
    const task: Task = lab.spawn(a.containerNs, 'ping', ['-q', '-i', '0.01', b.containerIp]);
    await fault();
    task.child.kill('SIGINT');
    await task.exited;
    const match = /(\d+) packets transmitted, (\d+) received/.exec(task.log());
    return Number(match?.[1]) - Number(match?.[2]);
  };

  await t.test('E1 etcd killed and restarted: no packet is lost', async (t) => {
    const lost = await lostDuring(async () => {
      await lab.end(etcd.task, 'SIGKILL');
      await waitFor(
        async () => (await statusOf(lab, a)).degraded.some((reason) => reason.includes('etcd unreachable')),
        'reason',
      );
      await restartEtcd(lab, etcd);
      await waitFor(async () => (await isReady(a)) && (await isReady(b)), 'readiness');
    });
    t.equal(lost, 0);
  });

  await t.test(
    'E18 killed and started again while etcd is down: forwards from the saved table',
    async (t) => {
      await lab.end(etcd.task, 'SIGKILL');
      await lab.end(joined[0].daemon, 'SIGKILL');
      const startedMs = Date.now();
      joined[0].daemon = await startEtcdDaemon(lab, a);
      const readyMs = Date.now() - startedMs;
      t.ok(await reaches(), 'traffic flows');
      t.comment(
        `ready ${readyMs} ms after its start, ${/ready after \d+ ms/.exec(joined[0].daemon.log())?.[0]}`,
      );
      t.match((await statusOf(lab, a)).degraded.join('\n'), /lease table of .* in use/);
      const lost = await lostDuring(async () => {
        await restartEtcd(lab, etcd);
        await waitFor(() => isReady(a), 'readiness');
      });
      t.equal(lost, 0, 'reconciled without loss');
    },
  );

  await t.test('a third host joins; its lease is revoked', async (t) => {
    const { host: c, daemon } = await joinHost(lab, 3);
    const peers = async (): Promise<string> => JSON.stringify((await statusOf(lab, a)).peers);
    await waitFor(async () => (await peers()).includes(leasedSubnet(c)), 'the new peer');
    await lab.end(daemon, 'SIGKILL');
    const row = await etcdctl(lab, etcd, ['get', keyOf(c), '-w', 'fields']);
    const lease = BigInt(/"Lease" : (\d+)/.exec(row)![1]).toString(16);
    await etcdctl(lab, etcd, ['lease', 'revoke', lease]);
    await waitFor(async () => !(await peers()).includes(leasedSubnet(c)), 'the peer is gone');
    t.ok(await reaches());
  });

  await t.test('E12 the own key is deleted: the same subnet, no packet lost on the way out', async (t) => {
    await etcdctl(lab, etcd, ['del', keyOf(a)]);
    await waitFor(async () => (await etcdctl(lab, etcd, ['get', keyOf(a)])) !== '', 'the key');
    await waitFor(reaches, 'traffic');
    t.equal(joined[0].daemon.child.exitCode, null);
  });

  await t.test('the subnet is given to another host: exit code 3', async (t) => {
    const before = leasedSubnet(a);
    // setpriv and ip replace themselves by the daemon, so this is its pid.
    joined[0].daemon.child.kill('SIGSTOP');
    await etcdctl(lab, etcd, ['del', keyOf(a)]);
    await etcdctl(lab, etcd, ['put', keyOf(a), '{"PublicIP":"172.20.0.99","PublicIPv6":null}']);
    joined[0].daemon.child.kill('SIGCONT');
    t.equal(await joined[0].daemon.exited, 3);
    t.match(joined[0].daemon.log(), /E_LEASE_LOST/);
    t.match(await etcdctl(lab, etcd, ['get', keyOf(a)]), '172.20.0.99', 'not written over');
    const again = await lab.spawnUntil(a.ns, process.execPath, etcdDaemonArguments(a), /ready after/);
    t.not(leasedSubnet(a), before, 'the next start takes another subnet');
    t.notMatch(again.log(), 'lease table of');
  });
});
