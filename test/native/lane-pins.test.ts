// A lane that outlives its process, one that takes its place, and one that moves to another uplink.

import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import t from 'tap';
import { removeLanePins } from '../../src/kernel/lane-pins.js';
import { type Host, Lab, patient, waitFor } from '../support/lab.js';
import { LaneHost, type LaneSettings, laneUnavailable } from './lane-host.js';

const skip = laneUnavailable();

/** A BPF file system of the lab's own. */
function mountBpf(lab: Lab): string {
  const folder = join(lab.dir, 'bpf');
  mkdirSync(folder);
  execFileSync('mount', ['-t', 'bpf', 'bpf', folder]);
  return folder;
}

/** A lane on `host` that knows `other` and runs. */
async function startLane(
  lab: Lab,
  host: Host,
  other: Host,
  settings: LaneSettings,
): Promise<{ lane: LaneHost; pinned: boolean }> {
  const lane = await LaneHost.start(lab, host);
  const opened = await lane.open({ mode: 2, quietMs: 0, ...settings });
  if ('errno' in opened) throw new Error(JSON.stringify(opened));
  await lane.set({ network: `10.5.${other.index}.0`, length: 24, peer: other.underlayIp, row: other.index });
  await lane.attach();
  return { lane, pinned: opened.pinned };
}

async function reaches(lab: Lab, a: Host, b: Host): Promise<boolean> {
  const args = ['-c', '1', '-W', '1', b.containerIp];
  return (await lab.run(a.containerNs, 'ping', args, { mustSucceed: false })).code === 0;
}

/** Two hosts with lanes that reach each other; the first one's is pinned where `pinFolder` says. */
async function openPair(lab: Lab, pinFolder: string) {
  const [a, b] = [lab.addHost(1), lab.addHost(2)];
  const first = await startLane(lab, a, b, { pinFolder });
  const other = await startLane(lab, b, a, {});
  await lab.run(a.ns, 'ping', ['-c', '1', b.underlayIp]);
  await waitFor(() => reaches(lab, a, b), 'the lanes');
  return { a, b, lane: first.lane, pinned: first.pinned, other: other.lane };
}

t.test('a pinned lane goes on, and the next takes its place without a gap', { skip }, async (t) => {
  const lab = Lab.open('pins-');
  const bpf = mountBpf(lab);
  const folder = join(bpf, 'twill', '4026531840-flannel0');
  const lanes: LaneHost[] = [];
  t.teardown(async () => {
    await Promise.all(lanes.map((lane) => lane.kill()));
    execFileSync('umount', [bpf]);
    await lab.close();
  });
  const { a, b, lane, pinned, other } = await openPair(lab, folder);
  lanes.push(lane, other);
  t.ok(pinned);
  t.same(readdirSync(folder).sort(), [
    'behind',
    'config',
    'decap',
    'encap',
    'flows',
    'peers',
    'routes',
    'totals',
    'workers',
  ]);

  const ping = lab.spawn(a.containerNs, 'ping', [
    '-q',
    '-i',
    '0.001',
    '-c',
    String(patient(6_000)),
    b.containerIp,
  ]);
  await waitFor(async () => ((await lane.totals()).out_packets ?? 0) > 500, 'echoes at 1 kHz');
  await lane.kill();
  t.ok(await reaches(lab, a, b), 'without a process');
  const next = await startLane(lab, a, b, { pinFolder: folder });
  lanes.push(next.lane);
  await waitFor(async () => ((await next.lane.totals()).out_packets ?? 0) > 100, 'the next to carry them');
  t.equal(await ping.exited, 0);
  t.match(ping.log(), / 0% packet loss/, ping.log());
  t.same(readdirSync(folder).length, 9, 'nothing else was left there');

  await removeLanePins(folder);
  await removeLanePins(folder); // one that is gone is none
  t.notOk(readdirSync(bpf).includes('twill'), 'the folder above is gone, too');
  t.ok(await reaches(lab, a, b), 'it ends with its process only');
  await next.lane.kill();
  t.notOk(await reaches(lab, a, b));
});

t.test('a device that is forgotten takes its pinned lane with it', { skip }, async (t) => {
  const lab = Lab.open('pins-');
  const bpf = mountBpf(lab);
  const folder = join(bpf, 'twill', 'x');
  const { a, b, lane, other } = await openPair(lab, folder);
  t.teardown(async () => {
    await Promise.all([lane.kill(), other.kill()]);
    execFileSync('umount', [bpf]);
    await lab.close();
  });
  t.equal(await lane.call('forgetDevice'), 0);
  t.notOk(readdirSync(bpf).includes('twill'));
  t.ok(await reaches(lab, a, b), 'until it is closed');
  await lane.call('close');
  t.notOk(await reaches(lab, a, b));
});

t.test(
  'without a BPF file system it is not pinned; the next opens with the counters of the last',
  { skip },
  async (t) => {
    const lab = Lab.open('pins-');
    const { a, b, lane, pinned, other } = await openPair(lab, join(lab.dir, 'twill', 'x'));
    t.teardown(async () => {
      await Promise.all([lane.kill(), other.kill()]);
      await lab.close();
    });
    t.notOk(pinned);
    t.throws(() => readdirSync(join(lab.dir, 'twill')), 'nothing was made');
    const before = await lane.totals();
    t.match(await lane.open({ uplinkIndex: 1 }), { errno: 91 }, 'EPROTOTYPE: lo is no Ethernet device');
    t.match(await lane.open({ uplinkIndex: 9999 }), { errno: 6 }, 'ENXIO');
    t.ok(await reaches(lab, a, b), 'the lane that was goes on');

    // To another uplink, which nothing arrives at, and back.
    lab.ip(a.ns, 'link add other type veth peer name far');
    lab.ip(a.ns, 'link set other up');
    const uplinkIndex = Number(lab.ip(a.ns, '-o link show other').split(':')[0]);
    await lane.open({ mode: 2, quietMs: 0, uplinkIndex });
    await lane.set({ network: '10.5.2.0', length: 24, peer: b.underlayIp, row: 2 });
    t.ok(await reaches(lab, a, b), 'until it is attached');
    await lane.attach();
    t.notOk(await reaches(lab, a, b), 'decap is at the other, and encap sends nowhere else');
    await lane.open({ mode: 2, quietMs: 0 });
    await lane.set({ network: '10.5.2.0', length: 24, peer: b.underlayIp, row: 2 });
    await lane.attach();
    t.ok(await reaches(lab, a, b), 'back');
    t.ok(((await lane.totals()).out_packets ?? 0) > (before.out_packets ?? 0), 'the counters went on');

    await lane.call('close');
    t.notOk(await reaches(lab, a, b), 'closed');
  },
);

t.test('programs of others before and behind ours still run', { skip }, async (t) => {
  const lab = Lab.open('pins-');
  const { a, b, lane, other } = await openPair(lab, '');
  const program = lab.compile('test/native/foreign_tcx.cc');
  const start = async (where: string) => {
    const args = ['--pdeathsig', 'KILL', 'ip', 'netns', 'exec', a.ns, program, 'eth0', where];
    const child = spawn('setpriv', args, { stdio: ['pipe', 'pipe', 'inherit'] });
    t.teardown(() => child.kill('SIGKILL'));
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    t.equal((await lines.next()).value, 'ready');
    return async (): Promise<number> => {
      child.stdin.write('\n');
      return Number((await lines.next()).value);
    };
  };
  t.teardown(async () => {
    await Promise.all([lane.kill(), other.kill()]);
    await lab.close();
  });
  const [before, behind] = [await start('before'), await start('after')];
  const taken = (await lane.totals()).in_packets ?? 0;
  await lab.run(a.containerNs, 'ping', ['-c', '5', '-i', '0.01', b.containerIp]);
  t.equal(((await lane.totals()).in_packets ?? 0) - taken, 5);
  const [seenBefore, seenBehind] = [await before(), await behind()];
  t.ok(seenBefore - seenBehind >= 5, `${seenBefore} before, ${seenBehind} behind: ours took what is between`);
  await lab.run(a.ns, 'ping', ['-c', '5', '-i', '0.01', b.underlayIp]);
  t.ok((await behind()) >= seenBehind + 5, 'what we leave goes on to those behind');
  t.ok((await before()) >= seenBefore + 5);
});

t.test('a hundred lives leak nothing', { skip }, async (t) => {
  const lab = Lab.open('pins-');
  const host = lab.addHost(1);
  const lane = await LaneHost.start(lab, host);
  t.teardown(async () => {
    await lane.kill();
    await lab.close();
  });
  const life = async (): Promise<void> => {
    await lane.open();
    await lane.attach();
  };
  const descriptors = (): number => readdirSync(`/proc/${lane.pid}/fd`).length;
  const maps = (): number => readFileSync(`/proc/${lane.pid}/maps`, 'utf8').split('bpf-map').length;
  for (let i = 0; i < 3; i++) await life();
  const before = [descriptors(), maps()];
  for (let i = 0; i < 100; i++) await life();
  t.same([descriptors(), maps()], before);
});
