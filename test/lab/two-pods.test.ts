// Two pods of a DaemonSet side by side on one host, as a rolling update with maxSurge has them: each a pid namespace of
// its own below twill-holder, in the host's network, with its control socket in a folder that both have, or not.
//
//   pod old: twill-holder ─ twilld  ┐
//                                   ├ 172.20.0.1 ═══ UDP 8285 ═══ twilld ─ container b (10.5.2.2)
//   pod new: twill-holder ─ twilld  ┘

import { existsSync, readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { type Host, Lab, labUnavailable, PROJECT_ROOT, type Task, waitFor } from '../support/lab.js';
import { checkArrived, sendBothWays } from '../support/steady.js';
import { daemonArguments, statusOf, tableOf, writeTable } from '../support/twill-hosts.js';

const skip = labUnavailable();
const HOLDER = join(PROJECT_ROOT, 'build', 'Release', 'twill-holder');
const RATE = 1_000;

class Scene {
  readonly lab: Lab;
  readonly hosts: readonly [Host, Host];
  readonly #staticFile: string;

  private constructor(name: string, backend: string) {
    this.lab = Lab.open(name);
    this.hosts = [this.lab.addHost(1), this.lab.addHost(2)];
    this.#staticFile = join(this.lab.dir, 'static.json');
    writeTable(this.#staticFile, tableOf(this.hosts, { Type: backend }));
  }

  static async open(name: string, backend = 'udp'): Promise<Scene> {
    const scene = new Scene(name, backend);
    const other = daemonArguments(scene.hosts[1], scene.#staticFile);
    await scene.lab.spawnUntil(scene.hosts[1].ns, process.execPath, other, /ready after/);
    return scene;
  }

  /** What the container of a pod runs; resolves once the log has `sign`. */
  async pod(sign: RegExp, extra: readonly string[] = [], socket = 'control'): Promise<Pod> {
    const [host] = this.hosts;
    const flags = ['--takeover', `--control-socket=${join(host.dir, `${socket}.sock`)}`, ...extra];
    const daemon = [process.execPath, ...daemonArguments(host, this.#staticFile, flags)];
    const container = ['--pid', '--fork', '--kill-child', '--mount-proc', HOLDER, '--stay', ...daemon];
    const task = await this.lab.spawnUntil(host.ns, 'unshare', container, sign);
    return new Pod(task);
  }

  async reaches(): Promise<boolean> {
    const [a, b] = this.hosts;
    const args = ['-c', '1', '-W', '1', b.containerIp];
    return (await this.lab.run(a.containerNs, 'ping', args, { mustSucceed: false })).code === 0;
  }

  /** Packets both ways while `during` runs, all of which arrive. */
  async flow(t: Test, seconds: number, during: () => Promise<unknown>): Promise<void> {
    const arrived = await sendBothWays(this.lab, this.hosts, RATE, seconds, during);
    checkArrived(t, arrived, RATE * seconds, 0);
  }
}

class Pod {
  readonly #task: Task;

  constructor(task: Task) {
    this.#task = task;
  }

  log(): string {
    return this.#task.log();
  }

  get exited(): Promise<number> {
    return this.#task.exited;
  }

  /** As the kubelet does: the first process gets SIGTERM. Resolves with its exit code. */
  delete(): Promise<number> {
    process.kill(childrenOf(this.#task.child.pid!)[0], 'SIGTERM');
    return this.#task.exited;
  }

  /** Processes below the first one. */
  processes(): readonly number[] {
    return childrenOf(this.#task.child.pid!).flatMap(childrenOf);
  }

  /** Queues of the device that the first process keeps. */
  queues(): number {
    const [first] = childrenOf(this.#task.child.pid!);
    const files = readdirSync(`/proc/${first}/fd`).map((fd) => readlinkSync(`/proc/${first}/fd/${fd}`));
    return files.filter((file) => file.endsWith('/net/tun')).length;
  }
}

function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
}

for (const backend of ['udp', 'vxlan'])
  t.test(`${backend}: the new pod takes over, the old one idles until it is deleted`, { skip }, async (t) => {
    const scene = await Scene.open(`tp-${backend[0]}-`, backend);
    t.teardown(() => scene.lab.close());
    const { lab, hosts } = scene;
    const [a] = hosts;
    const pods = [await scene.pod(/ready after/)];
    await waitFor(() => scene.reaches(), 'the containers to reach each other');
    await scene.flow(t, 8, async () => {
      for (let round = 0; round < 2; round++) {
        const old = pods.at(-1)!;
        pods.push(await scene.pod(/ready after/));
        await waitFor(() => old.processes().length === 0, 'the daemon of the old pod to end');
        t.equal(old.queues(), 0, 'the old pod keeps nothing');
        await setTimeout(700);
        t.strictSame(old.processes(), [], 'nothing is started in the old pod');
        t.match(old.log(), /another daemon has taken over[^]*twill-holder: .*or for SIGTERM/);
        t.equal(await old.delete(), 0);
      }
    });
    t.ok((await statusOf(lab, a)).ready);
    t.ok(existsSync(join(a.dir, 'subnet.env')));
    t.equal(await pods.at(-1)!.delete(), 0);
  });

t.test('the new pod is deleted: the old one, which idles, forwards again', { skip }, async (t) => {
  const scene = await Scene.open('tp-back-');
  t.teardown(() => scene.lab.close());
  const old = await scene.pod(/ready after/);
  const next = await scene.pod(/ready after/);
  await waitFor(() => old.processes().length === 0, 'the daemon of the old pod to end');
  process.kill(next.processes()[0], 'SIGKILL');
  await waitFor(() => next.log().split('ready after').length === 3, 'the new pod to start its daemon again');
  await setTimeout(4_000);
  t.strictSame(old.processes(), [], 'a daemon that is killed is left to its own holder');
  t.equal(await next.delete(), 0);
  await waitFor(() => old.log().split('ready after').length === 3, 'the old pod to be ready again');
  t.match(old.log(), /nobody listens at/);
  await waitFor(() => scene.reaches(), 'the containers to reach each other');
  t.ok((await statusOf(scene.lab, scene.hosts[0])).ready);
  t.equal(await old.delete(), 0);
});

t.test('a new pod that fails has changed nothing', { skip }, async (t) => {
  const scene = await Scene.open('tp-fail-');
  t.teardown(() => scene.lab.close());
  const old = await scene.pod(/ready after/);
  await scene.flow(t, 4, async () => {
    const failed = await scene.pod(/fatal/, ['--metrics-ip=192.0.2.1', '--metrics-port=9181']);
    t.equal(await failed.exited, 1);
    await waitFor(() => old.log().split('ready after').length === 3, 'the old one to go on');
  });
  t.match(old.log(), /went away: going on/);
  t.ok((await statusOf(scene.lab, scene.hosts[0])).ready);
  const next = await scene.pod(/ready after/);
  await waitFor(() => old.processes().length === 0, 'the old pod to be taken over after all');
  t.ok(await scene.reaches());
  t.equal(await old.delete(), 0);
  t.equal(await next.delete(), 0);
});

t.test('where the other cannot be asked, the new pod waits for its end', { skip }, async (t) => {
  const scene = await Scene.open('tp-wait-');
  t.teardown(() => scene.lab.close());
  const [a] = scene.hosts;
  const old = await scene.pod(/ready after/, [], 'old');
  const waiting = await scene.pod(/waiting until it ends/);
  t.match(waiting.log(), /Another daemon \(pid .*\) has the subnet file/);
  await scene.flow(t, 2, () => Promise.resolve());
  t.ok((await statusOf(scene.lab, a)).ready, "the health server is the other one's");
  t.equal(await waiting.delete(), 0, 'SIGTERM ends the wait');

  const next = await scene.pod(/waiting until it ends/);
  t.equal(await old.delete(), 0);
  await waitFor(() => next.log().includes('ready after'), 'the new pod to forward');
  t.ok(await scene.reaches());
  t.equal(next.log().split('waiting until it ends').length, 2, 'said once');
  t.equal(await next.delete(), 0);
});

t.test(
  'the daemon of an old pod that is killed while it hands over is not started again',
  { skip },
  async (t) => {
    const scene = await Scene.open('tp-kill-');
    t.teardown(() => scene.lab.close());
    const old = await scene.pod(/ready after/);
    const [daemon] = old.processes();
    const next = await scene.pod(/using interface/);
    process.kill(daemon, 'SIGKILL');
    await waitFor(() => next.log().includes('ready after'), 'the new pod to forward');
    await setTimeout(700);
    t.strictSame(old.processes(), []);
    t.equal(old.queues(), 0);
    t.ok(await scene.reaches());
  },
);
