// The kernel lane between two hosts: a flow that changes sides keeps its order, every packet is counted once, and a
// host without a lane is sent nothing that only a lane can take.
//
//   container a (10.5.1.2) ─ twilld ═══ UDP 8285 ═══ twilld ─ container b (10.5.2.2)

import t from 'tap';
import { Lab, labUnavailable, waitFor } from '../support/lab.js';
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
/**
 * On demand, as in `SEQUENCE_PACKETS=10000000`: on a machine that is busy otherwise the workers' backlog may be older
 * than the time that a flow has to be quiet, and then packets are overtaken.
 */
const PACKETS = Number(process.env.SEQUENCE_PACKETS ?? 0);
const skipSequence = skip || (PACKETS === 0 && 'SEQUENCE_PACKETS is not set');

for (const lane of ['sparse', 'all'] as const) {
  t.test(`--lane=${lane}: a flow keeps its order`, { skip: skipSequence, timeout: 600_000 }, async (t) => {
    const lab = Lab.open(`lane-${lane[0]}-`);
    t.teardown(() => lab.close());
    const { hosts } = await startCluster(lab, 2, [`--lane=${lane}`]);
    const [a, b] = hosts;
    if ((await statusOf(lab, a)).backend.lane.mode === 'off') return t.comment('this kernel has no lane');
    await waitForLane(lab, hosts);
    const program = lab.compile('test/support/sequence.cc');
    const sink = await lab.spawnUntil(b.containerNs, program, ['sink', PORT, String(FLOWS)], /listening/);
    const words = ['send', b.containerIp, PORT, String(FLOWS), String(PACKETS), '14'];
    await lab.run(a.containerNs, program, words, { timeoutMs: 500_000 });
    await waitFor(async () => {
      const { inbound } = (await statusOf(lab, b)).backend.counters;
      const { outbound } = (await statusOf(lab, a)).backend.counters;
      return inbound.packets_in >= outbound.packets_out;
    }, 'all that was sent to arrive');
    await lab.end(sink);
    const { received, overtaken, strange } = JSON.parse(sink.log().split('\n')[1]) as Record<string, number>;
    t.comment(`${received} of ${PACKETS} arrived, ${await laneCount(lab, b, 'inbound')} by the lane`);
    t.equal(overtaken, 0);
    t.equal(strange, 0);
    t.ok(received > PACKETS / 2);
    const byLane = await laneCount(lab, a, 'outbound');
    t.ok(byLane > PACKETS / 1000, `${byLane} by the lane`);
    t.ok((await statusOf(lab, a)).backend.counters.outbound.reads > 0, 'and others not');
    for (const host of hosts) await checkSums(t, lab, host);
  });
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
