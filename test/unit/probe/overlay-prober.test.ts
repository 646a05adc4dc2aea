// Echoes inside the overlay over a simulated network: time and what gets through are the test's.

import t from 'tap';
import { parseIcmp } from '../../../src/probe/icmp-echo.js';
import { OverlayProber } from '../../../src/probe/overlay-prober.js';
import { PeerReach, type Reach, reachOfBoth } from '../../../src/probe/peer-reach.js';
import { type Ipv4, ipv4 } from '../../../src/net/ipv4.js';
import { ipv6 } from '../../../src/net/ipv6.js';

interface Host {
  readonly key: string;
  readonly publicIp: Ipv4;
  readonly target: Ipv4;
  isAlive: boolean;
  isUsed: boolean;
  isGone: boolean;
  delayMs: number;
  packets: [number, number];
}

/** An answer as a raw socket delivers it: the request turned round. */
function replyOf(from: Ipv4, request: Buffer): Buffer {
  const packet = Buffer.alloc(20 + request.length);
  packet[0] = 0x45;
  packet.writeUInt16BE(packet.length, 2);
  packet[9] = 1;
  packet.writeUInt32BE(from, 12);
  request.copy(packet, 20);
  packet[20] = 0;
  packet.writeUInt16BE(0, 22);
  let sum = 0;
  for (let i = 20; i < packet.length; i += 2) sum += packet.readUInt16BE(i);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  packet.writeUInt16BE(~sum & 0xffff, 22);
  return packet;
}

class Simulation {
  nowMs = 0;
  readonly hosts: Host[] = [];
  /** Numbers of those with traffic. */
  busy: number[] = [];
  readonly sent: { atMs: number; to: Ipv4 }[] = [];
  readonly prober: OverlayProber<Host>;
  #replies: { atMs: number; packet: Buffer }[] = [];
  #number = 0;

  constructor(count: number) {
    this.prober = new OverlayProber<Host>({
      sender: { send: (to, packet) => this.#carry(to as Ipv4, packet) },
      targetOf: ({ isUsed, target }, way) => {
        if (typeof way === 'bigint') return this.hosts[Number(way)].target;
        return isUsed ? target : undefined;
      },
      packetsOf: ({ packets }) => packets,
      takeBusy: () => (this.nowMs % 1000 === 0 ? this.busy.map((number) => `peer ${number}`) : []),
      hostAnswer: (publicIp) => (this.hosts[Number(publicIp)].isGone ? 'gone' : 'none'),
      now: () => this.nowMs,
      randomBytes: (bytes) => Buffer.alloc(bytes, ++this.#number),
    });
    for (let i = 0; i < count; i++) {
      const target = ipv4(0x0a050000 + i * 16);
      const state = { isAlive: true, isUsed: true, isGone: false, delayMs: 2 };
      this.hosts.push({ key: `peer ${i}`, publicIp: ipv4(i), target, packets: [0, 0], ...state });
    }
    this.setPeers();
  }

  setPeers(): void {
    this.prober.setPeers(this.hosts.map((host) => ({ id: host.key, ways: [host.publicIp], lease: host })));
  }

  stateOf(number: number): string | undefined {
    return this.reportOf(number)?.state;
  }

  reportOf(number: number): Reach | undefined {
    return this.prober.reportsOf(`peer ${number}`)[0]?.report;
  }

  run(ms: number): void {
    for (const end = this.nowMs + ms; this.nowMs < end; this.nowMs += 100) {
      this.prober.tick();
      const due = this.#replies.filter(({ atMs }) => atMs < this.nowMs + 100);
      this.#replies = this.#replies.filter(({ atMs }) => atMs >= this.nowMs + 100);
      for (const { packet } of due) this.prober.receive(parseIcmp(packet)!);
    }
  }

  /** Milliseconds until a peer is in this state, to a tick. */
  timeUntil(number: number, state: string, limitMs: number): number {
    const startMs = this.nowMs;
    while (this.stateOf(number) !== state && this.nowMs - startMs < limitMs) this.run(100);
    return this.nowMs - startMs;
  }

  #carry(to: Ipv4, packet: Buffer): void {
    this.sent.push({ atMs: this.nowMs, to });
    const host = this.hosts[(to - 0x0a050000) / 16];
    if (host.isAlive) this.#replies.push({ atMs: this.nowMs + host.delayMs, packet: replyOf(to, packet) });
  }
}

t.test('a peer that dies is seen within 10 s, and back within 6 s', (t) => {
  const net = new Simulation(200);
  net.run(7_000);
  t.match(net.prober.summary(), { ok: 200, unknown: 0 });
  net.hosts[7].isAlive = false;
  t.ok(net.timeUntil(7, 'silent since', 20_000) <= 10_000);
  t.match(net.prober.summary(), { ok: 199, 'silent since': 1 });
  t.match([...net.prober.unreached()], [{ lease: { key: 'peer 7' }, publicIp: 7, state: 'silent since' }]);
  const { sinceMs, lastHeardMs } = net.reportOf(7)!;
  t.equal(sinceMs, lastHeardMs);
  net.hosts[7].isAlive = true;
  t.ok(net.timeUntil(7, 'ok', 20_000) <= 6_000);
  t.end();
});

t.test('a host that never was: asking first, then never heard', (t) => {
  const net = new Simulation(2);
  net.hosts[1].isAlive = false;
  net.run(1_000);
  t.equal(net.stateOf(1), 'unknown');
  t.ok(net.timeUntil(1, 'never heard', 20_000) <= 6_000);
  net.hosts[1].isGone = true;
  t.match(net.reportOf(1), { state: 'never heard', reason: /its host is not there/ });
  t.end();
});

t.test('a network that says so makes a silent peer unreachable', (t) => {
  const net = new Simulation(1);
  net.run(6_000);
  net.hosts[0].isGone = true;
  t.equal(net.stateOf(0), 'ok', 'not believed while echoes are answered');
  net.hosts[0].isAlive = false;
  net.run(12_000);
  t.match(net.reportOf(0), { state: 'unreachable', reason: /not there/ });
  t.end();
});

t.test('the way there is blocked, the way back is open: not ok', (t) => {
  const net = new Simulation(1);
  net.run(6_000);
  net.hosts[0].isAlive = false;
  for (let second = 0; second < 60; second++) {
    if (second % 5 === 0) net.hosts[0].packets[1]++;
    net.run(1_000);
  }
  t.match(net.reportOf(0), { state: 'unreachable', reason: /its packets arrive/ });
  net.run(30_000);
  t.equal(net.stateOf(0), 'silent since', 'and when they do not arrive any more');
  t.end();
});

t.test('a firewall that drops echoes: traffic both ways is proof, a few packets are none', (t) => {
  const reach = new PeerReach(0);
  const lose = (nowMs: number, out: number, arrived: number): string => {
    reach.noteTraffic(out, arrived, nowMs);
    reach.noteLost();
    return reach.state('none');
  };
  for (let i = 1; i <= 3; i++) lose(i, 0, 0);
  t.equal(lose(4, 0, 0), 'never heard');
  t.equal(lose(5, 40, 40), 'unreachable');
  t.equal(lose(6, 140, 140), 'ok');
  t.equal(lose(7, 940, 141), 'unreachable', 'one way is not both');
  t.end();
});

t.test('10,000 peers: at most 100 echoes a second, all in turn, and one dead is found', (t) => {
  const net = new Simulation(10_000);
  net.run(110_000);
  t.match(net.prober.summary(), { ok: 10_000 });
  net.sent.length = 0;
  net.run(100_000);
  t.ok(net.sent.length <= 10_000);
  t.equal(new Set(net.sent.map(({ to }) => to)).size, 10_000, 'each once');
  net.hosts[5_000].isAlive = false;
  t.ok(net.timeUntil(5_000, 'silent since', 200_000) <= 110_000);
  for (const host of net.hosts) if (host.publicIp % 2 === 0) host.isAlive = false;
  net.run(300_000);
  net.sent.length = 0;
  net.run(100_000);
  t.match(net.prober.summary(), { ok: 5_000, 'silent since': 5_000 });
  t.ok(net.sent.length <= 10_000, 'half of them dead: not more');
  t.end();
});

t.test('a peer with two ways is what the worse one is, and each has turns of its own', (t) => {
  const net = new Simulation(1);
  // The second way leads to what the simulation has as another host.
  const [host] = net.hosts;
  const other = { ...host, key: 'the other way', publicIp: ipv4(1), target: ipv4(0x0a050010) };
  net.hosts.push(other);
  net.prober.setPeers([{ id: host.key, ways: [ipv4(0), ipv6(1n)], lease: host }]);
  const states = (): string =>
    net.prober
      .reportsOf(host.key)
      .map(({ report }) => report.state)
      .join();
  net.run(7_000);
  t.equal(states(), 'ok,ok');
  t.match(net.prober.summary(), { ok: 1, unknown: 0 });
  net.sent.length = 0;
  net.run(10_000);
  t.strictSame(
    [host, other].map(({ target }) => net.sent.filter(({ to }) => to === target).length),
    [2, 2],
  );

  other.isAlive = false;
  net.run(12_000);
  t.equal(states(), 'ok,silent since');
  t.match(net.prober.summary(), { ok: 0, 'silent since': 1 });
  t.match([...net.prober.unreached()], [{ lease: host, publicIp: 1n, state: 'silent since' }]);
  other.isAlive = true;
  host.isUsed = false;
  net.run(12_000);
  t.equal(states(), 'unknown,ok');
  t.match(net.prober.summary(), { ok: 0, unknown: 1 });

  // What is known of the way that stays is kept.
  host.isUsed = true;
  net.run(6_000);
  net.prober.changePeers([], [{ id: host.key, ways: [ipv4(0)], lease: host }]);
  t.equal(states(), 'ok');
  net.prober.changePeers([], [{ id: host.key, ways: [ipv4(0), ipv6(1n)], lease: host }]);
  t.equal(states(), 'ok,unknown');
  net.prober.changePeers([host.key], []);
  net.sent.length = 0;
  net.run(20_000);
  t.strictSame([states(), net.sent, net.prober.wayCount], ['', [], 0]);
  t.end();
});

t.test('reachOfBoth() is the worse one, and says which it is', (t) => {
  const ok = { state: 'ok', rttMs: 1 } as const;
  const silent = { state: 'silent since', sinceMs: 7 } as const;
  const gone = { state: 'unreachable', sinceMs: 9, reason: 'no route' } as const;
  t.strictSame(reachOfBoth(ok, { ...ok, rttMs: 2 }), ok);
  t.strictSame(reachOfBoth(silent, silent), silent);
  t.strictSame(reachOfBoth(ok, silent), { ...silent, reason: 'over IPv6 (IPv4: ok)' });
  t.strictSame(reachOfBoth(gone, silent), { ...gone, reason: 'over IPv4 (IPv6: silent since): no route' });
  t.match(reachOfBoth(ok, { state: 'unknown', reason: 'not used' }), {
    state: 'unknown',
    reason: 'over IPv6 (IPv4: ok): not used',
  });
  t.end();
});

/** For each host of these, the longest time in which it was not asked, from `fromMs` on. */
function longestPauses(net: Simulation, numbers: readonly number[], fromMs: number): number[] {
  return numbers.map((number) => {
    const { target } = net.hosts[number];
    const times = net.sent.filter(({ to, atMs }) => to === target && atMs >= fromMs).map(({ atMs }) => atMs);
    return Math.max(...[...times, net.nowMs].map((atMs, i) => atMs - (i === 0 ? fromMs : times[i - 1])));
  });
}

const numbers = (first: number, count: number): number[] =>
  Array.from({ length: count }, (_, i) => first + i);

t.test('peers with traffic: asked at once, then every 5 s, and the others still have turns', (t) => {
  const net = new Simulation(20_000);
  net.run(10_000);
  net.sent.length = 0;
  net.busy = [15_000];
  net.run(1_000);
  t.ok(
    net.sent.some(({ to }) => to === net.hosts[15_000].target),
    'within a second',
  );
  net.busy = numbers(15_000, 300);
  net.run(6_000);
  net.sent.length = 0;
  const startMs = net.nowMs;
  net.run(60_000);
  t.ok(Math.max(...longestPauses(net, net.busy, startMs)) <= 5_500);
  t.ok(net.sent.length <= 6_000, 'all within the limit');
  const ofOthers = net.sent.filter(({ to }) => !net.busy.includes((to - 0x0a050000) / 16));
  t.ok(ofOthers.length >= 1_500, 'a quarter for the others');

  for (const number of numbers(0, 10_000)) net.hosts[number].isAlive = false;
  net.run(60_000);
  net.sent.length = 0;
  const deadMs = net.nowMs;
  net.run(30_000);
  t.ok(Math.max(...longestPauses(net, net.busy, deadMs)) <= 5_500, 'whoever else is dead');
  t.end();
});

t.test('a peer keeps its place for a while without traffic, unless others need it', (t) => {
  const net = new Simulation(20_000);
  net.run(1_000);
  net.busy = [15_000];
  net.run(1_000);
  net.busy = [];
  const endMs = net.nowMs;
  net.run(590_000);
  t.ok(longestPauses(net, [15_000], endMs)[0] <= 5_500);
  const pastMs = net.nowMs + 20_000;
  net.run(120_000);
  t.equal(longestPauses(net, [15_000], pastMs)[0], net.nowMs - pastMs, 'not for ever');

  // 100 new ones every 10 s, 900 in all, and those that were first have traffic throughout.
  net.sent.length = 0;
  const startMs = net.nowMs + 10_000;
  for (let i = 0; i < 9; i++) {
    net.busy = [...numbers(0, 100), ...numbers(1_000 + 100 * i, 100)];
    net.run(10_000);
  }
  t.ok(Math.max(...longestPauses(net, numbers(0, 100), startMs)) <= 7_000);
  t.end();
});

t.test('a peer with traffic that is forgotten is asked no more', (t) => {
  const net = new Simulation(3);
  net.busy = [0, 1, 2];
  net.run(500);
  net.busy = [];
  net.prober.changePeers(['peer 1'], []);
  net.sent.length = 0;
  net.run(60_000);
  t.notOk(net.sent.some(({ to }) => to === net.hosts[1].target));
  t.end();
});

t.test('slow answers count; forged and unused ones do not', (t) => {
  const net = new Simulation(2);
  net.hosts[0].delayMs = 1_500;
  net.hosts[1].isUsed = false;
  net.run(60_000);
  t.equal(net.stateOf(0), 'ok');
  t.match(net.reportOf(1), { state: 'unknown', reason: 'not used' });
  t.notOk(net.sent.some(({ to }) => to === net.hosts[1].target));
  net.hosts[1].isUsed = true;
  net.hosts[1].isAlive = false;
  net.run(20_000);
  const echo = { id: 1, sequence: 1, token: Buffer.alloc(8) };
  for (let sequence = 0; sequence < 65_536; sequence++) {
    net.prober.receive({ kind: 'reply', from: net.hosts[1].target, echo: { ...echo, sequence }, bytes: 64 });
  }
  t.equal(net.stateOf(1), 'never heard');
  t.end();
});

t.test('setPeers() keeps what is known, but not of another host', (t) => {
  const net = new Simulation(2);
  net.run(6_000);
  net.setPeers();
  t.equal(net.stateOf(1), 'ok');
  const [host] = net.hosts;
  net.prober.setPeers([{ id: host.key, ways: [ipv4(1)], lease: host }]);
  t.equal(net.stateOf(0), 'unknown');
  t.equal(net.stateOf(1), undefined);
  t.end();
});
