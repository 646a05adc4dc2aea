// Datagrams of IPv6 between two engines, on real devices and sockets: in a network without IPv4, and beside IPv4 in
// each of two queues.
//
//   fd00:5:0:1::1 ─ flannel0 ═══ UDP 8285 over IPv6 ═══ flannel0 ─ fd00:5:0:2::1
//        10.5.1.1 ─────────╚═══ UDP 8285 over IPv4 ═══╝───────── 10.5.2.1          when dual

import { join } from 'node:path';
import t from 'tap';
import { type Host, Lab, labUnavailable, PROJECT_ROOT, type Task, waitFor } from '../support/lab.js';
import { sendStream, type StreamResult } from '../support/stream.js';
import type { OuterSeen } from './outer-host.js';
import { RawFrames } from './raw-frames.js';

const HOST = join(PROJECT_ROOT, 'test/native/outer-host.ts');
const V6 = ['fd00:5:0:1::1', 'fd00:5:0:2::1'] as const;
const MEGABYTES = 40;
const skip = labUnavailable();

/** Datagrams from ports of their own, so that there are flows. */
const FLOWS = `
const [to, from] = process.argv.slice(1);
for (let port = 6000; port < 6064; port++) {
  const socket = require('node:dgram').createSocket(to.includes(':') ? 'udp6' : 'udp4');
  socket.bind(port, from, () => socket.send('x', 9, to, () => socket.close()));
}`;

/** An IPv6 header alone from the link-local address, which is nobody's that a lease names. */
const STRANGER = `
const local = Object.values(require('node:os').networkInterfaces().eth0).find((one) => one.address.startsWith('fe80'));
const [from, to] = [2, 1].map((host) => 'fd0000050000000' + host + '0000000000000005');
const packet = Buffer.from('6000000000003b40' + from + to, 'hex');
const socket = require('node:dgram').createSocket('udp6');
socket.bind(0, local.address + '%eth0', () => socket.send(packet, 8285, process.argv[1], () => socket.close()));`;

class World {
  readonly lab = Lab.open('out6-');
  readonly hosts: readonly Host[];
  #engines: Task[] = [];

  constructor() {
    this.hosts = [this.lab.addHost(1), this.lab.addHost(2)];
    for (const { ns, index } of this.hosts)
      this.lab.ip(ns, `-6 address add fd99::${index}/64 dev eth0 nodad`);
  }

  async start(family: 'v6' | 'dual', queues: number): Promise<readonly string[]> {
    this.#engines = await Promise.all(
      this.hosts.map(({ ns, index }) => {
        const args = ['--import', 'tsx', HOST, String(index), family, String(queues)];
        return this.lab.spawnUntil(ns, process.execPath, args, /ready/, 30_000);
      }),
    );
    await waitFor(
      async () => (await this.ping(V6[1])).includes('2 received'),
      'the engines to carry packets',
    );
    return this.#engines.map((engine) => engine.log());
  }

  async ping(to: string, ...args: string[]): Promise<string> {
    const all = ['-c', '2', '-i', '0.2', '-W', '2', ...args, to];
    return (await this.lab.run(this.hosts[0].ns, 'ping', all, { mustSucceed: false })).stdout;
  }

  node(host: number, program: string, ...args: string[]): Promise<unknown> {
    return this.lab.run(this.hosts[host].ns, process.execPath, ['-e', program, ...args]);
  }

  /** Sends a stream to an address of the other host. */
  transfer(ip: string): Promise<StreamResult> {
    return sendStream(this.lab, this.hosts[0].ns, { ns: this.hosts[1].ns, ip }, MEGABYTES << 20, 60_000);
  }

  async stop(): Promise<readonly OuterSeen[]> {
    for (const { child } of this.#engines) child.kill('SIGTERM');
    await waitFor(() => this.#engines.every((engine) => engine.log().includes('outbound')), 'the counters');
    return this.#engines.map((engine) => JSON.parse(engine.log().split('\n')[1]) as OuterSeen);
  }
}

t.test('IPv6 alone, inside and outside', { skip }, async (t) => {
  const world = new World();
  t.teardown(() => world.lab.close());
  const [{ ns }, other] = world.hosts;
  for (const log of await world.start('v6', 1))
    t.match(log, 'ready {"tcp":true,"udp":true}', 'superpackets of IPv6 are taken');

  // 1404 is 1452 without the headers of IPv6 and ICMPv6; what is larger goes in fragments of the inner packet.
  for (const size of ['0', '1404', '1405', '9000'])
    t.match(await world.ping(V6[1], '-s', size), /2 received/, `echo of ${size} bytes`);
  const { sentHash, receivedHash } = await world.transfer(V6[1]);
  t.ok(sentHash);
  t.equal(receivedHash, sentHash, `${MEGABYTES} MiB`);

  const frames = await RawFrames.open(world.lab.compile('test/native/raw_frames.cc'), other.ns, 'eth0');
  t.teardown(() => frames.close());
  await world.node(0, FLOWS, V6[1], V6[0]);
  const labels = (): Set<number> =>
    new Set(
      frames.seen
        .filter(({ kind, frame }) => kind === 'h' && frame.readUInt16BE(12) === 0x86dd && frame[20] === 17)
        .map(({ frame }) => frame.readUInt32BE(14) & 0xfffff),
    );
  await waitFor(() => labels().size >= 4, 'labels of some flows');
  t.notOk(labels().has(0), 'each flow has a label');
  t.ok(labels().size <= 8, `${labels().size} labels of 64 flows`);

  await world.node(1, STRANGER, 'fd99::1');
  await world.ping('10.5.2.1', '-c', '1', '-W', '1');

  // The kernel's word on the path: what is at most 1,280 bytes inside is never answered, what is more is told 1,280.
  world.lab.ip(ns, '-6 route add fd99::2/128 dev eth0 mtu 1280');
  t.match(
    await world.ping(V6[1], '-s', '1232', '-M', 'do'),
    /2 received/,
    '1,280 bytes, in fragments outside',
  );
  t.match(await world.ping(V6[1], '-s', '1300', '-M', 'do'), /mtu[ =:]+1280/i, 'what is longer is answered');

  const [first, second] = await world.stop();
  t.ok(first.outbound.trains > 100, `${first.outbound.trains} trains`);
  t.ok(second.inbound.superpackets > 100, `${second.inbound.superpackets} superpackets`);
  t.equal(second.inbound.packets_out, second.inbound.packets_in, 'all that was received is delivered');
  t.equal(second.inbound.checksum_bad, 0);
  t.equal(first.outbound.fragmented, 2);
  t.equal(first.outbound.drop_version, 1, 'IPv4 is not carried');
  t.equal(first.inbound.drop_unknown_peer, 1, 'a stranger is refused');
  t.ok(
    first.senders.some((sender) => /^0 fe800000:0:\S+ -$/.test(sender)),
    'its address of four words reaches TypeScript',
  );
  t.ok(first.events.includes('fd990000:0:0:2 1232'), first.events.join());
});

t.test('both families in each of two queues', { skip }, async (t) => {
  const world = new World();
  t.teardown(() => world.lab.close());
  await world.start('dual', 2);
  t.match(await world.ping('10.5.2.1', '-I', '10.5.1.1'), /2 received/);
  for (const [to, from] of [V6.toReversed(), ['10.5.2.1', '10.5.1.1']]) {
    const { sentHash, receivedHash } = await world.transfer(to);
    t.ok(sentHash);
    t.equal(receivedHash, sentHash, `${MEGABYTES} MiB to ${to}`);
    await world.node(0, FLOWS, to, from); // some for each queue
  }
  const [, second] = await world.stop();
  t.same(
    second.senders.toSorted(),
    ['0 ac140001 0', '0 fd990000:0:0:1 0', '1 ac140001 1', '1 fd990000:0:0:1 1'],
    'each queue receives what the same queue sends, of either family',
  );
  t.equal(second.inbound.checksum_bad, 0);
});
