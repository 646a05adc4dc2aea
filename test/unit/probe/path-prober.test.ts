// Probes over a simulated network: time, chance and paths are the test's.

import t from 'tap';
import { buildEcho, parseIcmp } from '../../../src/probe/icmp-echo.js';
import { PathProber } from '../../../src/probe/path-prober.js';
import { type Ipv4, ipv4, parseIpv4 } from '../../../src/net/ipv4.js';
import { formatAddress } from '../../../src/net/prefix.js';

interface Path {
  /** Largest packet that gets through. */
  mtuBytes: number;
  /** What a router on the way says when it does not; undefined: nothing, a black hole. */
  tells?: number;
  delayMs: number;
  /** Which packets are lost on the way, by number. */
  isLost?: (number: number) => boolean;
}

const OWN = parseIpv4('192.0.2.1')!;

/** An IPv4 packet as a raw socket delivers it. */
function datagram(source: Ipv4, destination: Ipv4, payload: Buffer): Buffer {
  const header = Buffer.alloc(20);
  header[0] = 0x45;
  header.writeUInt16BE(20 + payload.length, 2);
  header[8] = 64;
  header[9] = 1;
  header.writeUInt32BE(source, 12);
  header.writeUInt32BE(destination, 16);
  return Buffer.concat([header, payload]);
}

function withChecksum(icmp: Buffer): Buffer {
  icmp.writeUInt16BE(0, 2);
  let sum = 0;
  for (let i = 0; i < icmp.length; i += 2) sum += (icmp[i] << 8) | (icmp[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  icmp.writeUInt16BE(~sum & 0xffff, 2);
  return icmp;
}

class Simulation {
  nowMs = 0;
  readonly paths = new Map<Ipv4, Path>();
  readonly sent: { atMs: number; to: Ipv4; bytes: number; packet: Buffer }[] = [];
  readonly found: { peer: string; mtuBytes: number }[] = [];
  readonly prober: PathProber;
  #events: { atMs: number; packet: Buffer }[] = [];
  #seed = 1;
  #number = 0;

  constructor(fullBytes = 1500) {
    this.prober = new PathProber({
      sender: {
        send: (to, packet, onTooLong) => this.#carry(to as Ipv4, packet, onTooLong),
        close: () => undefined,
      },
      fullBytes: () => fullBytes,
      onPathMtu: (peer, mtuBytes) => this.found.push({ peer: formatAddress(peer), mtuBytes }),
      now: () => this.nowMs,
      random: () => (this.#seed = (this.#seed * 48_271) % 2_147_483_647) / 2_147_483_647,
      randomBytes: (count) => Buffer.alloc(count, ++this.#number),
    });
  }

  addPeer(last: number, path: Path): Ipv4 {
    const address = parseIpv4(`198.51.100.${last}`)!;
    this.paths.set(address, path);
    this.prober.setPeers(this.paths.keys());
    return address;
  }

  deliver(packet: Buffer): void {
    const received = parseIcmp(packet);
    if (received !== undefined) this.prober.receive(received);
  }

  run(ms: number): void {
    for (const end = this.nowMs + ms; this.nowMs < end; this.nowMs += 100) {
      this.prober.tick();
      const due = this.#events.filter(({ atMs }) => atMs <= this.nowMs + 100).sort((a, b) => a.atMs - b.atMs);
      this.#events = this.#events.filter((event) => !due.includes(event));
      const nowMs = this.nowMs;
      for (const { atMs, packet } of due) {
        this.nowMs = Math.max(nowMs, atMs);
        this.deliver(packet);
      }
      this.nowMs = nowMs;
    }
  }

  #carry(to: Ipv4, packet: Buffer, onTooLong: () => void): void {
    const bytes = packet.length + 20;
    this.sent.push({ atMs: this.nowMs, to, bytes, packet });
    const path = this.paths.get(to);
    if (path === undefined || path.isLost?.(this.sent.length) === true) return;
    if (bytes > 9000) {
      onTooLong();
      return;
    }
    if (bytes > path.mtuBytes) {
      if (path.tells === undefined) return;
      const error = Buffer.alloc(8 + 28);
      error[0] = 3;
      error[1] = 4;
      error.writeUInt16BE(path.tells, 6);
      datagram(OWN, to, packet).copy(error, 8, 0, 28);
      this.#events.push({ atMs: this.nowMs + path.delayMs, packet: datagram(to, OWN, withChecksum(error)) });
      return;
    }
    const reply = Buffer.from(packet);
    reply[0] = 0;
    this.#events.push({ atMs: this.nowMs + path.delayMs, packet: datagram(to, OWN, withChecksum(reply)) });
  }
}

t.test('an open path: round trip, no loss, full size', (t) => {
  const net = new Simulation();
  const peer = net.addPeer(1, { mtuBytes: 1500, delayMs: 12 });
  net.run(60_000);
  t.match(net.prober.report(peer), { rttMs: 12, loss: 0, mtuBytes: 1500 });
  t.same([...new Set(net.found.map(({ mtuBytes }) => mtuBytes))], [1500]);
  t.end();
});

t.test('a router that tells: one probe of what it says is enough', (t) => {
  const net = new Simulation();
  const peer = net.addPeer(1, { mtuBytes: 1400, tells: 1400, delayMs: 5 });
  net.run(20_000);
  t.equal(net.prober.report(peer)?.mtuBytes, 1400);
  t.ok(net.sent.filter(({ bytes }) => bytes > 64).length < 6);
  t.end();
});

t.test('a router that lies is not believed', (t) => {
  const net = new Simulation();
  const peer = net.addPeer(1, { mtuBytes: 1300, tells: 1450, delayMs: 5 });
  net.run(90_000);
  const found = net.prober.report(peer)?.mtuBytes ?? 0;
  t.ok(found <= 1300 && found >= 1296, `found ${found}`);
  t.end();
});

t.test('black holes of any size are found to four bytes', (t) => {
  for (const mtuBytes of [576, 600, 1006, 1280, 1372, 1492, 1499]) {
    const net = new Simulation();
    const peer = net.addPeer(1, { mtuBytes, delayMs: 5 });
    net.run(90_000);
    const found = net.prober.report(peer)?.mtuBytes ?? 0;
    t.ok(found <= mtuBytes && found > mtuBytes - 5, `${mtuBytes}: found ${found}`);
  }
  t.end();
});

t.test('a path that widens again is noticed after ten minutes', (t) => {
  const net = new Simulation();
  const path: Path = { mtuBytes: 1400, delayMs: 5 };
  const peer = net.addPeer(1, path);
  net.run(60_000);
  t.ok((net.prober.report(peer)?.mtuBytes ?? 0) <= 1400);
  path.mtuBytes = 1500;
  net.run(700_000);
  t.equal(net.prober.report(peer)?.mtuBytes, 1500);
  path.mtuBytes = 1200;
  net.run(400_000);
  t.ok((net.prober.report(peer)?.mtuBytes ?? 0) <= 1200, 'and one that narrows later as well');
  t.end();
});

t.test('loss alone narrows nothing', (t) => {
  const net = new Simulation();
  const peer = net.addPeer(1, { mtuBytes: 1500, delayMs: 5, isLost: (number) => number % 7 === 0 });
  net.run(600_000);
  const report = net.prober.report(peer)!;
  t.equal(report.mtuBytes, 1500);
  t.ok(report.loss! > 0 && report.loss! < 0.4, `loss ${report.loss}`);
  t.end();
});

t.test('a host that answers no echo says nothing', (t) => {
  const net = new Simulation();
  const peer = net.addPeer(1, { mtuBytes: 1500, delayMs: 5, isLost: () => true });
  net.run(120_000);
  t.same(net.prober.report(peer), {});
  t.same([...new Set(net.sent.map(({ bytes }) => bytes))], [64], 'and is asked for no large ones');
  t.end();
});

t.test('a filter of large echoes is no narrow path', (t) => {
  const net = new Simulation();
  const peer = net.addPeer(1, { mtuBytes: 300, delayMs: 5 });
  net.run(120_000);
  t.equal(net.prober.report(peer)?.mtuBytes, undefined);
  t.same(net.found, []);
  t.end();
});

t.test('forged and stray answers change nothing', (t) => {
  const net = new Simulation();
  const peer = net.addPeer(1, { mtuBytes: 1500, delayMs: 50 });
  net.run(30_000);
  const before = net.prober.report(peer);
  const sentCount = net.sent.length;
  while (net.sent.length === sentCount) {
    net.nowMs += 100;
    net.prober.tick();
  }
  const { packet } = net.sent.at(-1)!;
  const forge = (change: (reply: Buffer) => void, from = peer): void => {
    const reply = Buffer.from(packet);
    reply[0] = 0;
    change(reply);
    net.deliver(datagram(from, OWN, withChecksum(reply)));
  };
  forge((reply) => reply.fill(0xee, 8, 16)); // another token
  forge((reply) => reply.writeUInt16BE(reply.readUInt16BE(6) + 1, 6)); // another sequence
  forge(() => undefined, parseIpv4('203.0.113.9')); // another host
  t.equal(net.prober.counts().unmatched, 3);
  forge((reply) => reply.writeUInt16BE(reply.readUInt16BE(4) ^ 1, 4)); // another program's
  t.equal(net.prober.counts().unmatched, 3);
  const tooBig = Buffer.alloc(8 + 28);
  tooBig.set([3, 4]);
  tooBig.writeUInt16BE(600, 6);
  datagram(OWN, peer, packet).copy(tooBig, 8, 0, 28);
  net.deliver(datagram(parseIpv4('203.0.113.9')!, OWN, withChecksum(tooBig)));
  t.same(net.prober.report(peer), before, 'a small probe cannot have been too big');
  for (const length of [0, 19, 20, 27, 35]) net.deliver(datagram(peer, OWN, packet).subarray(0, length));
  t.same(net.prober.report(peer), before);
  t.end();
});

t.test('10,000 peers are no storm', (t) => {
  const net = new Simulation();
  const addresses = Array.from({ length: 10_000 }, (_, i) => ipv4(0x0a000001 + i));
  for (const address of addresses) net.paths.set(address, { mtuBytes: 1500, delayMs: 5 });
  net.prober.setPeers(addresses);
  net.run(1_800_000);
  const perSecond = new Map<number, number>();
  for (const { atMs } of net.sent) {
    const second = Math.floor(atMs / 1000);
    perSecond.set(second, (perSecond.get(second) ?? 0) + 1);
  }
  t.ok(Math.max(...perSecond.values()) <= 40, `at most ${Math.max(...perSecond.values())} a second`);
  const silent = addresses.filter((address) => net.prober.report(address)?.mtuBytes === undefined);
  t.same(silent, [], 'and every path is measured within half an hour');
  net.prober.setPeers(addresses.slice(0, 10));
  t.equal(net.prober.peerCount, 10);
  net.prober.close();
  net.prober.close();
  t.end();
});

t.test('buildEcho and parseIcmp', (t) => {
  const FIVE = ipv4(5);
  const echo = { id: 7, sequence: 9, token: Buffer.from('12345678') };
  const packet = buildEcho(echo, 101);
  t.equal(packet.length, 81);
  t.equal(parseIcmp(datagram(OWN, FIVE, packet)), undefined, 'a request is no answer');
  packet[0] = 0;
  t.match(parseIcmp(datagram(FIVE, OWN, withChecksum(packet))), { kind: 'reply', from: 5, echo, bytes: 101 });
  packet[60] ^= 1;
  t.equal(parseIcmp(datagram(FIVE, OWN, packet)), undefined, 'a broken one is none either');
  t.throws(() => buildEcho(echo, 63), RangeError);
  t.end();
});

t.test('what is known of the host: it answers, or the network says that it is not there', (t) => {
  const net = new Simulation();
  const path: Path = { mtuBytes: 1500, delayMs: 5 };
  const peer = net.addPeer(1, path);
  t.equal(net.prober.hostAnswer(peer), 'none');
  net.run(11_000);
  t.equal(net.prober.hostAnswer(peer), 'answers');
  path.isLost = () => true;
  net.run(11_000);
  t.equal(net.prober.hostAnswer(peer), 'none');
  // Host unreachable (code 1) comes from the own kernel, seconds after the probe was given up.
  const last = net.sent.at(-1)!;
  const error = Buffer.alloc(8 + 28);
  error[0] = 3;
  error[1] = 1;
  datagram(OWN, peer, last.packet).copy(error, 8, 0, 28);
  net.deliver(datagram(OWN, OWN, withChecksum(error)));
  t.equal(net.prober.hostAnswer(peer), 'gone');
  delete path.isLost;
  net.run(11_000);
  t.equal(net.prober.hostAnswer(peer), 'answers');
  t.end();
});
