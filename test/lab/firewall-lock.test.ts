// Another program holds the lock of iptables-legacy, as kube-proxy does on a busy host: the start does not wait for it,
// nor does the end.

import { existsSync, mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { type Host, Lab, labUnavailable, type Task, waitFor } from '../support/lab.js';
import {
  daemonArguments,
  HEALTH_PORT,
  startDaemon,
  statusOf,
  tableOf,
  writeTable,
} from '../support/twill-hosts.js';

t.test('a held firewall lock keeps nobody waiting', { skip: labUnavailable() }, async (t) => {
  const lab = Lab.open('fwl-');
  t.teardown(() => lab.close());
  const [a, b] = [1, 2].map((number) => lab.addHost(number));
  const staticFile = join(lab.dir, 'static.json');
  writeTable(staticFile, tableOf([a, b]));
  await startDaemon(lab, b, staticFile);

  const folder = join(lab.dir, 'legacy');
  mkdirSync(folder);
  for (const program of ['iptables', 'iptables-restore']) {
    const legacy = program.replace('iptables', 'iptables-legacy');
    const { stdout } = await lab.run(a.ns, 'which', [legacy]);
    symlinkSync(stdout.trim(), join(folder, program));
  }
  const start = (): Task => {
    const path = `PATH=${folder}:${process.env['PATH']}`;
    const args = [...daemonArguments(a, staticFile), '--ip-masq', '--iptables-resync=1'];
    return lab.spawn(a.ns, 'env', [path, process.execPath, ...args]);
  };
  // flock(1) becomes the process that holds it.
  const hold = async (): Promise<Task> => {
    const words = ['-F', '/run/xtables.lock', 'sh', '-c', 'echo held; exec sleep 60'];
    return await lab.spawnUntil(a.ns, 'flock', words, /held/);
  };
  const toolsOf = async ({ ns }: Host): Promise<string> => {
    const script = `for pid in $(ip netns pids ${ns}); do cat /proc/$pid/comm; done 2>/dev/null | grep iptables`;
    return (await lab.run(ns, 'sh', ['-c', script], { mustSucceed: false })).stdout;
  };
  const rules = async (host: Host) => (await lab.run(host.ns, 'iptables-legacy-save', [])).stdout;
  const endsSoon = async (daemon: Task, when: string): Promise<void> => {
    const startedAt = performance.now();
    await lab.end(daemon);
    const ms = Math.round(performance.now() - startedAt);
    t.ok(ms < 1_000, `${when}: ended after ${ms} ms`);
    t.equal(await toolsOf(a), '', `${when}: no tool is left waiting`);
  };

  const holder = await hold();
  const subnetFile = join(a.dir, 'subnet.env');
  let daemon = start();
  await waitFor(() => existsSync(subnetFile), 'subnet.env', 4_000);
  const afterMs = () => Number(/ready after (\d+) ms/.exec(daemon.log())?.[1]);
  await waitFor(() => afterMs() > 0, 'the start');
  t.ok(afterMs() < 3_000, `started after ${afterMs()} ms`);
  await waitFor(async () => (await statusOf(lab, a)).peers.length === 1, 'the peer');
  const { status, body } = await lab.get(a.ns, `http://127.0.0.1:${HEALTH_PORT}/readyz`);
  t.equal(status, 503);
  t.match(body, /error node firewall since \S+Z: .*lock/);
  await lab.end(holder);
  await waitFor(async () => (await rules(a)).includes('FLANNEL-POSTRTG'), 'the rules', 10_000);
  await waitFor(
    async () => (await lab.get(a.ns, `http://127.0.0.1:${HEALTH_PORT}/readyz`)).status === 200,
    'health',
    10_000,
  );

  const again = await hold();
  await waitFor(async () => (await toolsOf(a)) !== '', 'a resync that waits');
  await endsSoon(daemon, 'in a resync');
  daemon = start();
  await waitFor(() => /own subnet is/.test(daemon.log()), 'the lease');
  await endsSoon(daemon, 'at the start');
  daemon = start();
  await waitFor(() => /ready after/.test(daemon.log()), 'the start', 10_000);
  await endsSoon(daemon, 'after the start');
  await lab.end(again);
});
