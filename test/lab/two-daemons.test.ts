// Several daemons on one host: of one network only one runs, and those of different networks leave each other alone.

import { symlinkSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { type Host, Lab, labUnavailable, PROJECT_ROOT, type Task, waitFor } from '../support/lab.js';
import {
  daemonArguments,
  HEALTH_PORT,
  startCluster,
  startDaemon,
  writeTable,
} from '../support/twill-hosts.js';

const skip = labUnavailable();

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
  const lab = Lab.open('td-');
  t.teardown(() => lab.close());
  const { hosts, daemons, staticFile } = await startCluster(lab, 2, ['--path-probes=false']);
  const [a, b] = hosts;
  const kernel = () => lab.ip(a.ns, '-4 address show') + lab.ip(a.ns, '-4 route show table all');
  const before = kernel();

  const second = await runToEnd(lab, a, secondArguments(a, staticFile));
  t.equal(second.code, 1);
  t.match(second.text, /Another daemon \(pid \d+, [^)]*\) has the network 10\.5\.0\.0\/16: end it/);
  t.match(second.text, /E_RUNNING/);

  const link = join(lab.dir, 'link');
  symlinkSync(a.dir, link);
  for (const folder of [a.dir, link]) {
    const args = secondArguments(a, staticFile).filter((arg) => !arg.startsWith('--subnet-file='));
    const sameFile = await runToEnd(lab, a, [...args, `--subnet-file=${join(folder, 'subnet.env')}`]);
    t.equal(sameFile.code, 1);
    t.match(sameFile.text, /has the subnet file .*subnet\.env: give each its own --subnet-file/);
  }

  t.equal(kernel(), before, 'nothing in the kernel has changed');
  t.equal((await lab.get(a.ns, `http://127.0.0.1:${HEALTH_PORT}/readyz`)).status, 200);
  t.match(
    (await lab.run(a.containerNs, 'ping', ['-c', '3', '-i', '0.1', b.containerIp])).stdout,
    / 0% packet loss/,
  );

  await t.test('starts once the first is gone, however it went', async (t) => {
    daemons[0].child.kill('SIGKILL');
    const next: Task = await startDaemon(lab, a, staticFile, ['--path-probes=false']);
    await waitFor(
      async () =>
        (await lab.run(a.containerNs, 'ping', ['-c', '1', b.containerIp], { mustSucceed: false })).code === 0,
      'the overlay',
    );
    t.equal(await lab.end(next), 0);
  });
});

t.test('a port that another process has is refused before anything is touched', { skip }, async (t) => {
  const lab = Lab.open('tdp-');
  t.teardown(() => lab.close());
  const { hosts, daemons, staticFile } = await startCluster(lab, 1, ['--path-probes=false']);
  const [a] = hosts;
  t.equal(await lab.end(daemons[0]), 0);
  const links = () => lab.ip(a.ns, '-o link show').match(/^\d+: \S+/gm);
  const before = links();
  await lab.spawnUntil(
    a.ns,
    'python3',
    [
      '-c',
      'import socket,time;s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.setsockopt(1,15,1);' +
        "s.bind(('0.0.0.0',8285));print('bound',flush=True);time.sleep(60)",
    ],
    /bound/,
  );
  for (const queues of [1, 2]) {
    const { code, text } = await runToEnd(lab, a, secondArguments(a, staticFile, [`--queues=${queues}`]));
    t.equal(code, 1);
    t.match(text, /UDP 172\.20\.0\.1:8285 is in use by another process/);
  }
  t.same(links(), before);
});

t.test('daemons of different networks leave each other alone', { skip }, async (t) => {
  const lab = Lab.open('tdn-');
  t.teardown(() => lab.close());
  const { hosts, daemons, staticFile } = await startCluster(lab, 2, ['--path-probes=false']);
  const [a, b] = hosts;
  const deviceOf = (name: string) =>
    (JSON.parse(lab.ip(a.ns, `-j link show ${name}`)) as { ifindex: number; ifalias: string }[])[0];
  const first = deviceOf('flannel0');
  t.equal(first.ifalias, 'twill 10.5.0.0/16 10.5.1.0/32');

  const secondFile = join(lab.dir, 'second.json');
  for (const [backend, device] of [
    [{ Type: 'udp', Port: 8286 }, 'flannel1'],
    [{ Type: 'vxlan', VNI: 12 }, 'flannel.12'],
    [{ Type: 'host-gw' }, undefined],
  ] as const) {
    await t.test(`udp beside ${backend.Type}`, async (t) => {
      writeTable(secondFile, {
        config: { Network: '10.12.0.0/16', SubnetLen: 24, Backend: backend },
        leases: [
          { subnet: '10.12.1.0/24', publicIP: a.underlayIp },
          { subnet: '10.12.2.0/24', publicIP: b.underlayIp },
        ],
      });
      const args = secondArguments(a, secondFile, ['--iptables-forward-rules=false']);
      const second = await lab.spawnUntil(a.ns, process.execPath, args, /ready after/);
      if (device !== undefined) t.match(deviceOf(device).ifalias, /^twill 10\.12\.0\.0\/16/);
      if (backend.Type === 'host-gw')
        await waitFor(() => lab.ip(a.ns, 'route show 10.12.2.0/24').includes('via'), 'its route');
      const ping = await lab.run(a.containerNs, 'ping', ['-c', '60', '-i', '0.05', b.containerIp]);
      t.match(ping.stdout, / 0% packet loss/, 'the first network goes on');
      t.equal(await lab.end(second), 0);
      t.match(deviceOf('flannel0'), { ifindex: first.ifindex, ifalias: first.ifalias });
      t.match(lab.ip(a.ns, 'route show 10.5.0.0/16'), /flannel0/);
    });
  }

  await t.test('cleanup of one network', async (t) => {
    writeTable(secondFile, {
      config: { Network: '10.12.0.0/16', SubnetLen: 24, Backend: { Type: 'vxlan', VNI: 12 } },
      leases: [{ subnet: '10.12.1.0/24', publicIP: a.underlayIp }],
    });
    const args = secondArguments(a, secondFile, ['--ip-blackhole-route']);
    const second = await lab.spawnUntil(a.ns, process.execPath, args, /ready after/);
    const ruleset = async () => (await lab.run(a.ns, 'nft', ['list', 'ruleset'])).stdout;
    await waitFor(async () => (await ruleset()).includes('input_12'), 'its source check');
    const cleanup = (...words: string[]) =>
      lab.run(a.ns, process.execPath, [join(PROJECT_ROOT, 'dist/cli/main.js'), 'cleanup', ...words], {
        mustSucceed: false,
      });
    const only = ['--network', '10.12.0.0/16'];
    t.match((await cleanup(...only)).stderr, /a daemon serves network 10\.12\.0\.0\/16: stop it first/);
    t.equal(await lab.end(second), 0);
    t.match((await cleanup()).stderr, /a daemon is running on this host: stop it first/);
    t.match((await cleanup('--network', '10.0.0.0/8')).stderr, /a daemon serves network 10\.5\.0\.0\/16/);
    t.match((await cleanup('--network', '10.12')).stderr, /expected a network like/);

    const kernel = async () =>
      (await lab.run(a.ns, 'iptables-save', [])).stdout +
      (await ruleset()) +
      lab.ip(a.ns, '-d address') +
      lab.ip(a.ns, 'route show table all');
    const ofFirst = (text: string) => text.match(/.*(\b10\.5\.|flannel0).*/g);
    const before = await kernel();
    t.match(before, /-s 10\.12\.0\.0\/16/);
    t.match(before, /blackhole 10\.12\.1\.0\/24/);
    t.match(before, /input_12/);
    const { code, stdout } = await cleanup(...only);
    t.equal(code, 0, stdout);
    const after = await kernel();
    t.notMatch(after, /10\.12\.|flannel\.12|input_12/);
    t.same(ofFirst(after), ofFirst(before), 'the first network keeps all it has');
    t.match((await cleanup(...only)).stdout, /nothing of ours is left/);
  });

  await t.test('a restarted one finds its own device again', async (t) => {
    t.equal(await lab.end(daemons[0]), 0);
    const again = await startDaemon(lab, a, staticFile, ['--path-probes=false']);
    t.match(again.log(), /data path open on flannel0/);
    t.match(deviceOf('flannel0'), { ifindex: first.ifindex });
  });
});
