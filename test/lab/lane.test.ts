// The kernel lane between two hosts: a flow that changes sides keeps its order, every packet is counted once, and a
// host without a lane is sent nothing that only a lane can take.
//
//   container a (10.5.1.2) ─ twilld ═══ UDP 8285 ═══ twilld ─ container b (10.5.2.2)

import { setTimeout } from 'node:timers/promises';
import t from 'tap';
import { Lab, labUnavailable, type Task, waitFor } from '../support/lab.js';
import {
  checkSums,
  laneCount,
  startCluster,
  startDaemon,
  statusOf,
  waitForLane,
} from '../support/twill-hosts.js';

const skip = labUnavailable();
const PORT = '9903';
const FLOWS = 64;
/** More on demand, as in `SEQUENCE_PACKETS=10000000`. */
const PACKETS = Number(process.env.SEQUENCE_PACKETS ?? 200_000);
/** So long a daemon is stopped and then left alone, in turns: four times as long as a flow has to be quiet. */
const STALL_MS = 200;

/** Stops one daemon after the other for a while, until the result is called. */
function stall(daemons: readonly Task[]): () => Promise<void> {
  const over = new AbortController();
  const pause = (): Promise<void> =>
    setTimeout(STALL_MS, undefined, { signal: over.signal }).catch(() => undefined);
  const stalls = async (): Promise<void> => {
    for (let i = 0; !over.signal.aborted; i++) {
      const { child } = daemons[i % daemons.length];
      child.kill('SIGSTOP');
      await pause();
      child.kill('SIGCONT');
      await pause();
    }
  };
  const running = stalls();
  return async () => {
    over.abort();
    await running;
  };
}

for (const lane of ['sparse', 'all'] as const) {
  t.test(
    `--lane=${lane}: a flow keeps its order, also while workers stand still`,
    { skip, timeout: 600_000 },
    async (t) => {
      const lab = Lab.open(`lane-${lane[0]}-`);
      t.teardown(() => lab.close());
      const { hosts, daemons } = await startCluster(lab, 2, [`--lane=${lane}`]);
      const [a, b] = hosts;
      if ((await statusOf(lab, a)).backend.lane.mode === 'off') return t.comment('this kernel has no lane');
      await waitForLane(lab, hosts);
      const program = lab.compile('test/support/sequence.cc');
      const sink = await lab.spawnUntil(b.containerNs, program, ['sink', PORT, String(FLOWS)], /listening/);
      const words = ['send', b.containerIp, PORT, String(FLOWS), String(PACKETS), '14'];
      const endStalls = stall(daemons);
      await lab.run(a.containerNs, program, words, { timeoutMs: 500_000 });
      await endStalls();
      await waitFor(async () => {
        const before = (await statusOf(lab, b)).backend.counters.inbound.packets_in;
        await setTimeout(300);
        return (await statusOf(lab, b)).backend.counters.inbound.packets_in === before;
      }, 'all that was sent to arrive');
      await lab.end(sink);
      const { received, overtaken, strange } = JSON.parse(sink.log().split('\n')[1]) as Record<
        string,
        number
      >;
      const byLane = await laneCount(lab, b, 'inbound');
      t.comment(`${received} of ${PACKETS} arrived, ${byLane} by the lane, ${overtaken} overtaken`);
      t.equal(overtaken, 0);
      t.equal(strange, 0);
      t.ok(received > PACKETS / 2);
      t.ok(byLane > PACKETS / 1000, `${byLane} by the lane`);
      t.ok((await statusOf(lab, a)).backend.counters.outbound.reads > 0, 'and others not');
      for (const host of hosts) await checkSums(t, lab, host);
    },
  );
}

t.test('a host without a lane is sent datagrams that its socket can take', { skip }, async (t) => {
  const lab = Lab.open('lane-m-');
  t.teardown(() => lab.close());
  const { hosts, daemons, staticFile } = await startCluster(lab, 2, ['--lane=all']);
  const [a, b] = hosts;
  if ((await statusOf(lab, a)).backend.lane.mode === 'off') return t.comment('this kernel has no lane');
  await lab.end(daemons[1]);
  await startDaemon(lab, b, staticFile, ['--lane=off']);
  await waitFor(
    async () => !(await statusOf(lab, a)).peers.some(({ lane }) => lane === true),
    'the proof to be over',
    30_000,
  );
  const before = await laneCount(lab, a, 'outbound');
  const server = await lab.spawnUntil(b.containerNs, 'iperf3', ['-s', '--forceflush', '-1'], /listening/);
  const { stdout } = await lab.run(a.containerNs, 'iperf3', ['-c', b.containerIp, '-n', '20M', '--json']);
  await waitFor(() => server.child.exitCode !== null, 'the server to end');
  const { end } = JSON.parse(stdout) as { end: { sum_received: { bytes: number } } };
  t.ok(end.sum_received.bytes > 5 << 20);
  const byLane = (await laneCount(lab, a, 'outbound')) - before;
  t.ok(byLane < 100, `${byLane} packets by the lane, which are echoes`);
  await checkSums(t, lab, a);
});
