// What the lane takes on the way out, and what it leaves to the engine: a packet for each rule of addon/lane/encap.h.

import t from 'tap';
import type { LaneTotal } from '../../src/native/counters.js';
import { buildPacket, type InnerPacket } from '../support/packets.js';
import { checkInner, checksum } from '../support/pcap.js';
import { waitFor } from '../support/lab.js';
import { laneUnavailable, PORT } from './lane-host.js';
import { echo, HOST, LaneWorld, NESTED_PEER, PEER, segment, SMALL_PEER } from './lane-world.js';
import { superpacket } from './raw-frames.js';

const skip = laneUnavailable();

const TO_PEER = { source: '10.5.1.2', destination: '10.5.2.2' };
const MTU = 1472;

/** A UDP packet of so many bytes in all. */
function udp(packet: InnerPacket, bytes = 40): Buffer {
  return buildPacket({ payload: Buffer.alloc(bytes - 28, 1), ...packet });
}

/** The same packet with another byte. */
function changed(packet: Buffer, at: number, value: number): Buffer {
  const copy = Buffer.from(packet);
  copy[at] = value;
  copy.writeUInt16BE(0, 10);
  copy.writeUInt16BE(checksum(copy.subarray(0, 20)), 10);
  return copy;
}

/** Between two ports. */
function withPorts(packet: Buffer, from: number, to: number): Buffer {
  packet.writeUInt16BE(from, 20);
  packet.writeUInt16BE(to, 22);
  return packet;
}

interface Case {
  readonly name: string;
  readonly packet: Buffer;
  /** What the lane counts; undefined for a packet that it does not even count. */
  readonly counted: LaneTotal | undefined;
  /** Of the datagram it becomes. @default PEER */
  readonly peer?: string;
  readonly port?: number;
  readonly offload?: Buffer<ArrayBuffer>;
}

const TAKEN: readonly Omit<Case, 'counted'>[] = [
  { name: 'UDP', packet: udp(TO_PEER) },
  { name: 'TCP', packet: segment(TO_PEER) },
  { name: 'an echo', packet: echo(TO_PEER) },
  {
    name: 'a protocol without ports',
    packet: buildPacket({ ...TO_PEER, protocol: 47, payload: Buffer.alloc(9) }),
  },
  { name: 'from this host', packet: udp({ ...TO_PEER, source: HOST }) },
  { name: 'from where no lease is', packet: udp({ ...TO_PEER, source: '192.0.2.1' }) },
  { name: 'as large as the path takes', packet: udp(TO_PEER, MTU) },
  { name: 'TTL 2', packet: udp({ ...TO_PEER, ttl: 2 }) },
  { name: 'with DF', packet: udp({ ...TO_PEER, fragment: 0x4000 }) },
  { name: 'with DSCP and ECN', packet: changed(udp(TO_PEER), 1, 0xbb) },
  {
    name: 'to the lease inside another',
    packet: echo({ ...TO_PEER, destination: '10.5.2.200' }),
    peer: NESTED_PEER,
  },
  {
    name: 'to another port',
    packet: echo({ ...TO_PEER, destination: '10.5.6.9' }),
    peer: SMALL_PEER,
    port: 9999,
  },
  // A checksum of 0xff00 and above carries when the TTL is lowered.
  ...Array.from({ length: 6 }, (_, i) => {
    const packet = udp(TO_PEER);
    packet.writeUInt16BE(0, 10);
    packet.writeUInt16BE((checksum(packet.subarray(0, 20)) + 0x100 + i) & 0xffff, 4);
    packet.writeUInt16BE(checksum(packet.subarray(0, 20)), 10);
    return { name: `checksum ${packet.readUInt16BE(10).toString(16)}`, packet };
  }),
];

const LEFT: readonly Case[] = [
  {
    name: 'options',
    packet: buildPacket({ ...TO_PEER, options: Buffer.from([1, 1, 1, 0]) }),
    counted: 'out_left_unclean',
  },
  {
    name: 'a first fragment',
    packet: buildPacket({ ...TO_PEER, fragment: 0x2000 }),
    counted: 'out_left_unclean',
  },
  { name: 'a last fragment', packet: buildPacket({ ...TO_PEER, fragment: 1 }), counted: 'out_left_unclean' },
  { name: 'TTL 1', packet: udp({ ...TO_PEER, ttl: 1 }), counted: 'out_left_unclean' },
  { name: 'TTL 0', packet: udp({ ...TO_PEER, ttl: 0 }), counted: 'out_left_unclean' },
  {
    name: 'bytes behind it',
    packet: Buffer.concat([udp(TO_PEER), Buffer.alloc(1)]),
    counted: 'out_left_unclean',
  },
  { name: 'cut off', packet: udp(TO_PEER).subarray(0, 39), counted: 'out_left_unclean' },
  { name: 'version 5', packet: changed(udp(TO_PEER), 0, 0x55), counted: 'out_left_unclean' },
  {
    name: 'half a UDP header',
    packet: buildPacket({ ...TO_PEER, protocol: 6, payload: Buffer.alloc(4) }),
    counted: 'out_left_unclean',
  },
  { name: 'to 0/8', packet: udp({ ...TO_PEER, destination: '0.1.2.3' }), counted: 'out_left_unclean' },
  { name: 'to 127/8', packet: udp({ ...TO_PEER, destination: '127.1.2.3' }), counted: 'out_left_unclean' },
  { name: 'to a group', packet: udp({ ...TO_PEER, destination: '224.0.0.5' }), counted: 'out_left_unclean' },
  {
    name: 'to the reserved range',
    packet: udp({ ...TO_PEER, destination: '240.0.0.5' }),
    counted: 'out_left_unclean',
  },
  {
    name: 'to our own subnet',
    packet: udp({ ...TO_PEER, destination: '10.5.1.9' }),
    counted: 'out_left_no_route',
  },
  { name: 'to no lease', packet: udp({ ...TO_PEER, destination: '10.5.9.9' }), counted: 'out_left_no_route' },
  {
    name: 'out of the overlay',
    packet: udp({ ...TO_PEER, source: '10.5.6.9' }),
    counted: 'out_left_no_route',
  },
  {
    name: 'our tunnel, from its port',
    packet: withPorts(udp({ ...TO_PEER, source: HOST }), PORT, 53),
    counted: 'out_left_no_route',
  },
  {
    name: 'our tunnel, to its port',
    packet: withPorts(udp({ ...TO_PEER, source: HOST }), 53, PORT),
    counted: 'out_left_no_route',
  },
  { name: 'too big', packet: udp(TO_PEER, MTU + 1), counted: 'out_left_too_big' },
  {
    name: 'too big for one peer',
    packet: echo({ ...TO_PEER, destination: '10.5.6.9', payload: Buffer.alloc(981) }),
    counted: 'out_left_too_big',
  },
  {
    name: 'to a peer that is not proven',
    packet: udp({ ...TO_PEER, destination: '10.5.6.9' }),
    counted: 'out_left_unproven',
  },
  {
    name: 'to a peer without a neighbour',
    packet: echo({ ...TO_PEER, destination: '10.5.3.9' }),
    counted: 'out_left_no_path',
  },
  {
    name: 'a superpacket of UDP',
    packet: udp(TO_PEER, 2028),
    counted: 'out_left_superpacket',
    offload: superpacket(5, 28, 1000),
  },
  {
    name: 'a superpacket of too big pieces',
    packet: segment(TO_PEER, 4000),
    counted: 'out_left_too_big',
    offload: superpacket(1, 40, MTU - 39),
  },
  { name: 'IPv6', packet: Buffer.concat([Buffer.from([0x60]), Buffer.alloc(59)]), counted: undefined },
];

t.test('encap', { skip }, async (t) => {
  const world = await LaneWorld.open({ mode: 2, quietMs: 0 });
  t.teardown(() => world.close());
  const { lane, inside, outside } = world;
  await world.prove();
  await waitFor(async () => ((await lane.call('heard', 1, 2)) as number[])[0] >= 0, 'the peer to be heard');
  const peerPackets = async (): Promise<number> => ((await lane.call('peers', 3)) as number[])[8];

  await t.test('takes', async (t) => {
    await lane.left();
    for (const { name, packet, peer = PEER, port = PORT } of TAKEN) {
      outside.seen.length = 0;
      const changes = await world.change(() => inside.send(packet));
      t.same(changes, { out_packets: 1, out_bytes: packet.length }, name);
      // IPv6 has much to say on a link that has just come up.
      const isOurs = (kind: string, frame: Buffer) =>
        kind !== 's' && kind !== 'b' && frame.readUInt16BE(12) === 0x0800;
      const arrived = () => outside.seen.find(({ kind, frame }) => isOurs(kind, frame));
      await waitFor(() => arrived() !== undefined, `${name} to arrive`);
      const { frame } = arrived()!;
      const [ip, udpHeader, inner] = [frame.subarray(14, 34), frame.subarray(34, 42), frame.subarray(42)];
      t.equal(ip.readUInt32BE(0), 0x45000000 + packet.length + 28, 'no options, TOS 0, the length');
      t.equal(ip.readUInt32BE(4), 0x4000, 'no identification, DF');
      t.equal(ip.readUInt16BE(8), 0x4011, 'TTL 64, UDP');
      t.equal(checksum(ip), 0);
      t.equal([...ip.subarray(12, 16)].join('.'), HOST);
      t.equal([...ip.subarray(16)].join('.'), peer);
      t.same(
        [0, 2, 4, 6].map((at) => udpHeader.readUInt16BE(at)),
        [PORT, port, packet.length + 8, 0],
        'ports, length, no checksum',
      );
      t.equal(checksum(inner.subarray(0, 20)), 0, `the checksum of the inner header of ${name}`);
      const expected = Buffer.from(packet);
      expected[8]--;
      inner.copy(expected, 10, 10, 12);
      t.same(inner, expected, 'the packet, with a TTL of one less');
      if (name === 'UDP') t.same(checkInner(inner), []);
    }
    t.same((await lane.left()).packets, []);
  });

  await t.test('takes a superpacket, and counts its pieces', async (t) => {
    const offload = superpacket(1, 40, 1000);
    const before = await peerPackets();
    const changes = await world.change(() => inside.send(segment(TO_PEER, 3500), offload));
    t.same(changes, { out_packets: 4, out_bytes: 3500 + 4 * 40 });
    t.equal((await peerPackets()) - before, 4, 'they are the peer’s');
  });

  await t.test('leaves', async (t) => {
    world.lab.ip(lane.host.ns, 'link set flannel0 mtu 9000');
    const before = (await lane.left()).counters['reads'] ?? 0;
    outside.seen.length = 0;
    for (const { name, packet, counted, offload } of LEFT) {
      const changes = await world.change(() => inside.send(packet, offload));
      t.same(changes, counted === undefined ? {} : { [counted]: 1 }, name);
    }
    const { counters } = await lane.left();
    t.equal(counters['reads'] - before, LEFT.length, 'to the engine');
    t.notOk(
      outside.seen.some(({ kind }) => kind === 'h'),
      'none has gone out',
    );
  });

  await t.test('leaves what a router says that the path does not take', async (t) => {
    t.match(await world.change(() => inside.send(udp(TO_PEER, 1400))), { out_packets: 1 });
    // Fragmentation needed, MTU 1300, about a datagram that the lane has sent: its socket is the engine's.
    const quoted = buildPacket({ source: HOST, destination: PEER, payload: Buffer.alloc(8) });
    quoted.writeUInt16BE(0x4000, 6);
    withPorts(quoted, PORT, PORT);
    const message = Buffer.concat([Buffer.from([3, 4, 0, 0, 0, 0, 1300 >> 8, 1300 & 255]), quoted]);
    message.writeUInt16BE(checksum(message), 2);
    await outside.send(
      world.frameOfIp(buildPacket({ source: PEER, destination: HOST, protocol: 1, payload: message })),
    );
    await waitFor(async () => {
      const changes = await world.change(() => inside.send(udp(TO_PEER, 1400)));
      return changes.out_left_no_path === 1;
    }, 'the path to be known as narrow');
    t.match(
      await world.change(() => inside.send(udp(TO_PEER, 1272))),
      { out_packets: 1 },
      'what fits goes on',
    );
    world.lab.ip(lane.host.ns, 'route flush cache');
  });

  await t.test('leaves all when it is off', async (t) => {
    await lane.call('setLaneMode', 0);
    t.same(await world.change(() => inside.send(udp(TO_PEER))), {});
    await lane.call('setLaneMode', 2);
    t.match(await world.change(() => inside.send(udp(TO_PEER))), { out_packets: 1 });
  });

  await t.test('leaves all when the device does not forward', async (t) => {
    const set = (value: number): Promise<unknown> =>
      world.lab.run(lane.host.ns, 'sysctl', ['-qw', `net.ipv4.conf.flannel0.forwarding=${value}`]);
    await set(0);
    t.same(await world.change(() => inside.send(udp(TO_PEER))), { out_left_no_path: 1 });
    await set(1);
  });
});
