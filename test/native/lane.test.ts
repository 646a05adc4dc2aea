// The lane with real packets: two hosts, each with a container, joined by a switch of veth links.

import { setTimeout } from 'node:timers/promises';
import t from 'tap';
import { Lab, waitFor } from '../support/lab.js';
import { LaneHost, type LaneSettings, laneUnavailable, QUIET_MS } from './lane-host.js';

const skip = laneUnavailable();

/** Two hosts whose lanes know each other, with neighbours that are known. */
async function startPair(lab: Lab, settings: LaneSettings): Promise<readonly [LaneHost, LaneHost]> {
  const hosts = [lab.addHost(1), lab.addHost(2)] as const;
  const lanes = [await LaneHost.start(lab, hosts[0]), await LaneHost.start(lab, hosts[1])] as const;
  t.teardown(() => Promise.all(lanes.map((lane) => lane.kill())));
  for (const [i, lane] of lanes.entries()) {
    const { index, underlayIp } = hosts[1 - i];
    const opened = await lane.open(settings);
    if ('errno' in opened) throw new Error(JSON.stringify(opened));
    await lane.set({ network: `10.5.${index}.0`, length: 24, peer: underlayIp, row: index });
    await lane.attach();
  }
  await lab.run(hosts[0].ns, 'ping', ['-c', '1', hosts[1].underlayIp]);
  await setTimeout(2 * QUIET_MS);
  return lanes;
}

/** One echo between the containers, whatever comes of it. */
async function ping(lab: Lab, from: LaneHost, to: LaneHost): Promise<boolean> {
  const args = ['-c', '1', '-W', '1', to.host.containerIp];
  return (await lab.run(from.host.containerNs, 'ping', args, { mustSucceed: false })).code === 0;
}

t.test('ICMP proves the peers, and then TCP goes by the lane in superpackets', { skip }, async (t) => {
  const lab = Lab.open('lane-');
  t.teardown(() => lab.close());
  const [a, b] = await startPair(lab, { mode: 2 });
  await waitFor(() => ping(lab, a, b), 'an echo by the lanes');
  t.ok(((await a.call('heard', 1, 2)) as number[])[0] >= 0, 'it was heard');
  await lab.spawnUntil(b.host.containerNs, 'iperf3', ['-s', '--forceflush'], /listening/);
  const args = ['-c', b.host.containerIp, '-n', '20M'];
  await lab.run(a.host.containerNs, 'iperf3', args);
  const { out_packets: packets = 0, out_bytes: bytes = 0, ...others } = await a.totals();
  // iperf3 ends when all is written, and throws away what still waits in its socket.
  t.ok(bytes > 5 << 20 && packets > bytes / 1472, `${packets} packets, ${bytes} bytes after splitting`);
  t.notOk(Object.keys(others).some((name) => name.endsWith('failed')));
  t.equal((await b.totals()).in_packets, packets, 'all of them arrived');
  t.equal((await b.totals()).in_bytes, bytes);
  t.same((await a.left()).packets, [], 'none for the engine');
  t.same((await b.received()).packets, []);
  t.same(((await a.call('peers', 3)) as number[]).slice(8, 10), [packets, bytes], 'and they are the peer’s');
});
