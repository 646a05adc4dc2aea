// A daemon that is replaced or killed under traffic while its store is away: it goes on with the saved table.
//
//   etcd, or a stand-in of the API server: stopped
//   container a ─ twilld, again and again ═══ UDP 8285 ═══ twilld ─ container b

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { openStandIn } from '../support/api-server-plane.js';
import { ETCD_PROGRAMS, etcdDaemonArguments, joinHost, startEtcd } from '../support/etcd-hosts.js';
import { KUBE_NETWORK, KubeHosts } from '../support/kube-overlay.js';
import { type Host, Lab, labUnavailable, waitFor } from '../support/lab.js';
import { ensurePackages } from '../support/packages.js';
import { ending, HOLDER, type Replaced, takeOver } from '../support/replacing.js';
import { checkArrived, sendBothWays } from '../support/steady.js';
import { checkSums, statusOf } from '../support/twill-hosts.js';

const skip = labUnavailable();
/** More on demand, as in `RESTART_ROUNDS=100`. */
const ROUNDS = Number(process.env.RESTART_ROUNDS ?? 1);
const RATE = 500;
/** So long after a start the one on standby has its code loaded. */
const STANDBY_MS = 1_000;

interface Scene {
  readonly lab: Lab;
  readonly hosts: readonly [Host, Host];
  /** Of the daemon of the first host, as `env` takes it. */
  readonly words: readonly string[];
  /** It is away: its connections end and nobody listens, or it answers no more. */
  readonly stop: () => unknown;
  readonly freeze: () => unknown;
}

const flagsOf = (host: Host): string[] => [`--control-socket=${join(host.dir, 'control.sock')}`];

async function onEtcd(lab: Lab): Promise<Scene> {
  ensurePackages(ETCD_PROGRAMS);
  const { task } = await startEtcd(lab, { Network: '10.5.0.0/16', Backend: { Type: 'udp' } });
  const [first, second] = await Promise.all([joinHost(lab, 1), joinHost(lab, 2)]);
  await lab.end(first.daemon);
  const hosts = [first.host, second.host] as const;
  return {
    lab,
    hosts,
    words: [HOLDER, process.execPath, ...etcdDaemonArguments(hosts[0], flagsOf(hosts[0]))],
    stop: () => lab.end(task, 'SIGKILL'),
    freeze: () => task.child.kill('SIGSTOP'),
  };
}

async function onKube(lab: Lab): Promise<Scene> {
  const plane = await openStandIn(lab);
  const config = join(lab.dir, 'net-conf.json');
  writeFileSync(config, JSON.stringify({ Network: KUBE_NETWORK, Backend: { Type: 'udp' } }));
  const kube = new KubeHosts(lab, plane);
  const hosts = [await kube.join(1, 'a', config), await kube.join(2, 'b', config)] as const;
  await lab.end(kube.daemons.get('a')!);
  const words = kube.words(hosts[0], 'a', config, flagsOf(hosts[0]));
  const program = words.indexOf(process.execPath);
  return {
    lab,
    hosts,
    words: [...words.slice(0, program), HOLDER, ...words.slice(program)],
    stop: () => plane.kill(),
    freeze: () => plane.freeze(),
  };
}

async function check(t: Test, { lab, hosts, words, stop, freeze }: Scene, isSilent: boolean): Promise<void> {
  const [a, b] = hosts;
  const daemon: Replaced = {
    lab,
    host: a,
    words,
    task: await lab.spawnUntil(a.ns, 'env', words, /ready after/),
  };
  for (const host of hosts)
    await waitFor(async () => (await statusOf(lab, host)).peers.length === 1, 'each to know the other');
  const ping = ['-c', '1', '-W', '1', b.containerIp];
  const reaches = async (): Promise<boolean> =>
    (await lab.run(a.containerNs, 'ping', ping, { mustSucceed: false })).code === 0;
  await waitFor(reaches, 'the containers to reach each other');
  await (isSilent ? freeze : stop)();
  const seconds = 3 + 5 * ROUNDS;
  const arrived = await sendBothWays(lab, hosts, RATE, seconds, async () => {
    for (let round = 0; round < ROUNDS; round++) {
      await takeOver(daemon);
      t.match(daemon.task.log(), /starting from the lease table of/);
      await setTimeout(STANDBY_MS);
      await ending('SIGKILL')(daemon);
      await setTimeout(200);
    }
  });
  t.match(daemon.task.log(), /starting from the lease table of[^]*starting from the lease table of/);
  checkArrived(t, arrived, RATE * seconds, 2 * ROUNDS);
  await checkSums(t, lab, a);
}

for (const [name, open] of [
  ['etcd', onEtcd],
  ['the API server', onKube],
] as const)
  for (const isSilent of [false, true]) {
    // The other two on demand.
    if (process.env.RESTART_ROUNDS === undefined && isSilent === (open === onEtcd)) continue;
    t.test(`${name} ${isSilent ? 'answers no more' : 'is gone'}`, { skip, timeout: 1_200_000 }, async (t) => {
      const lab = Lab.open(`rs${name.at(-1)}${isSilent ? 's' : 'g'}-`);
      t.teardown(() => lab.close());
      await check(t, await open(lab), isSilent);
    });
  }
