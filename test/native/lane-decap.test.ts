// What the lane takes on the way in, and what it leaves to the engine: a datagram for each rule of addon/lane/decap.cc.

import t from 'tap';
import type { LaneTotal } from '../../src/native/counters.js';
import { buildPacket } from '../support/packets.js';
import { checksum } from '../support/pcap.js';
import { waitFor } from '../support/lab.js';
import { laneUnavailable } from './lane-host.js';
import { echo, HOST, LaneWorld, NESTED_PEER, type OuterPacket, PEER, segment } from './lane-world.js';

const skip = laneUnavailable();

const TO_US = { source: '10.5.2.2', destination: '10.5.1.2' };
const INNER = buildPacket({ ...TO_US, payload: Buffer.alloc(30, 7) });

const TAKEN: readonly (OuterPacket & { readonly name: string })[] = [
  { name: 'UDP', inner: INNER },
  { name: 'TCP whose checksum is not filled in', inner: segment(TO_US, 100) },
  { name: 'an echo', inner: echo(TO_US) },
  { name: 'TTL 2', inner: buildPacket({ ...TO_US, ttl: 2 }) },
  {
    name: 'from a lease inside another',
    inner: buildPacket({ ...TO_US, source: '10.5.2.200' }),
    source: NESTED_PEER,
  },
  { name: 'as large as the path takes', inner: buildPacket({ ...TO_US, payload: Buffer.alloc(1444) }) },
  { name: 'no more than a header', inner: buildPacket({ ...TO_US, protocol: 59, payload: Buffer.alloc(0) }) },
  { name: 'outside DF is not set', inner: INNER, fragment: 0 },
];

interface Left extends OuterPacket {
  readonly name: string;
  /** What the lane counts; undefined for what no lane has sent. */
  readonly counted: LaneTotal | undefined;
  /** @default true */
  readonly isForSocket?: boolean;
}

const LEFT: readonly Left[] = [
  { name: 'a checksum', inner: INNER, checksum: 1, counted: undefined, isForSocket: false }, // it is wrong
  { name: 'another port', inner: INNER, port: 9, counted: undefined, isForSocket: false },
  {
    name: 'another address',
    inner: INNER,
    destination: '172.20.0.9',
    counted: undefined,
    isForSocket: false,
  },
  { name: 'another protocol', inner: INNER, protocol: 6, counted: undefined, isForSocket: false },
  { name: 'an outer fragment', inner: INNER, fragment: 0x2000, counted: undefined, isForSocket: false },
  { name: 'outer options', inner: INNER, options: Buffer.from([1, 1, 1, 0]), counted: undefined },
  {
    name: 'to another host',
    inner: INNER,
    mac: Buffer.from('020000000003', 'hex'),
    counted: undefined,
    isForSocket: false,
  },
  {
    name: 'in a VLAN',
    inner: INNER,
    tag: Buffer.from('81000007', 'hex'),
    counted: undefined,
    isForSocket: false,
  },
  {
    name: 'a wrong outer checksum',
    inner: INNER,
    checksumError: 1,
    counted: 'in_left_unclean',
    isForSocket: false,
  },
  {
    name: 'bytes behind it in the frame',
    inner: INNER,
    trailer: Buffer.alloc(3),
    counted: 'in_left_unclean',
  },
  {
    name: 'UDP longer than the packet',
    inner: INNER,
    udpExtra: 1,
    counted: 'in_left_unclean',
    isForSocket: false,
  },
  { name: 'UDP shorter than the packet', inner: INNER, udpExtra: -1, counted: 'in_left_unclean' },
  {
    name: 'inner options',
    inner: buildPacket({ ...TO_US, options: Buffer.from([1, 1, 1, 0]) }),
    counted: 'in_left_unclean',
  },
  {
    name: 'an inner fragment',
    inner: buildPacket({ ...TO_US, fragment: 0x2000 }),
    counted: 'in_left_unclean',
  },
  {
    name: 'a last inner fragment',
    inner: buildPacket({ ...TO_US, fragment: 2 }),
    counted: 'in_left_unclean',
  },
  { name: 'TTL 1', inner: buildPacket({ ...TO_US, ttl: 1 }), counted: 'in_left_unclean' },
  { name: 'two packets', inner: Buffer.concat([INNER, INNER]), counted: 'in_left_unclean' },
  { name: 'bytes behind it', inner: Buffer.concat([INNER, Buffer.alloc(1)]), counted: 'in_left_unclean' },
  { name: 'cut off', inner: INNER.subarray(0, 40), counted: 'in_left_unclean' },
  { name: 'no header', inner: Buffer.alloc(7), counted: 'in_left_unclean' },
  {
    name: 'version 6',
    inner: Buffer.concat([Buffer.from([0x60]), Buffer.alloc(59)]),
    counted: 'in_left_unclean',
  },
  {
    name: 'from no lease',
    inner: buildPacket({ ...TO_US, source: '10.5.9.2' }),
    counted: 'in_left_not_admitted',
  },
  {
    name: 'from nobody’s address',
    inner: buildPacket({ ...TO_US, source: '192.0.2.7' }),
    counted: 'in_left_not_admitted',
  },
  { name: 'a neighbour’s source', inner: INNER, source: NESTED_PEER, counted: 'in_left_not_admitted' },
  {
    name: 'the source of a lease inside its own',
    inner: buildPacket({ ...TO_US, source: '10.5.2.200' }),
    counted: 'in_left_not_admitted',
  },
  {
    name: 'our own source',
    inner: buildPacket({ ...TO_US, source: '10.5.1.7' }),
    counted: 'in_left_not_admitted',
  },
  {
    name: 'our own address inside',
    inner: buildPacket({ ...TO_US, source: HOST }),
    counted: 'in_left_not_admitted',
  },
  {
    name: 'not to our subnet',
    inner: buildPacket({ ...TO_US, destination: '10.5.6.2' }),
    counted: 'in_left_not_admitted',
  },
  { name: 'from an unknown peer', inner: INNER, source: '172.20.0.77', counted: 'in_left_not_admitted' },
];

t.test('decap', { skip }, async (t) => {
  const world = await LaneWorld.open({ mode: 0 });
  t.teardown(() => world.close());
  const { lane, inside, outside } = world;
  /** Sends, and waits until `name` has grown by one. */
  const sendFor = (packet: OuterPacket, name: LaneTotal): Promise<Partial<Record<LaneTotal, number>>> =>
    world.change(async () => {
      const before = (await lane.totals())[name] ?? 0;
      await outside.send(world.frameOf(packet));
      await waitFor(async () => ((await lane.totals())[name] ?? 0) > before, `${name} to grow`).catch(
        () => undefined,
      );
    });

  await t.test('takes, also when nothing is to be sent', async (t) => {
    for (const { name, ...packet } of TAKEN) {
      inside.seen.length = 0;
      const { inner } = packet;
      t.same(await sendFor(packet, 'in_packets'), { in_packets: 1, in_bytes: inner.length }, name);
      await waitFor(() => inside.seen.some(({ kind }) => kind === 'h'), `${name} to come out`);
      const { frame } = inside.seen.find(({ kind }) => kind === 'h')!;
      t.equal(checksum(frame.subarray(0, 20)), 0, `the checksum of the header of ${name}`);
      const expected = Buffer.from(inner);
      expected[8]--;
      frame.copy(expected, 10, 10, 12);
      t.same(frame, expected, 'the packet, with a TTL of one less');
    }
    const [, , , , , , inPackets] = (await lane.call('peers', 2)) as number[];
    t.equal(inPackets, 0);
    t.equal(((await lane.call('peers', 3)) as number[])[10], TAKEN.length - 1, 'they are the peer’s');
    t.equal(((await lane.call('peers', 5)) as number[])[18], 1);
    const heard = (await lane.call('heard', 7, 0)) as number[];
    t.same(
      heard.map((age) => age >= 0),
      [false, false, true, false, true, false, false],
      'who was heard',
    );
    t.same((await lane.received()).packets, []);
  });

  await t.test('leaves', async (t) => {
    let forSocket = 0;
    for (const { name, counted, isForSocket = true, ...packet } of LEFT) {
      if (isForSocket) forSocket++;
      if (counted !== undefined) {
        t.same(await sendFor(packet, counted), { [counted]: 1 }, name);
        continue;
      }
      await outside.send(world.frameOf(packet));
      // What the lane takes behind it shows that it has seen this.
      const good = TAKEN[0];
      t.same(await sendFor(good, 'in_packets'), { in_packets: 1, in_bytes: good.inner.length }, name);
    }
    const { counters } = await lane.received();
    t.equal(counters['messages'], forSocket, 'to the engine, unless the kernel refuses them');
  });

  await t.test('leaves what is larger than the device takes', async (t) => {
    world.lab.ip(lane.host.ns, 'link set flannel0 mtu 1400');
    const inner = buildPacket({ ...TO_US, payload: Buffer.alloc(1400) });
    t.same(await sendFor({ inner, source: PEER }, 'in_left_too_big'), { in_left_too_big: 1 });
    t.same(
      (await lane.received()).packets.map(({ bytes }) => bytes),
      [1428],
    );
  });
});
