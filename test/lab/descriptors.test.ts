// A daemon that may open no more files: packets flow on, nothing ends, and it recovers by itself once it may again.

import { readdirSync } from 'node:fs';
import t from 'tap';
import {
  ETCD_PREFIX,
  ETCD_PROGRAMS,
  etcdctl,
  joinHost,
  restartEtcd,
  startEtcd,
} from '../support/etcd-hosts.js';
import { Lab, labUnavailable, waitFor } from '../support/lab.js';
import { ensurePackages } from '../support/packages.js';

t.test('no descriptor is left', { skip: labUnavailable() }, async (t) => {
  ensurePackages(ETCD_PROGRAMS);
  const lab = Lab.open('fds-');
  t.teardown(() => lab.close());
  const etcd = await startEtcd(lab, { Network: '10.5.0.0/16', Backend: { Type: 'udp' } });
  const { host: a, daemon } = await joinHost(lab, 1);
  const { host: b } = await joinHost(lab, 2);
  const pid = daemon.child.pid!;
  const mayOpen = (most: number) => lab.run(a.ns, 'prlimit', [`--pid=${pid}`, `--nofile=${most}:`]);
  const reaches = async (): Promise<boolean> =>
    (await lab.run(a.containerNs, 'ping', ['-c1', '-W1', b.containerIp], { mustSucceed: false })).code === 0;
  await waitFor(reaches, 'a ping to get through');

  const open = readdirSync(`/proc/${pid}/fd`);
  const before = daemon.log();
  const free = open.findIndex((_, fd) => !open.includes(String(fd)));
  await mayOpen(free === -1 ? open.length : free);
  const ping = lab.spawn(a.containerNs, 'ping', ['-i', '0.05', '-W', '1', b.containerIp]);
  await lab.end(etcd.task, 'SIGKILL');
  lab.ip(a.ns, 'route delete 10.5.0.0/16');
  lab.ip(a.ns, 'route add 10.5.0.0/16 dev flannel0'); // for the ping; the events make the daemon look
  await waitFor(() => /EMFILE/.test(daemon.log().slice(before.length)), 'the lack to be met', 15_000);
  for (let i = 0; i < 60; i++) {
    lab.ip(a.ns, `route replace 192.0.2.${i}/32 dev eth0`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  await restartEtcd(lab, etcd);
  t.equal(daemon.child.exitCode, null, 'it lives');
  const lines = daemon.log().slice(before.length).split('\n').length;
  t.ok(lines <= 50, `${lines} lines in the log`);

  await mayOpen(4096);
  await etcdctl(lab, etcd, [
    'put',
    `${ETCD_PREFIX}/subnets/10.5.77.0-24`,
    '{"PublicIP":"172.20.0.77","BackendType":"udp","BackendData":null}',
  ]);
  lab.ip(a.ns, 'link set flannel0 mtu 1300');
  await waitFor(() => /mtu 1472/.test(lab.ip(a.ns, 'link show flannel0')), 'the repair', 8_000);
  await waitFor(
    async () => {
      const { body } = await lab.get(a.ns, 'http://127.0.0.1:9180/status');
      return body.includes('10.5.77.0/24');
    },
    'the new lease',
    15_000,
  );
  await lab.end(ping, 'SIGINT');
  const [, sent, received] = /(\d+) packets transmitted, (\d+) received/.exec(ping.log())!;
  t.ok(Number(sent) - Number(received) <= 2, `${received} of ${sent}`);
});
