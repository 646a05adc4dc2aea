// Leases that end: a host dies and its lease is revoked; a subnet is given to another host, and its daemon takes the
// documented way out.

import t from 'tap';
import {
  ETCD_PREFIX,
  etcdctl,
  etcdDaemonArguments,
  joinHost,
  leasedSubnet,
  startEtcd,
} from '../support/etcd-hosts.js';
import type { Host } from '../support/lab.js';
import { Lab, labUnavailable, waitFor } from '../support/lab.js';
import { statusOf } from '../support/twill-hosts.js';

t.setTimeout(120_000);

const CONFIG = { Network: '10.5.0.0/16', SubnetLen: 24, Backend: { Type: 'udp' } };

t.test('leases end', { skip: labUnavailable() }, async (t) => {
  const lab = Lab.open('lost-');
  t.teardown(() => lab.close());
  const etcd = await startEtcd(lab, CONFIG);
  const joined = [await joinHost(lab, 1), await joinHost(lab, 2)];
  const [a, b] = joined.map(({ host }) => host);
  const keyOf = (host: Host): string => `${ETCD_PREFIX}/subnets/${leasedSubnet(host).replace('/', '-')}`;
  const reaches = async (): Promise<boolean> =>
    (await lab.run(a.containerNs, 'ping', ['-c', '1', '-W', '1', b.containerIp], { mustSucceed: false }))
      .code === 0;
  await waitFor(reaches, 'the containers to reach each other');

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
