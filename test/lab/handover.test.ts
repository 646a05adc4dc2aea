// A data path that changes hands when something is odd: who asks is a stranger or goes away, daemons crash in a loop,
// the mode is the kernel's, descriptors must not pile up.

import { chmodSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type Host, Lab, labUnavailable, PROJECT_ROOT, type Task, waitFor } from '../support/lab.js';
import { daemonArguments, statusOf, tableOf, writeTable } from '../support/twill-hosts.js';

const skip = labUnavailable();
const HOLDER = join(PROJECT_ROOT, 'build', 'Release', 'twill-holder');
/** More on demand, as in `HANDOVER_ROUNDS=1000`. */
const ROUNDS = Number(process.env.HANDOVER_ROUNDS ?? 3);

/** Asks for the descriptors as a user, prints the answer and how many came, and goes away. */
const ASKS = `
import os, socket, sys
path, protocol, user = sys.argv[1:]
os.setuid(int(user))
s = socket.socket(socket.AF_UNIX); s.connect(path)
head = ['GET /handover HTTP/1.1', 'Host: x', 'Connection: Upgrade', 'Upgrade: ' + protocol, '', '']
s.send('\\r\\n'.join(head).encode())
count, text = 0, b''
while True:
    data, fds, _, _ = socket.recv_fds(s, 4096, 64)
    count, text = count + len(fds), text + data
    if not data or text.endswith(b'}\\n'): break
print(text.decode(), 'descriptors:', count)`;

interface Pair {
  readonly hosts: readonly [Host, Host];
  readonly args: readonly string[];
  readonly socket: string;
  readonly daemon: Task;
}

/** Two hosts, with what runs the daemon of the first. */
async function startPair(
  lab: Lab,
  backend: string,
  program: readonly string[],
  extra: readonly string[] = [],
): Promise<Pair> {
  const hosts = [lab.addHost(1), lab.addHost(2)] as const;
  const staticFile = join(lab.dir, 'static.json');
  writeTable(staticFile, tableOf(hosts, { Type: backend }));
  const socketOf = (host: Host): string => join(host.dir, 'control.sock');
  const [args, others] = hosts.map((host) =>
    daemonArguments(host, staticFile, [`--control-socket=${socketOf(host)}`, ...extra]),
  );
  const [first, ...rest] = [...program, ...args];
  const daemon = await lab.spawnUntil(hosts[0].ns, first, rest, /ready after/);
  await lab.spawnUntil(hosts[1].ns, process.execPath, others, /ready after/);
  return { hosts, args, socket: socketOf(hosts[0]), daemon };
}

async function reaches(lab: Lab, [a, b]: readonly [Host, Host]): Promise<boolean> {
  const args = ['-c', '1', '-W', '1', b.containerIp];
  return (await lab.run(a.containerNs, 'ping', args, { mustSucceed: false })).code === 0;
}

/** The process that a task is, or the older one of those below it. */
function daemonPid(task: Task, isHeld: boolean): number {
  const pid = task.child.pid!;
  if (!isHeld) return pid;
  return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ')[0]);
}

function descriptorsOf(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

t.test('strangers are refused, and who goes away has changed nothing', { skip }, async (t) => {
  const lab = Lab.open('ho-ask-');
  t.teardown(() => lab.close());
  const { hosts, socket, daemon } = await startPair(lab, 'udp', [process.execPath]);
  const [a] = hosts;
  const ask = async (protocol: string, user = 0): Promise<string> =>
    (await lab.run(a.ns, 'python3', ['-c', ASKS, socket, protocol, String(user)])).stdout;
  // As an operator might do who lets others ask for the status.
  for (const path of [lab.dir, a.dir]) chmodSync(path, 0o755);
  chmodSync(socket, 0o666);
  const stranger = await ask('twill-handover/1', 65534);
  t.match(stranger, /409 Conflict[^]*not allowed[^]*descriptors: 0/);
  t.match(daemon.log(), /user 65534 asked for the descriptors of the data path, and was refused/);
  t.match(await ask('twill-handover/99'), /409[^]*expected Upgrade: twill-handover\/1[^]*descriptors: 0/);
  t.notMatch(daemon.log(), /takes over/);
  t.ok(await reaches(lab, hosts));

  const before = descriptorsOf(daemon.child.pid!);
  for (let round = 1; round <= 3; round++) {
    t.match(await ask('twill-handover/1'), /101 Switching[^]*"names":\[.*flannel0\.tun\.0[^]*descriptors: 4/);
    const goesOn = (): boolean => daemon.log().split('ready after').length > round + 1;
    await waitFor(goesOn, 'the daemon to go on by itself');
    t.ok(await reaches(lab, hosts), `after ${round}`);
  }
  t.match(daemon.log(), /went away: going on/);
  // With what its two workers have waited for.
  const most = before + 2;
  await waitFor(() => descriptorsOf(daemon.child.pid!) <= most, `at most ${most} descriptors`);
  t.equal(await lab.end(daemon), 0);
});

t.test('without a daemon, --takeover is a start like any other', { skip }, async (t) => {
  const lab = Lab.open('ho-none-');
  t.teardown(() => lab.close());
  const { hosts, args, daemon } = await startPair(lab, 'udp', [process.execPath]);
  await lab.end(daemon);
  await lab.spawnUntil(hosts[0].ns, process.execPath, [...args, '--takeover'], /ready after/);
  t.ok(await reaches(lab, hosts));
});

t.test('five crashes within a minute: offloads off', { skip, timeout: 120_000 }, async (t) => {
  const lab = Lab.open('ho-crash-');
  t.teardown(() => lab.close());
  const { hosts, daemon } = await startPair(lab, 'udp', [HOLDER, process.execPath], ['--vmodule=x=2']);
  const [a] = hosts;
  for (let crash = 1; crash <= 5; crash++) {
    const { conditions, backend } = await statusOf(lab, a);
    t.notOk(
      conditions.some(({ code }) => code === 'safe-mode'),
      `after ${crash - 1} crashes`,
    );
    t.equal(backend.offloads?.tso4, true);
    process.kill(daemonPid(daemon, true), 'SIGSEGV');
    await waitFor(() => daemon.log().split('ready after').length > crash + 1, 'the next one', 10_000);
  }
  const { conditions, backend, ready } = await statusOf(lab, a);
  t.match(
    conditions.find(({ code }) => code === 'safe-mode'),
    { severity: 'warning', text: '5 crashes within a minute: offloads are off' },
  );
  t.ok(ready);
  t.equal(backend.offloads?.tso4, 'off');
  t.match(daemon.log(), /5 crashes within a minute: offloads are off/);
  t.equal(daemon.log().split('--vmodule').length, 2, 'a warning is said once, not by each standby');
  t.ok(await reaches(lab, hosts));
  t.equal(await lab.end(daemon), 0);
});

function tunQueues(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).filter((fd) => linkOf(`/proc/${pid}/fd/${fd}`).endsWith('/net/tun'))
    .length;
}

/** Empty for what is closed meanwhile. */
function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

t.test('another number of queues, or another address, than before', { skip, timeout: 120_000 }, async (t) => {
  const lab = Lab.open('ho-other-');
  t.teardown(() => lab.close());
  // Its flags change between two starts.
  const flags = join(lab.dir, 'flags');
  const wrap = join(lab.dir, 'wrap.sh');
  writeFileSync(flags, '--queues=4');
  writeFileSync(wrap, `#!/bin/sh\nexec "$@" $(cat ${flags})\n`, { mode: 0o755 });
  const { hosts, args, daemon } = await startPair(lab, 'udp', [
    HOLDER,
    '--no-standby',
    wrap,
    process.execPath,
  ]);
  const [a] = hosts;
  const { pid } = daemon.child;
  for (const [round, queues] of [2, 4, 1].entries()) {
    writeFileSync(flags, `--queues=${queues}`);
    process.kill(daemonPid(daemon, true), 'SIGKILL');
    const next = (): boolean => daemon.log().split('ready after').length > round + 2;
    await waitFor(next, 'the next one', 10_000);
    t.equal(tunQueues(pid!), queues, `the holder has ${queues} queues`);
    t.ok(await reaches(lab, hosts), `${queues} queues`);
  }
  t.match(daemon.log(), /left: Cannot go on with what was kept for flannel0: [a-z]+: it is of another/);
  t.equal(await lab.end(daemon), 0);

  const one = await lab.spawnUntil(a.ns, process.execPath, args, /ready after/);
  const two = await lab.spawnUntil(
    a.ns,
    process.execPath,
    [...args, '--takeover', '--queues=2'],
    /ready after/,
  );
  t.equal(await one.exited, 0);
  t.ok(await reaches(lab, hosts), 'taken over with two instead of one');
  const held = [HOLDER, process.execPath, ...args, '--takeover', '--queues=2'] as const;
  const last = await lab.spawnUntil(a.ns, held[0], held.slice(1), /ready after/);
  t.equal(await two.exited, 0);
  t.equal(tunQueues(last.child.pid!), 2, 'what was taken over is held');

  const opened = last.log().split('data path open on').length;
  lab.ip(a.ns, `address delete ${a.underlayIp}/24 dev eth0`);
  lab.ip(a.ns, `address add 172.20.0.77/24 dev eth0`);
  await waitFor(() => last.log().split('data path open on').length > opened, 'another data path', 15_000);
  t.match(last.log(), /data path open on flannel0 and UDP 172\.20\.0\.77:8285/);
  t.notMatch(last.log(), /EBUSY/);
  t.equal(tunQueues(last.child.pid!), 2);
  t.equal(await lab.end(last), 0);
});

t.test('one that asks and does nothing can be waited out', { skip }, async (t) => {
  const lab = Lab.open('ho-slow-');
  t.teardown(() => lab.close());
  const { hosts, socket, daemon } = await startPair(lab, 'udp', [process.execPath]);
  const asks = `${ASKS}\nsys.stdout.flush(); __import__('time').sleep(60)`;
  const silent = ['-c', asks, socket, 'twill-handover/1', '0'];
  await lab.spawnUntil(hosts[0].ns, 'python3', silent, /descriptors: 4/);
  t.ok(await reaches(lab, hosts), 'forwarded meanwhile');
  t.notMatch(daemon.log(), /takes longer/);
  const startedMs = Date.now();
  t.equal(await lab.end(daemon), 0);
  t.ok(Date.now() - startedMs < 3_000, `SIGTERM is obeyed after ${Date.now() - startedMs} ms`);
});

/** Stops a process for 25 s while it takes over from one that forwards. */
async function hang(t: Test, name: string, program: readonly string[]): Promise<void> {
  const lab = Lab.open(`ho-${name}-`);
  t.teardown(() => lab.close());
  const isSeen = program.length === 1;
  const { hosts, args, daemon } = await startPair(lab, 'udp', program);
  const [a, b] = hosts;
  const [first, ...rest] = program;
  const next = await lab.spawnUntil(a.ns, first, [...rest, ...args, '--takeover'], /own subnet is/);
  const pid = daemonPid(next, !isSeen);
  process.kill(pid, 'SIGSTOP');
  const pinging = lab.run(a.containerNs, 'ping', ['-q', '-i', '0.1', '-c', '270', b.containerIp]);
  await waitFor(() => daemon.log().includes('hangs'), 'the one before to lose its patience', 30_000);
  t.match(daemon.log(), /is not ready after 20400 ms: it is told to end/);
  t.match(daemon.log(), isSeen ? /hangs: it was killed/ : /hangs, and cannot be killed \(ESRCH\)/);
  if (!isSeen) process.kill(pid, 'SIGCONT');
  t.not(await next.exited, 0);
  await waitFor(() => daemon.log().split('ready after').length === 3, 'the one before to go on');
  t.notMatch(next.log(), /the data path goes on/);
  if (!isSeen) t.match(next.log(), /goes on: this one was not ready in time/);
  t.match((await pinging).stdout, /270 packets transmitted, 270 received/);
  t.ok((await statusOf(lab, a)).ready);
  const last = await lab.spawnUntil(a.ns, process.execPath, [...args, '--takeover'], /ready after/);
  t.equal(await daemon.exited, 0, 'another one may take over');
  t.equal(await lab.end(last), 0);
}

const POD = ['unshare', '--pid', '--fork', '--kill-child', '--mount-proc', process.execPath];

t.test(
  'one that hangs in the middle is ended, or ends when it wakes',
  { skip, timeout: 90_000 },
  async (t) => {
    await Promise.all([hang(t, 'hang', [process.execPath]), hang(t, 'wake', POD)]);
  },
);

t.test('thirty-four queues change hands, and outlive a kill', { skip, timeout: 120_000 }, async (t) => {
  const lab = Lab.open('ho-many-');
  t.teardown(() => lab.close());
  const { hosts, args, daemon } = await startPair(lab, 'udp', [process.execPath]);
  const [a] = hosts;
  const many = [...args, '--takeover', '--queues=34'];
  const first = await lab.spawnUntil(a.ns, process.execPath, many, /ready after/, 60_000);
  t.equal(await daemon.exited, 0);
  t.equal(tunQueues(first.child.pid!), 34);
  const held = await lab.spawnUntil(a.ns, HOLDER, [process.execPath, ...many], /ready after/, 60_000);
  t.equal(await first.exited, 0);
  t.match(held.log(), /the data path goes on with the descriptors/);
  t.notMatch(held.log(), /opening the data path anew/);
  t.ok(await reaches(lab, hosts), 'taken over');
  t.equal(tunQueues(held.child.pid!), 34, 'the holder has them');
  process.kill(daemonPid(held, true), 'SIGKILL');
  await waitFor(() => held.log().split('ready after').length === 3, 'the next one', 60_000);
  t.equal(tunQueues(held.child.pid!), 34);
  t.notMatch(held.log(), /opening the data path anew/);
  t.ok(await reaches(lab, hosts), 'after a kill');
});

for (const backend of ['vxlan', 'host-gw'])
  t.test(`${backend}: nothing is lost while daemons change`, { skip }, async (t) => {
    const lab = Lab.open(`ho-${backend[0]}-`);
    t.teardown(() => lab.close());
    const { hosts, args, daemon } = await startPair(lab, backend, [process.execPath]);
    const [a, b] = hosts;
    await waitFor(() => reaches(lab, hosts), 'the containers to reach each other');
    const pinging = lab.run(a.containerNs, 'ping', ['-q', '-i', '0.015', '-c', '300', b.containerIp]);
    let last = daemon;
    for (let round = 0; round < 2; round++) {
      const task = last;
      last = await lab.spawnUntil(a.ns, process.execPath, [...args, '--takeover'], /ready after/);
      t.equal(await task.exited, 0, 'the one before has ended');
    }
    process.kill(last.child.pid!, 'SIGKILL');
    await last.exited;
    await lab.spawnUntil(a.ns, process.execPath, args, /ready after/);
    const { stdout } = await pinging;
    t.match(stdout, /300 packets transmitted, 300 received, 0% packet loss/);
  });

t.test('descriptors do not pile up', { skip, timeout: 7_200_000 }, async (t) => {
  const lab = Lab.open('ho-fds-');
  t.teardown(() => lab.close());
  const { hosts, args, daemon } = await startPair(lab, 'udp', [process.execPath]);
  let task = daemon;
  const counts: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const next = await lab.spawnUntil(hosts[0].ns, process.execPath, [...args, '--takeover'], /ready after/);
    t.equal(await task.exited, 0);
    task = next;
    counts.push(descriptorsOf(task.child.pid!));
  }
  t.comment(`descriptors after each of ${ROUNDS}: ${Math.min(...counts)} to ${Math.max(...counts)}`);
  const most = counts[0] + 2; // an `ip` that runs just then has some more for a moment
  await waitFor(() => descriptorsOf(task.child.pid!) <= most, `at most ${most} descriptors`);
  t.ok(await reaches(lab, hosts));
});

t.test(
  'a holder keeps no more after many crashes than after one',
  { skip, timeout: 7_200_000 },
  async (t) => {
    const lab = Lab.open('ho-held-');
    t.teardown(() => lab.close());
    const { hosts, daemon } = await startPair(lab, 'udp', [HOLDER, process.execPath]);
    const counts: number[] = [];
    for (let round = 1; round <= ROUNDS; round++) {
      process.kill(daemonPid(daemon, true), 'SIGKILL');
      const next = (): boolean => daemon.log().split('ready after').length > round + 1;
      await waitFor(next, 'the next one', 15_000);
      counts.push(descriptorsOf(daemon.child.pid!), descriptorsOf(daemonPid(daemon, true)));
    }
    t.comment(`holder and daemon: ${counts.join(' ')}`);
    // Of an `ip` that runs just then, there are some more for a moment.
    const [holder, held] = [counts[0] + 1, counts[1] + 2];
    await waitFor(() => descriptorsOf(daemon.child.pid!) <= holder, `at most ${holder} of the holder`);
    await waitFor(() => descriptorsOf(daemonPid(daemon, true)) <= held, `at most ${held} of the daemon`);
    t.ok(await reaches(lab, hosts));
  },
);
