// A packet that may go by the lane does not overtake one of its flow that waits for a worker who is late. There are no
// workers here: the test is both, and moves when it says so.

import { setTimeout } from 'node:timers/promises';
import t from 'tap';
import type { EngineTake } from './lane-driver.js';
import { DEAD_MS, laneUnavailable } from './lane-host.js';
import { LaneWorld } from './lane-world.js';
import { buildPacket } from '../support/packets.js';
import { waitFor } from '../support/lab.js';

const skip = laneUnavailable();

const QUIET_MS = 50;
/** Longer than a worker on time needs, and shorter than one that is taken for dead. */
const LATE_MS = 200;
/** What has left a worker is taken to have arrived. */
const ARRIVED_MS = 120;

/** Packets: more than DEAD_MS for a worker that takes a batch, 256, every LATE_MS. */
const BACKLOG = 1_900;

const OUT = { source: '10.5.1.2', destination: '10.5.2.2' };
const IN = { source: '10.5.2.2', destination: '10.5.1.2' };

/** A UDP packet of the flow that `port` names. */
function packetOf(
  flow: { readonly source: string; readonly destination: string },
  port: number,
  ttl = 64,
): Buffer {
  const packet = buildPacket({ ...flow, ttl });
  packet.writeUInt16BE(port, 20);
  return packet;
}

/** A world whose peer is proven and whose lane has begun to send. */
async function openProven(): Promise<LaneWorld> {
  const world = await LaneWorld.open({ mode: 1, quietMs: QUIET_MS, packetsPerMs: 1_000_000 });
  await world.prove();
  await waitFor(async () => {
    await setTimeout(2 * QUIET_MS);
    return 'out_packets' in (await world.change(() => world.inside.send(packetOf(OUT, 1))));
  }, 'the lane to begin');
  return world;
}

/** A worker takes all that waits, and looks again when that has arrived. */
async function work(world: LaneWorld, what: 'left' | 'received'): Promise<EngineTake> {
  const take = (await world.lane.call(what)) as EngineTake;
  for (let look = 0; look < 2; look++) {
    await setTimeout(ARRIVED_MS);
    await world.lane.call(what);
  }
  return take;
}

t.test('outbound', { skip }, async (t) => {
  const world = await openProven();
  t.teardown(() => world.close());
  const fate = async (packet: Buffer): Promise<string | undefined> =>
    Object.keys(await world.change(() => world.inside.send(packet)))[0];

  await work(world, 'left');
  t.equal(await fate(packetOf(OUT, 2, 1)), 'out_left_unclean', 'a packet waits for the worker');
  await setTimeout(LATE_MS);
  t.equal(await fate(packetOf(OUT, 2)), 'out_left_flow', 'its flow was quiet, but the worker is late');
  t.equal(await fate(packetOf(OUT, 3)), 'out_packets', 'another flow waits for nobody');
  t.equal((await work(world, 'left')).packets.length, 2, 'the worker has both');
  await setTimeout(2 * QUIET_MS);
  t.equal(await fate(packetOf(OUT, 2)), 'out_packets', 'a worker that has been through is not late');

  const another = packetOf(OUT, 4, 1);
  await Promise.all(Array.from({ length: BACKLOG }, () => world.inside.send(another)));
  t.equal(await fate(packetOf(OUT, 2, 1)), 'out_left_unclean');
  const busyUntil = Date.now() + DEAD_MS + LATE_MS;
  while (Date.now() < busyUntil) {
    await world.lane.call('left', 1);
    await setTimeout(LATE_MS);
  }
  t.equal(await fate(packetOf(OUT, 2)), 'out_left_flow', 'a worker with much to do is not dead');
  await work(world, 'left');
  await setTimeout(2 * QUIET_MS);
  t.equal(await fate(packetOf(OUT, 2)), 'out_packets', 'until it is through');

  t.equal(await fate(packetOf(OUT, 2, 1)), 'out_left_unclean');
  await setTimeout(DEAD_MS);
  t.equal(await fate(packetOf(OUT, 2)), 'out_packets', 'nobody waits for a worker that is dead');
});

t.test('inbound', { skip }, async (t) => {
  const world = await openProven();
  t.teardown(() => world.close());
  const { lane, outside } = world;
  const bySocket = (inner: Buffer): Promise<void> => outside.send(world.frameOf({ inner, checksum: 0x1234 }));
  const byLane = (inner: Buffer): Promise<Partial<Record<string, number>>> =>
    world.change(async () => {
      const before = JSON.stringify(await lane.totals());
      await outside.send(world.frameOf({ inner }));
      await waitFor(async () => JSON.stringify(await lane.totals()) !== before, 'the packet to arrive');
    });

  await work(world, 'received');
  t.match(await byLane(packetOf(IN, 5)), { in_packets: 1 }, 'nothing waits in the socket');
  await setTimeout(LATE_MS);
  t.match(await byLane(packetOf(IN, 5)), { in_packets: 1 }, 'nor does it when the worker sleeps');

  await bySocket(packetOf(IN, 6));
  await setTimeout(LATE_MS);
  t.same(await byLane(packetOf(IN, 7)), { in_left_behind: 1 }, 'something waits, and the worker is late');
  await work(world, 'received');
  t.match(await byLane(packetOf(IN, 7)), { in_packets: 1 }, 'the worker has been through');

  await bySocket(packetOf(IN, 6));
  await setTimeout(LATE_MS);
  await lane.call('received'); // this look is noted by the next one
  t.same(await byLane(packetOf(IN, 8)), { in_left_behind: 1 }, 'the worker is late still');
  await setTimeout(30);
  await lane.call('received');
  t.same(
    await byLane(packetOf(IN, 8)),
    { in_left_behind: 1 },
    'its flow waits, though the worker is on time again',
  );
  await work(world, 'received');
  t.match(await byLane(packetOf(IN, 8)), { in_packets: 1 }, 'all of the flow was delivered');

  await bySocket(packetOf(IN, 6));
  await setTimeout(DEAD_MS);
  t.match(await byLane(packetOf(IN, 7)), { in_packets: 1 }, 'nobody waits for a worker that is dead');
});
