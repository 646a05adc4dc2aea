// A name server that never answers: SIGTERM is obeyed within a second all the same. A name that leads elsewhere is
// followed.
//
//   h1: daemon ─► resolver ─► 127.0.0.53: listens, says nothing          etcd, reached by a name in /etc/hosts

import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import t from 'tap';
import type { Test } from 'tap';
import {
  ETCD_PREFIX,
  ETCD_PROGRAMS,
  etcdctl,
  etcdDaemonArguments,
  restartEtcd,
  startEtcd,
} from '../support/etcd-hosts.js';
import { Lab, labUnavailable, waitFor } from '../support/lab.js';
import type { Task } from '../support/lab.js';
import { ensurePackages } from '../support/packages.js';

t.test('SIGTERM while no name is resolved', { skip: labUnavailable() }, async (t) => {
  ensurePackages([...ETCD_PROGRAMS, 'socat']);
  const lab = Lab.open('dns-');
  t.teardown(() => lab.close());
  const etcd = await startEtcd(lab, { Network: '10.5.0.0/16', Backend: { Type: 'udp' } });
  const host = lab.addHost(1, { subnet: undefined });
  // ip-netns(8) mounts what lies here over the files of the same name in /etc.
  const etc = `/etc/netns/${host.ns}`;
  mkdirSync(etc, { recursive: true });
  t.teardown(() => rmSync(etc, { recursive: true }));
  writeFileSync(`${etc}/resolv.conf`, 'nameserver 127.0.0.53\n');
  const setHosts = (text: string): void => writeFileSync(`${etc}/hosts`, `127.0.0.1 localhost\n${text}`);
  setHosts('');
  const start = (endpoints: string): Task =>
    lab.spawn(
      host.ns,
      process.execPath,
      [...etcdDaemonArguments(host), '--control-socket=off', `--etcd-endpoints=${endpoints}`].filter(
        (arg) => !arg.startsWith('--etcd-endpoints=http://172'),
      ),
    );
  const endsInTime = async (t: Test, daemon: Task, signal: NodeJS.Signals): Promise<void> => {
    const startedMs = performance.now();
    t.equal(await lab.end(daemon, signal), 0, daemon.log());
    const tookMs = Math.round(performance.now() - startedMs);
    t.ok(tookMs < 2_000, `${tookMs} ms`); // one second, on a machine that is not busy; a resolver gives up after 5
  };
  const serveNothing = (): Task => lab.spawn(host.ns, 'socat', ['-u', 'UDP-RECV:53,bind=127.0.0.53', '-']);
  let server = serveNothing();

  const lists = ['http://a.test:2379', 'http://a.test:2379,http://b.test:2379,c.test,http://d.test:1'];
  lists.push('http://127.0.0.1:1,http://a.test:2379');
  for (const [index, endpoints] of lists.entries()) {
    for (const signal of index === 0 ? (['SIGTERM', 'SIGINT'] as const) : (['SIGTERM'] as const)) {
      await t.test(`at the start, ${endpoints}, ${signal}`, async (t) => {
        const daemon = start(endpoints);
        await waitFor(() => server.log().includes('\u0001a\u0004test'), 'the question');
        if (index > 0)
          await waitFor(() => /Cannot connect|unreachable|waiting/.test(daemon.log()), 'a fault', 20_000);
        await endsInTime(t, daemon, signal);
        await lab.end(server, 'SIGKILL');
        server = serveNothing();
      });
    }
  }

  await t.test('E17 the name of etcd leads to another address', async (t) => {
    setHosts('172.20.0.250 a.test\n');
    const daemon = start('http://a.test:2379');
    await waitFor(() => /ready after/.test(daemon.log()), 'the daemon');
    await lab.end(etcd.task, 'SIGKILL');
    lab.ip(etcd.ns, 'address delete 172.20.0.250/24 dev eth0');
    lab.ip(etcd.ns, 'address add 172.20.0.251/24 dev eth0');
    setHosts('172.20.0.251 a.test\n');
    await restartEtcd(lab, etcd);
    const lease = JSON.stringify({ PublicIP: '172.20.0.9', BackendType: 'udp', BackendData: null });
    await etcdctl(lab, etcd, ['put', `${ETCD_PREFIX}/subnets/10.5.99.0-24`, lease]);
    await waitFor(() => /leases changed .*10\.5\.99\.0/.test(daemon.log()), 'the new lease', 20_000);
    await endsInTime(t, daemon, 'SIGTERM');
    lab.ip(etcd.ns, 'address replace 172.20.0.250/24 dev eth0');
  });

  await t.test('at run time, after the name of etcd died', async (t) => {
    setHosts('172.20.0.250 a.test\n');
    const daemon = start('http://a.test:2379');
    await waitFor(() => /ready after/.test(daemon.log()), 'the daemon');
    setHosts('');
    await lab.end(etcd.task, 'SIGKILL');
    await waitFor(() => server.log().includes('\u0001a\u0004test'), 'the question');
    await endsInTime(t, daemon, 'SIGTERM');
  });
});
