// What happens to the process of a daemon, to its files and to its network, and that packets flow on or come back. The
// rows are those of the fault catalogue, which test/README.md lists with what is tested elsewhere and what is not.

import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { type Host, Lab, labUnavailable, waitFor } from '../support/lab.js';
import {
  daemonArguments,
  dropsOf,
  HEALTH_PORT,
  startCluster,
  startDaemon,
  statusOf,
  uncountedOf,
} from '../support/twill-hosts.js';

/** `npm run test:faults` asks for more. */
const ROUNDS = Number(process.env['FAULT_ROUNDS'] ?? 10);

/** Whether the kernel's state of a host that is ours is what it was: devices, addresses, routes, rules. */
function kernelState(lab: Lab, { ns }: Host): string {
  const words = ['-o address show', 'route show table all', 'rule show', 'neighbour show dev flannel0'];
  const rules = execFileSync('ip', ['netns', 'exec', ns, 'iptables-save'], { encoding: 'utf8' });
  const state = words.map((text) => lab.ip(ns, text)).join('') + rules;
  return state.replace(
    /^#.*$|\[\d+:\d+\]| (valid|preferred)_lft \w+|.*\bfe80.*\n|.*\bff00::.*|.*inet6.*/gm,
    '',
  );
}

t.test('faults of process, files and network', { skip: labUnavailable() }, async (t) => {
  const lab = Lab.open('flt-');
  t.teardown(() => lab.close());
  const { hosts, daemons, staticFile } = await startCluster(lab, 2);
  const [a, b] = hosts;
  const pid = (): number => daemons[0].child.pid!;
  const reaches = async (): Promise<boolean> =>
    (await lab.run(a.containerNs, 'ping', ['-c1', '-W1', b.containerIp], { mustSucceed: false })).code === 0;
  const isReady = async (): Promise<boolean> =>
    (await lab.get(a.ns, `http://127.0.0.1:${HEALTH_PORT}/readyz`)).status === 200;
  const recovers = async (): Promise<void> => {
    await waitFor(reaches, 'packets to flow');
    await waitFor(isReady, 'readiness', 15_000);
  };
  const counts = (): { files: number; threads: number } => ({
    files: readdirSync(`/proc/${pid()}/fd`).length,
    threads: readdirSync(`/proc/${pid()}/task`).length,
  });
  await recovers();

  await t.test('P3 N4 stopped under traffic and continued: late packets are few, none twice', async (t) => {
    const before = counts();
    process.kill(pid(), 'SIGSTOP');
    const ping = lab.spawn(b.containerNs, 'ping', ['-i', '0.002', '-c', '500', '-W', '1', a.containerIp]);
    await ping.exited;
    const continuedMs = Date.now();
    process.kill(pid(), 'SIGCONT');
    await recovers();
    t.ok(Date.now() - continuedMs < 5_000, `well again after ${Date.now() - continuedMs} ms`);
    t.notMatch(ping.log(), /DUP!/);
    await waitFor(() => counts().files <= before.files + 1 && counts().threads === before.threads, 'no leak');
    t.equal(daemons[0].child.exitCode, null);
  });

  await t.test(`P5 killed ${ROUNDS} times at any moment: nothing is left over`, async (t) => {
    const clean = kernelState(lab, a);
    const files = readdirSync(a.dir).sort();
    await lab.end(daemons[0], 'SIGKILL');
    for (let round = 0; round < ROUNDS; round++) {
      const daemon = lab.spawn(a.ns, process.execPath, daemonArguments(a, staticFile));
      const ms = Math.random() * 700;
      await new Promise((resolve) => setTimeout(resolve, ms));
      await lab.end(daemon, 'SIGKILL');
    }
    daemons[0] = await startDaemon(lab, a, staticFile);
    await recovers();
    t.equal(kernelState(lab, a), clean);
    t.same(readdirSync(a.dir).sort(), files);
  });

  await t.test('P7 a crash, as one in the addon is', async (t) => {
    const clean = kernelState(lab, a);
    await lab.run(a.ns, 'prlimit', [`--pid=${pid()}`, '--core=0']);
    t.not(await lab.end(daemons[0], 'SIGSEGV'), 0);
    daemons[0] = await startDaemon(lab, a, staticFile);
    await recovers();
    t.equal(kernelState(lab, a), clean);
  });

  await t.test('P14 a twentieth of a core: what is lost is counted, nothing is taken for hung', async (t) => {
    const outbound = async (): Promise<Readonly<Record<string, number>>> =>
      (await statusOf(lab, a)).backend.counters.outbound;
    const before = await outbound();
    const sent = 40_000;
    const script = `
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range(${sent}):
    if i % 400 == 0: time.sleep(0.01)
    s.sendto(b'x' * 100, ('${b.containerIp}', 9))`;
    const sender = lab.spawn(a.containerNs, 'python3', ['-c', script]);
    let isSending = true;
    void sender.exited.then(() => (isSending = false));
    while (isSending) {
      process.kill(pid(), 'SIGSTOP');
      await new Promise((resolve) => setTimeout(resolve, 95));
      process.kill(pid(), 'SIGCONT');
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await recovers();
    let after = before;
    await waitFor(async () => {
      after = await outbound();
      return after.packets_in - before.packets_in >= sent && uncountedOf(after) === 0;
    }, 'all to be counted');
    const lost = dropsOf(after) - dropsOf(before);
    t.equal(lost, after.drop_tun_queue - before.drop_tun_queue, `${lost} lost, all of them in the queue`);
    t.notMatch(daemons[0].log(), /does not move/);
  });

  await t.test('K8 events of the kernel are lost (ENOBUFS)', async (t) => {
    const monitor = Number(
      readFileSync(`/proc/${pid()}/task/${pid()}/children`, 'utf8')
        .trim()
        .split(' ')
        .find((child) => readFileSync(`/proc/${child}/cmdline`, 'utf8').includes('monitor')),
    );
    process.kill(monitor, 'SIGSTOP');
    const routes = Array.from(
      { length: 10_000 },
      (_, i) => `route add 198.18.${i >> 8}.${i & 255} dev eth0\n`,
    );
    await lab.run(a.ns, 'ip', ['-batch', '-'], { input: routes.join('') });
    lab.ip(a.ns, 'route delete 10.5.0.0/16');
    const drops = readFileSync(`/proc/${monitor}/net/netlink`, 'utf8')
      .split('\n')
      .map((line) => line.trim().split(/\s+/))
      .filter(([, family, port]) => family === '0' && port === String(monitor))
      .map((words) => Number(words[8]));
    t.ok(drops[0] > 0, `${drops[0]} events were dropped`);
    process.kill(monitor, 'SIGCONT');
    await waitFor(() => lab.ip(a.ns, 'route show 10.5.0.0/16') !== '', 'the route to be back', 2_000);
    lab.ip(a.ns, 'route flush root 198.18.0.0/15');
    await recovers();
  });

  await t.test('K10 the uplink flaps', async (t) => {
    const before = daemons[0].log().split('\n').length;
    const own = counts();
    for (let i = 0; i < 10; i++) {
      lab.ip(a.ns, 'link set eth0 down');
      await new Promise((resolve) => setTimeout(resolve, 100));
      lab.ip(a.ns, 'link set eth0 up');
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    await recovers();
    const lines = daemons[0].log().split('\n').length - before;
    t.ok(lines <= 50, `${lines} lines in the log`);
    await waitFor(() => counts().files <= own.files + 1 && counts().threads === own.threads, 'no leak');
  });

  await t.test('K3 the queue length of the device is changed', async () => {
    lab.ip(a.ns, 'link set flannel0 txqueuelen 10');
    await waitFor(() => / qlen 2000\b/.test(lab.ip(a.ns, 'link show flannel0')), 'its repair', 12_000);
    await recovers();
  });

  await t.test('N12 a scan of 50,000 flows takes no memory, and packets flow', async (t) => {
    const script = `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range(50000):
    if i % 1000 == 0: s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try: s.sendto(b'x', ('${b.containerIp}', 1024 + i))
    except OSError: pass`;
    const residentMb = (): number =>
      Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid()}/status`, 'utf8'))![1]) / 1024;
    const before = residentMb();
    const scan = lab.run(a.containerNs, 'python3', ['-c', script]);
    const ping = await lab.run(a.containerNs, 'ping', ['-i', '0.02', '-c', '50', '-W', '1', b.containerIp]);
    await scan;
    t.ok(residentMb() - before < 8, `${residentMb() - before} MiB more`);
    const received = Number(/(\d+) received/.exec(ping.stdout)![1]);
    t.ok(received >= 35, `${received} of 50`); // the scan fills what there is of this machine
  });

  await t.test('N2 a flood from a host that is no member', async (t) => {
    const stranger = lab.addServer('stranger', 99);
    const flood = `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(('${a.underlayIp}', 8285))
packet = bytes.fromhex('4500001c000000004011') + bytes(54)
while True:
    try: s.send(packet)
    except OSError: pass`;
    const task = lab.spawn(stranger, 'python3', ['-c', flood]);
    const inbound = async (): Promise<number> => {
      const { counters } = (await statusOf(lab, a)).backend;
      return Object.entries(counters.inbound).reduce(
        (sum, [k, v]) => sum + (k.startsWith('drop_') ? v : 0),
        0,
      );
    };
    const before = await inbound();
    await waitFor(async () => (await inbound()) - before > 20_000, 'the flood to be counted', 20_000);
    const ping = await lab.run(a.containerNs, 'ping', ['-i', '0.02', '-c', '100', '-W', '1', b.containerIp], {
      mustSucceed: false,
    });
    const received = Number(/(\d+) received/.exec(ping.stdout)![1]);
    t.ok(received >= 80, `${received} of 100`);
    const startedMs = Date.now();
    t.equal(await lab.end(daemons[0]), 0);
    t.ok(Date.now() - startedMs < 1_500, `SIGTERM is obeyed within ${Date.now() - startedMs} ms`);
    await lab.end(task, 'SIGKILL');
    daemons[0] = await startDaemon(lab, a, staticFile);
    await recovers();
  });

  await t.test('P17 P18 no space for subnet.env, and none to write at all', async (t) => {
    await lab.end(daemons[0]);
    const folder = a.dir;
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=16k', 'tmpfs', folder]);
    t.teardown(async () => {
      await lab.end(daemons[0]);
      execFileSync('umount', [folder]);
    });
    daemons[0] = await startDaemon(lab, a, staticFile);
    await recovers();
    const file = join(folder, 'subnet.env');
    const text = readFileSync(file, 'utf8');
    const fill = (name: string): void => {
      try {
        writeFileSync(join(folder, name), Buffer.alloc(1 << 20));
      } catch {
        // as much as there was room for
      }
    };
    fill('full');
    process.kill(pid(), 'SIGSTOP'); // or it is faster than we are
    rmSync(file);
    fill('fuller');
    process.kill(pid(), 'SIGCONT');
    await waitFor(async () => !(await isReady()), 'the lack of space to be said', 15_000);
    t.ok(await reaches(), 'packets flow');
    t.same(readdirSync(folder).sort(), ['full', 'fuller'], 'nothing half written');
    execFileSync('mount', ['-o', 'remount,ro', folder]);
    t.notOk(await isReady());
    execFileSync('mount', ['-o', 'remount,rw', folder]);
    for (const name of ['full', 'fuller']) rmSync(join(folder, name));
    await waitFor(
      () => existsSync(file) && readFileSync(file, 'utf8') === text,
      'the file to be back',
      15_000,
    );
    await recovers();
  });
});
