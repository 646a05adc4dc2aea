// What a container runtime limits by cgroups: memory, and the number of processes and threads. The groups are our own.

import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type Host, Lab, labUnavailable, type Task, waitFor } from '../support/lab.js';
import { daemonArguments, startDaemon, statusOf, tableOf, writeTable } from '../support/twill-hosts.js';

const ROOT = '/sys/fs/cgroup';

/** Where groups of a controller are made: a hierarchy of its own (v1), or the one of all (v2). */
function hierarchyOf(controller: string): string | undefined {
  if (existsSync(join(ROOT, controller, 'cgroup.procs'))) return join(ROOT, controller);
  const shared = join(ROOT, 'cgroup.subtree_control');
  return existsSync(shared) && readFileSync(shared, 'utf8').split(/\s/).includes(controller)
    ? ROOT
    : undefined;
}

function unavailable(controller: string): string | false {
  return labUnavailable() || (hierarchyOf(controller) === undefined && `no cgroups for ${controller}`);
}

/** Makes a group; it goes with the test, after the lab. */
function makeGroup(t: Test, controller: string): string {
  const group = join(hierarchyOf(controller)!, `tw-${process.pid}-${controller}`);
  mkdirSync(group);
  t.teardown(() => rmdirSync(group));
  return group;
}

/** Starts a daemon inside of a group. Its namespace shows no cgroups, so it waits until it was put there. */
async function startIn(lab: Lab, group: string, host: Host, staticFile: string): Promise<Task> {
  const sign = join(lab.dir, 'is-in-group');
  const script = 'until [ -e "$0" ]; do sleep 0.02; done; exec "$@"';
  const args = ['-c', script, sign, process.execPath, ...daemonArguments(host, staticFile)];
  const daemon = lab.spawn(host.ns, 'sh', args);
  writeFileSync(join(group, 'cgroup.procs'), String(daemon.child.pid));
  writeFileSync(sign, '');
  await waitFor(() => /ready after/.test(daemon.log()), 'the daemon to be ready', 15_000);
  return daemon;
}

async function setUp(t: Test, group: string) {
  const lab = Lab.open('lim-');
  t.teardown(() => lab.close());
  const hosts = [lab.addHost(1), lab.addHost(2)];
  const staticFile = join(lab.dir, 'static.json');
  writeTable(staticFile, tableOf(hosts));
  const [daemon] = await Promise.all([
    startIn(lab, group, hosts[0], staticFile),
    startDaemon(lab, hosts[1], staticFile),
  ]);
  const reaches = async (): Promise<boolean> =>
    (
      await lab.run(hosts[0].containerNs, 'ping', ['-c1', '-W1', hosts[1].containerIp], {
        mustSucceed: false,
      })
    ).code === 0;
  await waitFor(reaches, 'a ping to get through');
  t.match(readFileSync(join(group, 'cgroup.procs'), 'utf8').split('\n'), [String(daemon.child.pid)]);
  return { lab, hosts, staticFile, daemon, reaches };
}

t.test('P11 64 MiB of memory, the least that is documented', { skip: unavailable('memory') }, async (t) => {
  const group = makeGroup(t, 'memory');
  const file = ['memory.max', 'memory.limit_in_bytes'].find((name) => existsSync(join(group, name)))!;
  writeFileSync(join(group, file), String(64 << 20));
  const { lab, hosts, staticFile, daemon, reaches } = await setUp(t, group);
  const { config, leases } = tableOf(hosts);
  for (let round = 1; round <= 10; round++) {
    const others = Array.from({ length: 20 * round }, (_, i) => ({
      subnet: `10.5.${10 + i}.0/24`,
      publicIP: `172.20.1.${10 + i}`,
    }));
    writeTable(staticFile, { config, leases: [...leases, ...others] });
    await waitFor(
      async () => (await statusOf(lab, hosts[0])).peers.length === 1 + others.length,
      'the leases to be learned',
    );
  }
  t.ok(await reaches());
  t.equal(daemon.child.exitCode ?? daemon.child.signalCode, null, 'it lives');
});

t.test('P13 no process or thread can be made', { skip: unavailable('pids') }, async (t) => {
  const group = makeGroup(t, 'pids');
  const { lab, hosts, daemon, reaches } = await setUp(t, group);
  const [a] = hosts;
  const limit = (most: string): void => writeFileSync(join(group, 'pids.max'), most);
  limit(readFileSync(join(group, 'pids.current'), 'utf8').trim());
  const before = daemon.log().length;
  lab.ip(a.ns, 'link set flannel0 mtu 1300');
  await waitFor(() => /EAGAIN/.test(daemon.log().slice(before)), 'the lack to be met', 15_000);
  t.ok(await reaches(), 'packets flow');
  t.equal(daemon.child.exitCode, null, 'it lives');
  const lines = daemon.log().slice(before).split('\n').length;
  t.ok(lines <= 20, `${lines} lines in the log`);
  limit('max');
  await waitFor(() => /mtu 1472/.test(lab.ip(a.ns, 'link show flannel0')), 'the repair', 8_000);
  t.ok(await reaches());
});
