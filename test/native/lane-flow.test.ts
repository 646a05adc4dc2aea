// Which flows a lane takes: none that the engine has had a packet of lately, none to a peer that is not proven, and of
// a sparse lane no bulk.

import t from 'tap';
import { LANE_RECORD, type LaneTotal } from '../../src/native/counters.js';
import { buildPacket } from '../support/packets.js';
import { waitFor } from '../support/lab.js';
import { type LaneSettings, laneUnavailable, record } from './lane-host.js';
import { echo, LaneWorld, PEER, segment } from './lane-world.js';
import { superpacket } from './raw-frames.js';

const skip = laneUnavailable();

const QUIET_MS = 400;
const ROW = 2;
const LEASE = { network: '10.5.2.0', length: 24, peer: PEER, row: ROW };

/** A UDP packet of a flow that `port` names. */
function flow(port: number, destination = '10.5.2.2', ttl = 64): Buffer {
  const packet = buildPacket({ source: '10.5.1.2', destination, ttl });
  packet.writeUInt16BE(port, 20);
  return packet;
}

/** A world whose peer is proven, and whose lane has sent nothing for long enough to begin. */
async function openProven(settings: LaneSettings): Promise<LaneWorld> {
  const world = await LaneWorld.open(settings);
  await world.prove();
  await waitFor(async () => (await heardMs(world)) >= 0, 'the peer to be heard');
  return world;
}

async function heardMs(world: LaneWorld): Promise<number> {
  return ((await world.lane.call('heard', 1, ROW)) as number[])[0];
}

/** Waits until a packet, not sent before, is so old. */
async function whenHeard(world: LaneWorld, ms: number): Promise<void> {
  await world.prove();
  await waitFor(async () => (await heardMs(world)) < ms, 'the peer to be heard again');
  await waitFor(async () => (await heardMs(world)) > ms, `${ms} ms to pass`, ms + 10_000);
}

for (const [name, mode] of [
  ['a sparse lane', 1],
  ['a full lane', 2],
] as const) {
  t.test(name, { skip }, async (t) => {
    const world = await openProven({ mode, quietMs: QUIET_MS, packetsPerMs: 1_000_000 });
    t.teardown(() => world.close());
    /** What becomes of one packet: the name of what it is counted by. */
    const fate = async (packet: Buffer, offload?: Buffer<ArrayBuffer>): Promise<readonly string[]> =>
      Object.keys(await world.change(() => world.inside.send(packet, offload))).filter(
        (key) => key !== 'out_bytes',
      );
    const check = async (packet: Buffer, counted: LaneTotal, what: string): Promise<void> =>
      void t.same(await fate(packet), [counted], what);

    await waitFor(async () => {
      await whenHeard(world, QUIET_MS);
      return (await fate(flow(1)))[0] === 'out_packets';
    }, 'the lane to begin');
    for (let i = 0; i < 3; i++) await check(flow(1), 'out_packets', 'a flow that was never with the engine');

    await check(flow(2, '10.5.2.2', 1), 'out_left_unclean', 'a packet that the engine must answer');
    await check(flow(2), 'out_left_flow', 'its flow follows it');
    await check(flow(1), 'out_packets', 'another flow does not');
    await check(flow(2, '10.5.2.3'), 'out_packets', 'nor do the same ports of another host');

    await check(
      buildPacket({ source: '10.5.1.2', destination: '10.5.2.4', fragment: 0x2000 }),
      'out_left_unclean',
      'a fragment',
    );
    await check(flow(7, '10.5.2.4'), 'out_left_flow', 'every flow of its addresses follows it');
    await check(flow(8, '10.5.2.4'), 'out_left_flow', 'each');
    await check(flow(1), 'out_packets', 'others do not');

    await whenHeard(world, 1.1 * QUIET_MS);
    await check(flow(2), 'out_packets', 'a flow that was quiet comes back');
    await check(flow(7, '10.5.2.4'), 'out_packets', 'so does one of a pair');

    const tcp = segment({ source: '10.5.1.2', destination: '10.5.2.5' }, 3000);
    const offload = superpacket(1, 40, 1000);
    if (mode === 1) {
      t.same(await fate(tcp, offload), ['out_left_superpacket'], 'bulk');
      const small = segment({ source: '10.5.1.2', destination: '10.5.2.5' }, 1);
      await check(small, 'out_left_flow', 'and what belongs to it');
    } else {
      t.same(await fate(tcp, offload), ['out_packets'], 'bulk, too');
      // 1,250 pieces. Not smaller ones: Linux 6.12 makes them 8 bytes or larger.
      const long = segment({ source: '10.5.1.2', destination: '10.5.2.5' }, 20_000);
      t.same(await fate(long, superpacket(1, 40, 16)), ['out_left_superpacket'], 'not in a thousand pieces');
    }

    await world.lane.call('setLaneMode', 0);
    await world.lane.call('setLaneMode', mode);
    await check(flow(9), 'out_left_flow', 'a lane that begins again waits until what the engine has is gone');
  });
}

t.test('a lane that is alone leaves nothing to an engine for its flow or rate', { skip }, async (t) => {
  const world = await openProven({ mode: 1, quietMs: 600_000, packetsPerMs: 0 });
  t.teardown(() => world.close());
  const bulk = segment({ source: '10.5.1.2', destination: '10.5.2.5' }, 3000);
  const send = async (): Promise<void> => {
    await world.inside.send(flow(1));
    await world.inside.send(bulk, superpacket(1, 40, 1000));
  };
  t.same(await world.change(send), { out_left_flow: 2 });
  await world.lane.call('setLaneMode', 3);
  t.match(await world.change(send), { out_packets: 4 });
});

t.test('a lane takes no more than its rate, but for TCP in a full one', { skip }, async (t) => {
  const world = await openProven({ mode: 1, quietMs: 0, packetsPerMs: 0 });
  t.teardown(() => world.close());
  const tcp = segment({ source: '10.5.1.2', destination: '10.5.2.5' }, 1);
  const counted = (packet: Buffer) => world.change(() => world.inside.send(packet));
  t.same(await counted(flow(1)), { out_left_rate: 1 });
  t.same(await counted(tcp), { out_left_rate: 1 });
  await world.lane.call('setLaneMode', 2);
  t.same(await counted(flow(1)), { out_left_rate: 1 }, 'of UDP the engine makes trains');
  t.match(await counted(tcp), { out_packets: 1 });
  for (const mode of [1, 2]) {
    await world.lane.call('setLaneMode', mode);
    const ping = echo({ source: '10.5.1.2', destination: '10.5.2.2' });
    t.match(await counted(ping), { out_packets: 1 }, 'an echo proves us to the peer');
  }
});

t.test('a peer is proven for fifteen seconds, and by its own lease', { skip }, async (t) => {
  const world = await LaneWorld.open({ mode: 2, quietMs: 0 });
  t.teardown(() => world.close());
  const { lane, inside } = world;
  const fate = async (): Promise<string> => Object.keys(await world.change(() => inside.send(flow(1))))[0];
  const proven = async (): Promise<void> => {
    await world.prove();
    await waitFor(async () => (await heardMs(world)) >= 0, 'the peer to be heard');
  };
  t.equal(await fate(), 'out_left_unproven', 'nobody was heard');
  await proven();
  t.equal(await fate(), 'out_packets');
  await lane.update(...record(LANE_RECORD.set, { ...LEASE, mtu: 1400 }));
  t.equal(await fate(), 'out_packets', 'the same lease, with another MTU');
  await lane.update(...record(LANE_RECORD.set + LANE_RECORD.anotherLease, LEASE));
  t.equal(await heardMs(world), -1);
  t.equal(await fate(), 'out_left_unproven', 'another lease in its row');
  await proven();
  t.equal(await fate(), 'out_packets');
  await lane.update(...record(LANE_RECORD.delete, LEASE));
  t.equal(await fate(), 'out_left_no_route');
  await lane.update(...record(LANE_RECORD.delete, LEASE));
  await lane.update(...record(LANE_RECORD.set, LEASE));
  await waitFor(async () => (await heardMs(world)) > 14_000, 'fourteen seconds to pass', 20_000);
  if ((await heardMs(world)) < 14_900) t.equal(await fate(), 'out_packets', 'it is still proven');
  await waitFor(async () => (await heardMs(world)) > 15_001, 'fifteen seconds to pass');
  t.equal(await fate(), 'out_left_unproven', 'it has been silent');
});
