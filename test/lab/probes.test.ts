// Path probes between real hosts: round trip and path MTU in status and metrics, and a container told of a black hole.
// Over the package raw-socket, and over the addon where the package is built for another Node.

import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { PathStatus, PeerStatus } from '../../src/ops/status.js';
import { type Host, Lab, labUnavailable, PROJECT_ROOT, type Task, waitFor } from '../support/lab.js';
import {
  countIn,
  daemonArguments,
  metricsOf,
  startDaemon,
  statusOf,
  tableOf,
  writeTable,
} from '../support/twill-hosts.js';

/**
 * A copy of what is installed, in which the binary of raw-socket is none that this Node can load. Returns its daemon.
 */
function withForeignRawSocket(folder: string): string {
  const modules = join(folder, 'node_modules');
  mkdirSync(modules, { recursive: true });
  cpSync(join(PROJECT_ROOT, 'dist'), join(folder, 'dist'), { recursive: true });
  copyFileSync(join(PROJECT_ROOT, 'package.json'), join(folder, 'package.json'));
  symlinkSync(join(PROJECT_ROOT, 'build'), join(folder, 'build'));
  for (const name of readdirSync(join(PROJECT_ROOT, 'node_modules')))
    if (name !== 'raw-socket') symlinkSync(join(PROJECT_ROOT, 'node_modules', name), join(modules, name));
  const release = join(modules, 'raw-socket/build/Release');
  mkdirSync(release, { recursive: true });
  writeFileSync(join(release, 'raw.node'), 'of another machine');
  writeFileSync(
    join(modules, 'raw-socket/index.js'),
    "module.exports = require('./build/Release/raw.node');",
  );
  return join(folder, 'dist/main.js');
}

t.test('path probes', { skip: labUnavailable() }, async (t) => {
  const lab = Lab.open('probe-');
  t.teardown(() => lab.close());
  const [a, b] = [lab.addHost(1), lab.addHost(2)];
  const file = `${lab.dir}/static.json`;
  writeTable(file, tableOf([a, b]));
  const daemon = await startDaemon(lab, a, file);
  const silent = await startDaemon(lab, b, file, ['--path-probes=false']);
  const foreign = withForeignRawSocket(join(lab.dir, 'foreign'));
  const startForeign = (host: Host): Promise<Task> => {
    const [, ...args] = daemonArguments(host, file);
    return lab.spawnUntil(host.ns, process.execPath, [foreign, ...args], /ready after/);
  };
  const peerOf = async (host: typeof a): Promise<PeerStatus> => (await statusOf(lab, host)).peers[0];
  const pathOf = async (host: typeof a): Promise<PathStatus> => (await peerOf(host)).path ?? {};

  await t.test('an open path', async (t) => {
    await waitFor(async () => (await pathOf(a)).mtuBytes === 1500, 'the full path MTU', 30_000);
    const { rttMs, loss } = await pathOf(a);
    t.ok(rttMs! > 0 && rttMs! < 100, `round trip ${rttMs} ms`);
    t.equal(loss, 0);
    t.equal((await peerOf(a)).mtuBytes, 1472);
    const metrics = await metricsOf(lab, a);
    const rttSeconds = countIn(metrics, 'path_rtt_seconds{peer="172.20.0.2"}');
    t.ok(rttSeconds > 0 && rttSeconds < 1, `${rttSeconds} s`);
    t.equal(countIn(metrics, 'path_mtu_bytes{peer="172.20.0.2"}'), 1500);
    t.equal(countIn(metrics, 'path_probes_unmatched_total'), 0);
    t.same(await pathOf(b), {}, 'switched off on the other host');
    const isThere = existsSync(join(PROJECT_ROOT, 'node_modules/raw-socket/build/Release/raw.node'));
    t.match(daemon.log(), isThere ? /ready after .*pathProbes=raw-socket$/m : /pathProbes="addon \(/);
    t.match(silent.log(), /ready after .*pathProbes=off$/m);
  });

  await t.test('a black hole: the container is told', async (t) => {
    const chain = 'type filter hook input priority 0; ip protocol icmp meta length > 1400 drop';
    const rules = `table inet hole {\nchain in {\n${chain}\n}\n}\n`;
    await lab.run(b.ns, 'nft', ['-f', '-'], { input: rules });
    // A new daemon measures at once; the one that knows the path looks again after minutes.
    const c = lab.addHost(3);
    writeTable(file, tableOf([a, b, c]));
    const prober = await startForeign(c);
    t.match(
      prober.log(),
      /ready after .*pathProbes="addon \(the package raw-socket is built for another Node .*npm rebuild raw-socket/,
    );
    const open = async (): Promise<PathStatus | undefined> =>
      (await statusOf(lab, c)).peers.find((peer) => peer.publicIp === a.underlayIp)?.path;
    await waitFor(
      async () => (await open())?.mtuBytes === 1500,
      'the full path MTU of the open path',
      30_000,
    );
    const { rttMs, loss } = (await open())!;
    t.ok(rttMs! > 0 && rttMs! < 100, `round trip ${rttMs} ms by the addon`);
    t.equal(loss, 0);
    t.same(
      (await statusOf(lab, c)).conditions.filter(({ code }) => code === 'probes-off'),
      [],
    );
    const holeOf = async (): Promise<PeerStatus | undefined> =>
      (await statusOf(lab, c)).peers.find((peer) => peer.publicIp === b.underlayIp);
    await waitFor(
      async () => (await holeOf())?.path?.mtuBytes !== undefined,
      'the path MTU of the hole',
      90_000,
    );
    const found = (await holeOf())!.path!.mtuBytes!;
    t.ok(found <= 1400 && found > 1395, `found ${found}`);
    t.equal((await holeOf())!.mtuBytes, found - 28);
    const ping = await lab.run(c.containerNs, 'ping', ['-M', 'do', '-s', '1440', '-c', '2', b.containerIp], {
      mustSucceed: false,
    });
    t.match(ping.stdout + ping.stderr, new RegExp(`(mtu ?= ?|mtu=)${found - 28}`), 'fragmentation needed');
    const small = await lab.run(c.containerNs, 'ping', [
      '-M',
      'do',
      '-s',
      String(found - 56),
      '-c',
      '1',
      b.containerIp,
    ]);
    t.equal(small.code, 0, 'and what it is told fits');
  });

  await t.test('a route of the host that is narrower than the path', async (t) => {
    // The probe gets through with 1500 bytes; the kernel sends the socket's datagrams in pieces of 1300 all the same.
    const c = lab.addHost(5);
    lab.ip(c.ns, `route add ${a.underlayIp}/32 dev eth0 mtu 1300`);
    writeTable(file, tableOf([a, c]));
    await startDaemon(lab, c, file);
    await waitFor(async () => (await pathOf(c)).mtuBytes === 1500, 'the full path MTU', 30_000);
    t.equal((await peerOf(c)).mtuBytes, 1272);
  });

  await t.test('without the capability: off, and said so', async (t) => {
    const d = lab.addHost(4);
    writeTable(file, tableOf([a, b, d]));
    const without = ['--bounding-set', '-net_raw', '--inh-caps', '-net_raw', process.execPath];
    const [main, ...args] = daemonArguments(d, file);
    for (const program of [main, foreign]) {
      const daemon = await lab.spawnUntil(d.ns, 'setpriv', [...without, program, ...args], /ready after/);
      t.match(daemon.log(), /path probes are off: no raw ICMP socket .*CAP_NET_RAW is needed/);
      t.equal(await lab.end(daemon), 0);
    }
  });
});
