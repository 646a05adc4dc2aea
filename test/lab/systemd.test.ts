// The unit that we install, as it is, under a real systemd: restarted, killed, replaced, and confined as it says.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import t from 'tap';
import { type Host, Lab, labUnavailable, PROJECT_ROOT, waitFor } from '../support/lab.js';
import { measureTcp, startIperfServer } from '../support/measure.js';
import { ensurePackages } from '../support/packages.js';
import { checkArrived, sendBothWays } from '../support/steady.js';
import { Systemd, systemdUnavailable } from '../support/systemd.js';
import {
  daemonArguments,
  HEALTH_PORT,
  startDaemon,
  statusOf,
  tableOf,
  writeTable,
} from '../support/twill-hosts.js';

const skip = labUnavailable() || systemdUnavailable();
const RATE = 500;
const UNIT = readFileSync(join(PROJECT_ROOT, 'docs/install/twilld.service'), 'utf8');
const DAEMON = join(PROJECT_ROOT, 'dist/main.js');

/** What the test has otherwise than a host: where the program is, no units beside it, a log that it can read. */
const DROP_IN = `[Unit]
DefaultDependencies=no
[Service]
ExecStart=
ExecStart=${process.execPath} ${DAEMON} --store=static --static-file=/run/lab/static.json --iface=eth0 \\
  --healthz-ip=127.0.0.1 --healthz-port=${HEALTH_PORT}
StandardOutput=append:/run/lab/twilld.log
StandardError=inherit
ExecStopPost=/bin/sh -c 'echo "$EXIT_STATUS $SERVICE_RESULT" >>/run/lab/ends'
ProtectHome=read-only
`;

class Scene {
  readonly lab: Lab;
  readonly hosts: readonly [Host, Host];
  readonly systemd: Systemd;

  private constructor(lab: Lab, hosts: readonly [Host, Host], systemd: Systemd) {
    this.lab = lab;
    this.hosts = hosts;
    this.systemd = systemd;
  }

  static async open(name: string): Promise<Scene> {
    ensurePackages(['systemctl']);
    const lab = Lab.open(name);
    const hosts = [lab.addHost(1), lab.addHost(2)] as const;
    for (const host of hosts) writeTable(join(host.dir, 'static.json'), tableOf(hosts));
    await startDaemon(lab, hosts[1], join(hosts[1].dir, 'static.json'));
    const units = { 'twilld.service': UNIT, 'twilld.service.d/lab.conf': DROP_IN };
    const scene = new Scene(lab, hosts, await Systemd.open(lab, hosts[0], units));
    const started = await scene.systemd.run('start', 'twilld');
    if (started.code !== 0) throw new Error(scene.log());
    return scene;
  }

  log(): string {
    return readFileSync(join(this.hosts[0].dir, 'twilld.log'), 'utf8');
  }

  /** Exit status and result of each life, as systemd sees it. */
  ends(): readonly string[] {
    return readFileSync(join(this.hosts[0].dir, 'ends'), 'utf8').trim().split('\n');
  }

  readies(): number {
    return this.log().split('ready after').length - 1;
  }

  pid(): number {
    return this.systemd.mainPid(DAEMON);
  }

  async close(): Promise<void> {
    await this.systemd.close();
    await this.lab.close();
  }
}

t.test('systemctl restart and a kill lose nothing', { skip }, async (t) => {
  const scene = await Scene.open('sd-unit-');
  t.teardown(() => scene.close());
  const { lab, hosts, systemd } = scene;
  for (const [how, replace, mayMiss] of [
    ['restart', () => systemd.run('restart', 'twilld'), 0],
    // One packet each way may be in the hands of what is killed.
    ['kill', () => Promise.resolve(process.kill(scene.pid(), 'SIGKILL')), 1],
  ] as const) {
    const before = scene.readies();
    const arrived = await sendBothWays(lab, hosts, RATE, 6, async () => {
      await setTimeout(1_000);
      await replace();
      await waitFor(() => scene.readies() > before, 'the daemon to be ready again');
    });
    t.comment(how);
    checkArrived(t, arrived, RATE * 6, mayMiss);
  }
  t.equal(await systemd.show('twilld', 'NRestarts'), '1');
  t.not(await systemd.show('twilld', 'NFileDescriptorStore'), '0');
  t.equal((await systemd.run('stop', 'twilld')).code, 0);
  t.strictSame(scene.ends(), ['0 success', 'KILL signal', '0 success']);
  const isLetGo = (): boolean => /<NO-CARRIER,/.test(lab.ip(hosts[0].ns, 'link show flannel0'));
  await waitFor(isLetGo, 'systemd to let go of the queues');
});

t.test('--takeover by hand: the unit ends well, and is not started again', { skip }, async (t) => {
  const scene = await Scene.open('sd-take-');
  t.teardown(() => scene.close());
  const { lab, hosts, systemd } = scene;
  const [a] = hosts;
  const socket = `/proc/${scene.pid()}/root/run/twill/twilld.sock`;
  const flags = ['--takeover', `--control-socket=${socket}`];
  const args = daemonArguments(a, join(a.dir, 'static.json'), flags);
  const arrived = await sendBothWays(lab, hosts, RATE, 5, async () => {
    await lab.spawnUntil(a.ns, process.execPath, args, /ready after/);
    await waitFor(
      async () => (await systemd.show('twilld', 'ActiveState')) === 'inactive',
      'the unit to end',
    );
    await setTimeout(1_000);
  });
  checkArrived(t, arrived, RATE * 5, 0);
  t.strictSame(scene.ends(), ['4 success'], 'and nobody was started after it');
  t.equal(await systemd.show('twilld', 'ActiveState'), 'inactive');
});

t.test(
  'confined as the unit says, it is granted what an unconfined one is, and carries as much',
  { skip },
  async (t) => {
    const scene = await Scene.open('sd-confined-');
    t.teardown(() => scene.close());
    const { lab, hosts } = scene;
    const [a, b] = hosts;
    const about = readFileSync(`/proc/${scene.pid()}/status`, 'utf8');
    t.match(about, /^Seccomp:\t2$/m, 'a filter');
    t.match(about, /^NoNewPrivs:\t1$/m);
    t.match(about, /^CapEff:\t0*8000003000$/m, 'CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF');
    await startIperfServer(lab, b.containerNs);
    for (const isReverse of [false, true]) {
      const { gigabitsPerSecond } = await measureTcp(lab, a.containerNs, b.containerIp, 3, 4, isReverse);
      t.comment(`${gigabitsPerSecond.toFixed(1)} Gbit/s`);
      t.ok(gigabitsPerSecond > 0.1);
    }
    const [confined, other] = [await statusOf(lab, a), await statusOf(lab, b)];
    t.ok(confined.ready);
    t.strictSame(confined.backend.offloads, other.backend.offloads);
    t.equal(confined.backend.lane.mode, other.backend.lane.mode);
    t.notMatch(scene.log(), /EPERM|EACCES|not permitted|denied/i);
  },
);
