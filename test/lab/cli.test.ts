// Every command of `twill` against real daemons, and against none.

import { statSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { type Host, Lab, labUnavailable, type Output, PROJECT_ROOT, waitFor } from '../support/lab.js';
import type { UdpStatus } from '../../src/ops/status.js';
import { startCluster, startDaemon } from '../support/twill-hosts.js';

const TWILL = join(PROJECT_ROOT, 'dist/cli/main.js');

t.test('twill', { skip: labUnavailable() }, async (t) => {
  const lab = Lab.open('cli-');
  t.teardown(() => lab.close());
  const { hosts, daemons, staticFile } = await startCluster(lab, 2);
  const [a, b] = hosts;
  const twill = (host: Host, ...args: string[]): Promise<Output> =>
    lab.run(host.ns, process.execPath, [TWILL, ...args], { mustSucceed: false });
  const json = async (host: Host, ...args: string[]): Promise<unknown> =>
    JSON.parse((await twill(host, ...args, '--json')).stdout);
  const echo = (...args: string[]): Promise<Output> =>
    lab.run(a.containerNs, 'ping', ['-c3', '-i0.05', '-W1', ...args], { mustSucceed: false });

  await t.test('the socket is root’s alone', (t) => {
    const { mode } = statSync(join(lab.dir, `${a.ns}.sock`));
    t.equal(mode & 0o777, 0o600);
    t.end();
  });

  await t.test('status', async (t) => {
    const { stdout, code } = await twill(a, 'status');
    t.equal(code, 0, stdout);
    t.match(stdout, /daemon {10}twill [\d.]+, ready, up/);
    t.match(stdout, /own lease {7}10\.5\.1\.0\/24, MTU 1472/);
    t.match(stdout, /backend {9}udp on flannel0/);
    t.match(await json(a, 'status'), { ready: true, peerCount: 1, lease: { subnet: '10.5.1.0/24' } });
  });

  await t.test('peers', async (t) => {
    t.equal((await echo(b.containerIp)).code, 0);
    const peers = (await json(a, 'peers')) as { packetsOut: number; packetsIn: number }[];
    t.match(peers, [{ subnet: '10.5.2.0/24', publicIp: b.underlayIp }]);
    const [{ packetsOut, packetsIn }] = peers;
    t.ok(
      packetsOut >= 3 && packetsIn >= 3,
      `${packetsOut} out, ${packetsIn} in, echoes of twilld among them`,
    );
    t.match((await twill(a, 'peers')).stdout, /^10\.5\.2\.0\/24 +172\.20\.0\.2 +1472 +(?:yes|no) +\d+ /m);
  });

  await t.test('drops', async (t) => {
    await echo('10.5.77.1');
    t.match(await json(a, 'drops'), [{ direction: 'outbound', reason: 'no_route', packets: 3 }]);
    t.match((await twill(a, 'drops')).stdout, /3 +outbound +no_route +no lease covers the destination/);
    t.ok(((await json(a, 'drops', '--all')) as unknown[]).length > 30);
  });

  await t.test('leases', async (t) => {
    t.same(await json(a, 'leases'), [
      { subnet: '10.5.1.0/24', publicIp: a.underlayIp, state: 'own' },
      { subnet: '10.5.2.0/24', publicIp: b.underlayIp, state: 'used' },
    ]);
  });

  await t.test('top', async (t) => {
    const traffic = lab.run(a.containerNs, 'ping', ['-c200', '-i0.01', b.containerIp]);
    const rates = (await json(a, 'top', '--count=1')) as { outbound: { packetsPerSecond: number } };
    t.ok(rates.outbound.packetsPerSecond > 20, `${rates.outbound.packetsPerSecond} packets/s`);
    t.match((await twill(a, 'top', '--count=2', '--interval=0.5')).stdout, /10\.5\.2\.0\/24/);
    await traffic;
  });

  await t.test('top outlives a restart of the daemon', async (t) => {
    const command = `stty rows 24 cols 80; exec ${process.execPath} ${TWILL} top --interval 0.2`;
    const top = lab.spawn(a.ns, 'script', ['-qfec', command, '/dev/null']);
    await waitFor(() => /1 peers/.test(top.log()), 'the first screen');
    await lab.end(daemons[0]);
    await waitFor(() => /daemon away for \d+s, waiting/.test(top.log()), 'it to be missed');
    daemons[0] = await startDaemon(lab, a, staticFile);
    const seen = top.log().length;
    await waitFor(() => /1 peers/.test(top.log().slice(seen)), 'the next screen');
    t.notMatch(top.log().slice(seen).split('\x1b[H').at(-1), /away/);
    await lab.end(top);
  });

  await t.test('capture', async (t) => {
    const traffic = lab.spawn(a.containerNs, 'ping', ['-q', '-i0.01', b.containerIp]);
    const lane = async () => ((await json(a, 'status')) as { backend: UdpStatus }).backend.lane;
    const before = await lane();
    const capture = lab.spawn(a.ns, process.execPath, [
      TWILL,
      'capture',
      `--peer=${b.underlayIp}`,
      '--count=400',
    ]);
    const both = (text: string) =>
      /10\.5\.1\.2 > 10\.5\.2\.2: ICMP/.test(text) && /10\.5\.2\.2 > 10\.5\.1\.2/.test(text);
    await waitFor(() => both(capture.log()), 'both directions to be seen');
    if (before.mode !== 'off')
      t.match(await lane(), { mode: 'off', why: 'twill capture looks at the device' });
    t.equal(await capture.exited, 0);
    await waitFor(async () => (await lane()).mode === before.mode, 'the lane to go on');
    const pcap = await twill(a, 'capture', '--write=-', '--count=1');
    t.ok(pcap.stdout.length > 24, 'pcap on a pipe');
    const none = await twill(a, 'capture', `--peer=${b.underlayIp}`, '--count=1', '--', 'icmp', 'or', 'tcp');
    t.equal(none.code, 0, 'conditions are joined');
    await lab.end(traffic);
    t.match(await twill(a, 'capture', '--peer=203.0.113.1'), {
      code: 2,
      stderr: /--peer is "203\.0\.113\.1"/,
    });
  });

  await t.test('doctor', async (t) => {
    const findings = (await json(a, 'doctor')) as { check: string; state: string }[];
    t.match(
      findings.find(({ check }) => check === 'daemon'),
      { state: 'ok' },
    );
    t.match(
      findings.find(({ check }) => check === 'port'),
      { state: 'ok' },
    );
    t.match(
      findings.find(({ check }) => check === 'etcd'),
      { state: 'ok' },
      'not used here',
    );
    const { stdout, code } = await twill(a, 'doctor');
    t.equal(code, 0, stdout);
    // The daemon's own port, also when the daemon cannot be asked.
    const unasked = await twill(a, 'doctor', '--socket=/nonexistent/twilld.sock');
    t.match(unasked.stdout, /^ok {4}port +UDP 8285 is ours: twilld, process \d+$/m);
    t.match((await twill(a, 'doctor', '--before-migration')).stdout, /^warn {2}flanneld +does not run$/m);
    t.match(stdout, /^ok {4}tun /m);
  });

  await t.test('a wrong command line', async (t) => {
    const cases: [string[], RegExp][] = [
      [[], /a command is missing/],
      [['fly'], /unknown command "fly": expected one of status, peers/],
      [['status', '--fast'], /--fast/],
      [['top', '--count=0'], /--count is "0"/],
    ];
    for (const [args, text] of cases) t.match(await twill(a, ...args), { code: 2, stderr: text });
    t.match(await twill(a, '--help'), { code: 0, stdout: /cleanup +removes every device/ });
    t.match(await twill(a, 'drops', '--help'), { code: 0, stdout: /--all/ });
  });

  await t.test('a second daemon leaves the socket to the first', async (t) => {
    const args = ['--store=static', '--static-file=/none', '--iface=eth0'];
    const second = lab.spawn(a.ns, process.execPath, [join(PROJECT_ROOT, 'dist/main.js'), ...args]);
    await waitFor(() => /another daemon answers there/.test(second.log()), 'it to be said');
    await lab.end(second);
    t.equal((await twill(a, 'status')).code, 0);
  });

  await t.test('cleanup', async (t) => {
    t.match(await twill(a, 'cleanup'), {
      code: 1,
      stderr: /a daemon is running on this host: stop it first/,
    });
    t.match((await twill(a, 'cleanup', '--dry-run')).stdout, /would be removed: device flannel0/);
    await lab.end(daemons[0]);
    lab.ip(a.ns, 'tuntap add flannel9 mode tun');
    lab.ip(a.ns, 'link set flannel9 alias another');
    t.match(await twill(a, 'status'), { code: 1, stderr: /ENOENT \(is twilld running/ });
    t.match(lab.ip(a.ns, 'link show'), /flannel0/, 'it was kept');
    const { stdout, code } = await twill(a, 'cleanup');
    t.equal(code, 0, stdout);
    t.match(stdout, /removed: device flannel0/);
    t.match(stdout, /removed: chain filter\/FLANNEL-FWD/);
    t.notMatch(lab.ip(a.ns, 'link show'), /flannel0/);
    t.match(lab.ip(a.ns, 'link show'), /flannel9/, 'that of another program stays');
    const rules = await lab.run(a.ns, 'iptables-save', []);
    t.notMatch(rules.stdout, /FLANNEL/);
    t.match((await twill(a, 'cleanup')).stdout, /nothing of ours is left/);
  });
});
