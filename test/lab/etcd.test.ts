// The overlay on etcd, with traffic: hosts join, leave and come back; etcd is killed, frozen, cut off and restarted. A
// ping every 10 ms runs through each fault and must lose nothing.

import { readFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import {
  ETCD_PREFIX,
  ETCD_PROGRAMS,
  ETCD_URL,
  etcdctl,
  type LabEtcd,
  etcdDaemonArguments,
  joinHost,
  leasedSubnet,
  restartEtcd,
  startEtcd,
  startEtcdDaemon,
} from '../support/etcd-hosts.js';
import { type Host, Lab, labUnavailable, waitFor } from '../support/lab.js';
import { ensurePackages } from '../support/packages.js';
import { HEALTH_PORT, statusOf } from '../support/twill-hosts.js';

const skip = labUnavailable();
const CONFIG = { Network: '10.5.0.0/16', Backend: { Type: 'udp' } };

/** Runs `fault` under a ping every 10 ms between two containers; none may be lost. */
async function underTraffic(
  t: Test,
  lab: Lab,
  a: Host,
  b: Host,
  fault: () => Promise<unknown>,
): Promise<void> {
  const ping = lab.spawn(a.containerNs, 'ping', ['-i', '0.01', '-W', '1', b.containerIp]);
  await waitFor(() => /icmp_seq=20 /.test(ping.log()), 'the ping to run');
  await fault();
  await lab.end(ping, 'SIGINT');
  const [, sent, received] = /(\d+) packets transmitted, (\d+) received/.exec(ping.log())!;
  // The last one may still be on its way when ping is ended.
  t.ok(Number(sent) - Number(received) <= 1, `${received} of ${sent}`);
}

function reaches(lab: Lab, from: Host, to: Host): Promise<boolean> {
  return lab
    .run(from.containerNs, 'ping', ['-c', '1', '-W', '1', to.containerIp], { mustSucceed: false })
    .then(({ code }) => code === 0);
}

async function isReady(lab: Lab, host: Host): Promise<boolean> {
  return (await lab.get(host.ns, `http://127.0.0.1:${HEALTH_PORT}/readyz`)).status === 200;
}

function keyOf(host: Host): string {
  return `${ETCD_PREFIX}/subnets/${host.subnet.replace('/', '-')}`;
}

async function leases(lab: Lab, etcd: LabEtcd): Promise<Map<string, string>> {
  const lines = (await etcdctl(lab, etcd, ['get', '--prefix', `${ETCD_PREFIX}/subnets`])).trim().split('\n');
  const found = new Map<string, string>();
  for (let i = 0; i + 1 < lines.length; i += 2) found.set(lines[i], lines[i + 1]);
  return found;
}

t.test('the overlay on etcd', { skip }, async (t) => {
  ensurePackages(ETCD_PROGRAMS);
  const lab = Lab.open('etcd-');
  t.teardown(() => lab.close());
  const etcd = await startEtcd(lab, CONFIG);
  const { host: a, daemon: daemonA } = await joinHost(lab, 1);
  const { host: b } = await joinHost(lab, 2);

  await t.test('two hosts reach each other, and the store holds what flannel would write', async (t) => {
    t.ok(await reaches(lab, a, b));
    t.same(
      await leases(lab, etcd),
      new Map(
        [a, b]
          .map((host) => [keyOf(host), `{"PublicIP":"${host.underlayIp}","PublicIPv6":null}`] as const)
          .sort(),
      ),
    );
  });

  await t.test('a third host joins under traffic', async (t) => {
    await underTraffic(t, lab, a, b, async () => {
      const { host: c, daemon } = await joinHost(lab, 3);
      await waitFor(() => reaches(lab, a, c), 'the new host to be reached');
      t.ok(await reaches(lab, c, b));
      await lab.end(daemon);
      await etcdctl(lab, etcd, ['del', keyOf(c)]);
      await waitFor(async () => (await statusOf(lab, a)).peers.length === 1, 'its lease to go');
    });
  });

  await t.test('etcd is killed for 3 s and restarted under traffic', async (t) => {
    await underTraffic(t, lab, a, b, async () => {
      await lab.end(etcd.task, 'SIGKILL');
      await waitFor(async () => !(await isReady(lab, a)), 'degraded', 20_000);
      await new Promise((resolve) => setTimeout(resolve, 3_000));
      await restartEtcd(lab, etcd);
      await waitFor(() => isReady(lab, a), 'readiness', 20_000);
    });
    const { host: d, daemon } = await joinHost(lab, 4);
    await waitFor(() => reaches(lab, a, d), 'a host that joined afterwards');
    await lab.end(daemon);
  });

  await t.test('etcd is frozen for 20 s under traffic', async (t) => {
    await underTraffic(t, lab, a, b, async () => {
      etcd.task.child.kill('SIGSTOP');
      await waitFor(async () => !(await isReady(lab, a)), 'degraded', 20_000);
      etcd.task.child.kill('SIGCONT');
      await waitFor(() => isReady(lab, a), 'readiness', 20_000);
    });
  });

  await t.test('the store is cut off by the network under traffic', async (t) => {
    await underTraffic(t, lab, a, b, async () => {
      lab.ip(lab.switchNs, 'link set p250 down');
      await waitFor(async () => !(await isReady(lab, a)), 'degraded', 30_000);
      lab.ip(lab.switchNs, 'link set p250 up');
      await waitFor(() => isReady(lab, a), 'readiness', 30_000);
    });
  });

  await t.test('the network kills the connection: the next endpoint, and no event is late', async (t) => {
    const first = ETCD_URL;
    const second = first.replace('.250:', '.251:');
    lab.ip(etcd.ns, 'addr add 172.20.0.251/24 dev eth0');
    const { host: e, daemon } = await joinHost(lab, 5, [`--etcd-endpoints=${first},${second}`]);
    const connectedTo = async (): Promise<unknown> =>
      ((await statusOf(lab, e)) as unknown as { store: { connectedTo: unknown } }).store.connectedTo;
    t.equal(await connectedTo(), first);
    // Ends the socket with ECONNABORTED, which gRPC calls INTERNAL.
    await lab.run(e.ns, 'ss', ['-K', 'dst', '172.20.0.250', 'dport', '=', '2379']);
    await waitFor(async () => (await connectedTo()) === second, 'the next endpoint', 3_000);
    const count = (await statusOf(lab, e)).peers.length;
    await etcdctl(lab, etcd, ['put', `${ETCD_PREFIX}/subnets/10.5.250.0-24`, '{"PublicIP":"172.20.0.99"}']);
    await waitFor(async () => (await statusOf(lab, e)).peers.length === count + 1, 'the event', 2_500);
    await etcdctl(lab, etcd, ['del', `${ETCD_PREFIX}/subnets/10.5.250.0-24`]);
    await lab.end(daemon);
  });

  await t.test('an operator deletes our lease: it is taken again at once, the same subnet', async (t) => {
    // Between the two the peers rightly have no route to us, so this is the one fault that may lose packets.
    const startedMs = Date.now();
    await etcdctl(lab, etcd, ['del', keyOf(a)]);
    await waitFor(async () => (await leases(lab, etcd)).has(keyOf(a)), 'the lease to be back', 2_000);
    await waitFor(() => reaches(lab, b, a), 'traffic', 2_000);
    t.comment(`back after ${Date.now() - startedMs} ms`);
    t.equal(daemonA.child.exitCode, null);
    t.equal(leasedSubnet(a), a.subnet);
  });

  await t.test('a daemon that restarts gets its subnet back', async (t) => {
    t.equal(await lab.end(daemonA), 0);
    const again = await startEtcdDaemon(lab, a);
    t.equal(leasedSubnet(a), a.subnet);
    await waitFor(() => reaches(lab, a, b), 'traffic');
    t.equal(await lab.end(again), 0);
  });

  await t.test('a daemon that starts while etcd is away forwards from its saved table', async (t) => {
    await lab.end(etcd.task, 'SIGKILL');
    const log = await lab.spawnUntil(a.ns, process.execPath, etcdDaemonArguments(a), /ready after/, 10_000);
    const [, readyMs] = /ready after (\d+) ms/.exec(log.log())!;
    t.comment(`ready after ${readyMs} ms`);
    t.ok(await reaches(lab, a, b));
    t.notOk(await isReady(lab, a));
    t.match((await statusOf(lab, a)).degraded.join(), /lease table of .* in use: etcd has not answered yet/);
    await restartEtcd(lab, etcd);
    await waitFor(() => isReady(lab, a), 'readiness', 20_000);
    t.equal(leasedSubnet(a), a.subnet);
    t.ok(readFileSync(`${a.dir}/subnet.env`, 'utf8').includes('FLANNEL_MTU=1472'));
  });
});
