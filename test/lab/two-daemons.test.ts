// Several daemons on one host: of one network only one runs, and those of different networks leave each other alone.
// The networks are of both families, which takes what holds in one; the picture is in ways.ts.

import { symlinkSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { type Host, Lab, labUnavailable, PROJECT_ROOT, type Task, waitFor } from '../support/lab.js';
import { daemonArguments, HEALTH_PORT, startDaemon, writeTable } from '../support/twill-hosts.js';
import { addHost, openHosts, ping, reaches, tableOf, WAYS } from '../support/ways.js';

const skip = labUnavailable();
const [V4, V6, DUAL] = WAYS;
/** The table that the daemon of a host runs by. */
const tableFile = (host: Host): string => join(host.dir, 'static.json');

/** Arguments of a second daemon on a host: everything but the network is its own. */
function secondArguments(host: Host, staticFile: string, extra: readonly string[] = []): string[] {
  const args = daemonArguments(host, staticFile, [
    `--control-socket=${join(host.dir, 'second.sock')}`,
    '--path-probes=false',
    ...extra,
  ]);
  return args
    .filter((arg) => !arg.startsWith('--subnet-file=') && !arg.startsWith('--healthz-port='))
    .concat(`--subnet-file=${join(host.dir, 'second.env')}`, `--healthz-port=${HEALTH_PORT + 1}`);
}

async function runToEnd(
  lab: Lab,
  host: Host,
  args: readonly string[],
): Promise<{ code: number; text: string }> {
  const { code, stdout, stderr } = await lab.run(host.ns, process.execPath, [...args], {
    mustSucceed: false,
  });
  return { code, text: stdout + stderr };
}

t.test('a second daemon of the same network', { skip }, async (t) => {
  const { lab, hosts, daemons } = await openHosts(t, DUAL, 'td-');
  const [a, b] = hosts;
  const kernel = () =>
    ['-4 address show', '-4 route show table all', '-6 address show scope global', '-6 route show table all']
      .map((words) => lab.ip(a.ns, words))
      .join('');
  const before = kernel();

  // One that shares a single family is no less a second one.
  const file = join(lab.dir, 'second.json');
  for (const [way, network] of [
    [DUAL, '10.5.0.0/16'],
    [V4, '10.5.0.0/16'],
    [V6, 'fd00:5::/48'],
  ] as const) {
    writeTable(file, tableOf(way, hosts));
    const second = await runToEnd(lab, a, secondArguments(a, file));
    t.equal(second.code, 1);
    t.match(second.text, `has the network ${network}: end it`, way.name);
    t.match(second.text, /Another daemon \(pid \d+, [^)]*\) has the network .*E_RUNNING/);
  }

  const link = join(lab.dir, 'link');
  symlinkSync(a.dir, link);
  for (const folder of [a.dir, link]) {
    const args = secondArguments(a, tableFile(a)).filter((arg) => !arg.startsWith('--subnet-file='));
    const sameFile = await runToEnd(lab, a, [...args, `--subnet-file=${join(folder, 'subnet.env')}`]);
    t.equal(sameFile.code, 1);
    t.match(sameFile.text, /has the subnet file .*subnet\.env: give each its own --subnet-file/);
  }

  t.equal(kernel(), before, 'nothing in the kernel has changed');
  t.equal((await lab.get(a.ns, `http://127.0.0.1:${HEALTH_PORT}/readyz`)).status, 200);
  for (const family of DUAL.inner) t.match(await ping(lab, a, family, 84, 3), / 0% packet loss/, family);

  await t.test('starts once the first is gone, however it went', async (t) => {
    daemons[0].child.kill('SIGKILL');
    const next: Task = await startDaemon(lab, a, tableFile(a));
    for (const family of DUAL.inner)
      await waitFor(() => reaches(lab, a, b, family), `the overlay, ${family}`);
    t.equal(await lab.end(next), 0);
  });
});

t.test('a port that another process has is refused before anything is touched', { skip }, async (t) => {
  const lab = Lab.open('tdp-');
  t.teardown(() => lab.close());
  const host = await addHost(lab, 1);
  const links = () => lab.ip(host.ns, '-o link show').match(/^\d+: \S+/gm);
  const before = links();
  for (const [way, family, endpoint] of [
    [V4, 'INET', '172.20.0.1:8285'],
    [DUAL, 'INET6', '[fd00:aa::1]:8285'],
  ] as const) {
    const bind =
      `import socket,time;s=socket.socket(socket.AF_${family},socket.SOCK_DGRAM);s.setsockopt(1,15,1);` +
      `s.family==socket.AF_INET6 and s.setsockopt(41,26,1);s.bind(('',8285));print('bound',flush=True);time.sleep(60)`;
    const other = await lab.spawnUntil(host.ns, 'python3', ['-c', bind], /bound/);
    writeTable(tableFile(host), tableOf(way, [host]));
    for (const queues of [1, 2]) {
      const args = secondArguments(host, tableFile(host), [`--queues=${queues}`]);
      const { code, text } = await runToEnd(lab, host, args);
      t.equal(code, 1);
      t.match(text, `UDP ${endpoint} is in use by another process`);
    }
    await lab.end(other);
  }
  t.same(links(), before);
});

t.test('daemons of different networks leave each other alone', { skip }, async (t) => {
  const { lab, hosts, daemons } = await openHosts(t, DUAL, 'tdn-');
  const [a] = hosts;
  const deviceOf = (name: string) =>
    (JSON.parse(lab.ip(a.ns, `-j link show ${name}`)) as { ifindex: number; ifalias: string }[])[0];
  const first = deviceOf('flannel0');
  t.equal(first.ifalias, 'twill 10.5.0.0/16 fd00:5::/48 10.5.1.0/32 fd00:5:0:1::/128');

  const secondFile = join(lab.dir, 'second.json');
  const writeSecond = (backend: object): void =>
    writeTable(secondFile, {
      config: {
        ...{ Network: '10.12.0.0/16', EnableIPv6: true, IPv6Network: 'fd00:12::/48' },
        Backend: backend,
      },
      leases: hosts.map(({ index }) => ({
        ...{ subnet: `10.12.${index}.0/24`, ipv6Subnet: `fd00:12:0:${index}::/64` },
        ...{ publicIP: `172.20.0.${index}`, publicIPv6: `fd00:aa::${index}` },
      })),
    });
  for (const [backend, devices] of [
    [{ Type: 'udp', Port: 8286 }, ['flannel1']],
    [{ Type: 'vxlan', VNI: 12 }, ['flannel.12', 'flannel-v6.12']],
    [{ Type: 'host-gw' }, []],
  ] as const) {
    await t.test(`udp beside ${backend.Type}`, async (t) => {
      writeSecond(backend);
      const args = secondArguments(a, secondFile, ['--iptables-forward-rules=false']);
      const second = await lab.spawnUntil(a.ns, process.execPath, args, /ready after/);
      for (const device of devices)
        t.match(deviceOf(device).ifalias, /^twill (?:10\.12\.0\.0\/16|fd00:12::\/48)/);
      if (backend.Type === 'host-gw')
        for (const words of ['route show 10.12.2.0/24', '-6 route show fd00:12:0:2::/64'])
          await waitFor(() => lab.ip(a.ns, words).includes('via'), words);
      const pings = DUAL.inner.map((family) => ping(lab, a, family, 84, 15));
      for (const text of await Promise.all(pings))
        t.match(text, / 0% packet loss/, 'the first network goes on');
      t.equal(await lab.end(second), 0);
      t.match(deviceOf('flannel0'), { ifindex: first.ifindex, ifalias: first.ifalias });
      t.match(lab.ip(a.ns, 'route show 10.5.0.0/16'), /flannel0/);
      t.match(lab.ip(a.ns, '-6 route show fd00:5::/48'), /flannel0/);
    });
  }

  await t.test('cleanup of one network', async (t) => {
    writeSecond({ Type: 'vxlan', VNI: 12 });
    const args = secondArguments(a, secondFile, ['--ip-blackhole-route']);
    const second = await lab.spawnUntil(a.ns, process.execPath, args, /ready after/);
    const ruleset = async () => (await lab.run(a.ns, 'nft', ['list', 'ruleset'])).stdout;
    const guards = async () => (await ruleset()).match(/input_12\b/g)?.length ?? 0;
    await waitFor(async () => (await guards()) >= 2, 'its source checks');
    const cleanup = (...words: string[]) =>
      lab.run(a.ns, process.execPath, [join(PROJECT_ROOT, 'dist/cli/main.js'), 'cleanup', ...words], {
        mustSucceed: false,
      });
    const only = (network: string) => cleanup('--network', network);
    for (const network of ['10.12.0.0/16', 'fd00:12::/48'])
      t.match((await only(network)).stderr, `a daemon serves network ${network}: stop it first`);
    t.equal(await lab.end(second), 0);
    t.match((await cleanup()).stderr, /a daemon is running on this host: stop it first/);
    t.match((await only('10.0.0.0/8')).stderr, /a daemon serves network 10\.5\.0\.0\/16/);
    t.match((await only('fd00::/16')).stderr, /a daemon serves network fd00:5::\/48/);
    t.match((await only('10.12')).stderr, /expected a network like/);

    const kernel = async () =>
      (await lab.run(a.ns, 'iptables-save', [])).stdout +
      (await lab.run(a.ns, 'ip6tables-save', [])).stdout +
      (await ruleset()) +
      lab.ip(a.ns, '-d address') +
      lab.ip(a.ns, 'route show table all') +
      lab.ip(a.ns, '-6 route show table all');
    const ofFirst = (text: string) => text.match(/.*(\b10\.5\.|\bfd00:5:|flannel0).*/g);
    const before = await kernel();
    const families = [
      { network: '10.12.0.0/16', blackhole: /blackhole 10\.12\.1\.0\/24/, trace: /\b10\.12\.|flannel\.12/ },
      { network: 'fd00:12::/48', blackhole: /blackhole fd00:12:0:1::\/64/, trace: /fd00:12:|flannel-v6\.12/ },
    ] as const;
    for (const [done, { network, blackhole, trace }] of families.entries()) {
      t.match(before, `-s ${network}`);
      t.match(before, blackhole);
      const { code, stdout } = await only(network);
      t.equal(code, 0, stdout);
      const after = await kernel();
      t.notMatch(after, trace);
      for (const other of families.slice(done + 1)) t.match(after, other.trace, 'the other family stays');
      t.same(ofFirst(after), ofFirst(before), 'the first network keeps all it has');
      t.match((await only(network)).stdout, /nothing of ours is left/);
    }
    t.equal(await guards(), 0);
  });

  await t.test('a restarted one finds its own device again', async (t) => {
    t.equal(await lab.end(daemons[0]), 0);
    const again = await startDaemon(lab, a, tableFile(a));
    t.match(again.log(), /data path open on flannel0/);
    t.match(deviceOf('flannel0'), { ifindex: first.ifindex });
  });
});
