// What the commands make of a daemon's status, without a daemon.

import t from 'tap';
import { captureArguments, unseenText } from '../../../src/cli/capture.js';
import {
  formatColumns,
  formatDuration,
  formatNumber,
  printable,
  sparkline,
} from '../../../src/cli/format.js';
import { secondsOption } from '../../../src/cli/command.js';
import { afterKey, afterLook, drawRates, FIRST_VIEW, lookAt, ratesBetween } from '../../../src/cli/top.js';
import { listDrops } from '../../../src/cli/drops.js';
import { listLeases } from '../../../src/cli/leases.js';
import { byAddress, peerState } from '../../../src/cli/peer-text.js';
import { peersText } from '../../../src/cli/peers.js';
import { flowText, statusJson, statusText } from '../../../src/cli/status.js';
import { PEER_REFUSALS, type PeerRefusalCode, type PeerStatus } from '../../../src/ops/status.js';
import { DROP_MEANINGS, INBOUND_COUNTERS, OUTBOUND_COUNTERS } from '../../../src/native/counters.js';
import { ETCD_STATUS as STORE, peerWith, statusWith } from './status-document.js';

t.test('every drop counter has a meaning, and only those that happened are shown', (t) => {
  t.same(listDrops(statusWith(), false), []);
  const all = listDrops(statusWith(), true);
  t.equal(
    all.length,
    [...OUTBOUND_COUNTERS, ...INBOUND_COUNTERS].filter((name) => name.startsWith('drop_')).length + 1,
  );
  t.notMatch(JSON.stringify(all), /not known here/);
  const drops = listDrops(statusWith({}, { drop_no_route: 7 }, { drop_unknown_peer: 9 }), false);
  t.match(drops, [
    { direction: 'inbound', reason: 'unknown_peer', packets: 9, meaning: DROP_MEANINGS.drop_unknown_peer },
    { direction: 'outbound', reason: 'no_route', packets: 7 },
  ]);
  t.end();
});

t.test('rates: differences over time, restarts, busiest peer first', (t) => {
  const before = statusWith({}, { packets_out: 100, bytes_out: 1000, drop_no_route: 4 });
  const peers = [
    { ...before.peers[0], packetsOut: 10, bytesOut: 100 },
    { ...before.peers[1], packetsOut: 30, bytesOut: 900 },
  ];
  const after = statusWith({ peers }, { packets_out: 300, bytes_out: 5000, drop_no_route: 8 });
  const rates = ratesBetween(lookAt(before), lookAt(after), 2);
  t.match(rates.outbound, { packetsPerSecond: 100, bitsPerSecond: 16_000, dropsPerSecond: 2 });
  t.match(rates.peers[0], { subnet: '10.5.3.0/24', out: { packetsPerSecond: 15, bitsPerSecond: 3600 } });
  const restarted = ratesBetween(lookAt(after), lookAt(statusWith({}, { packets_out: 50 })), 1);
  t.equal(restarted.outbound.packetsPerSecond, 50, 'a counter that went back counts from 0');
  t.match(drawRates(lookAt(after), rates, 24), /10\.5\.3\.0\/24 +192\.0\.2\.3 +15 +3\.60 k/);
  t.equal(
    drawRates(lookAt(after), rates, 9)
      .split('\n')
      .filter((line) => line.startsWith('10.5.')).length,
    1,
    'fits',
  );
  t.end();
});

t.test('arguments of tcpdump', (t) => {
  t.same(captureArguments(statusWith(), {}), ['-n', '-i', 'flannel0']);
  t.match(unseenText(statusWith()), /lane sends \(sparse\).*"tcpdump -i eth0 udp port 8285"/);
  t.same(
    captureArguments(statusWith(), {
      peer: '192.0.2.3',
      file: '-',
      count: 5,
      snaplen: 96,
      condition: 'tcp or udp',
    }),
    [
      ...['-n', '-i', 'flannel0', '-U', '-w', '-', '-c', '5', '-s', '96'],
      '(net 10.5.3.0/24) and (tcp or udp)',
    ],
  );
  const hostGw = statusWith({ backend: { type: 'host-gw', interface: 'eth0' } });
  t.same(captureArguments(hostGw, {}), ['-n', '-i', 'eth0', '(net 10.5.0.0/16)']);
  t.throws(() => captureArguments(statusWith(), { peer: 'x' }), /--peer is "x"/);
  t.end();
});

t.test('numbers, durations, columns', (t) => {
  t.same([0, 999, 1000, 12_345, 999_999, 1.5e9, 7.25].map(formatNumber), [
    '0',
    '999',
    '1.00 k',
    '12.3 k',
    '1.00 M',
    '1.50 G',
    '7.3',
  ]);
  t.same([0, 59, 61, 3600, 90_000].map(formatDuration), ['0s', '59s', '1m 1s', '1h 0m', '1d 1h']);
  t.equal(
    formatColumns([
      ['name', 'n'],
      ['a', '1'],
      ['bcd', '22'],
    ]),
    'name   n\na      1\nbcd   22',
  );
  t.equal(printable('a\u001b[2Jb\n'), 'a·[2Jb·', 'a terminal is not spoken to');
  t.end();
});

const NOW_MS = Date.parse('2026-01-02T03:04:05Z');
const ago = (seconds: number): string => new Date(NOW_MS - 1000 * seconds).toISOString();

const PEER_REFUSAL_CODES = Object.keys(PEER_REFUSALS) as PeerRefusalCode[];

t.test('a peer is what its echoes say, unless nothing is sent to it', (t) => {
  const cases: [PeerStatus, string][] = [
    [peerWith({ state: 'ok', rttMs: 1 }), 'ok'],
    [peerWith({ state: 'silent since', since: ago(99), lastHeard: ago(12) }), 'silent since 12s'],
    [
      peerWith({ state: 'unreachable', since: ago(120), reason: 'no route' }),
      'unreachable for 2m 0s: no route',
    ],
    [peerWith({ state: 'never heard', since: ago(9) }), 'never heard'],
    [peerWith({ state: 'unknown', reason: 'no raw socket' }), 'unknown: no raw socket'],
    [peerWith({ state: 'ok' }, {}, { state: 'waiting' }), 'not used: waiting'],
    [peerWith({ state: 'ok' }, {}, { state: 'failed', reason: 'no device' }), 'not used: no device'],
    ...PEER_REFUSAL_CODES.map((code): [PeerStatus, string] => [
      peerWith({ state: 'ok' }, {}, { state: 'refused', code, reason: 'behind a router' }),
      'not used: behind a router',
    ]),
  ];
  for (const [peer, expected] of cases) t.equal(peerState(peer, NOW_MS), expected);
  t.end();
});

t.test('peers: by address, in 80 columns and in 60, ten thousand of them', (t) => {
  const reason = 'its packets arrive, but it answers none of ours';
  const peers = [10, 9, 2].map((third) => ({
    ...peerWith({ state: 'unreachable', since: ago(5), reason, rttMs: 1.25, loss: 0.5 }),
    subnet: `10.5.${third}.0/24`,
    mtuBytes: 1472,
    ...{ packetsOut: 123_456, bytesOut: 1e9, packetsIn: 123_456, bytesIn: 1e9 },
  }));
  for (const width of [60, 80]) {
    const lines = peersText(peers, width, NOW_MS).split('\n');
    t.ok(
      lines.every(({ length }) => length <= width),
      `${width} columns`,
    );
    t.same(
      lines.slice(1).map((line) => line.split(' ')[0]),
      ['10.5.2.0/24', '10.5.9.0/24', '10.5.10.0/24'],
    );
    t.ok(lines.slice(1).every((line) => line.includes('unreachable for 5s')));
  }
  t.match(peersText(peers, Infinity, NOW_MS), /bytes out .*none of ours/s);
  const many = Array.from({ length: 10_000 }, (_, i) => ({
    ...peerWith({ state: 'ok' }),
    subnet: `10.${i >> 8}.${i & 255}.0/24`,
  }));
  t.equal(peersText(many, 80, NOW_MS).split('\n').length, 10_001);
  t.same(
    byAddress([{ subnet: 'x' }, { subnet: '10.5.9.0-24' }, { subnet: '10.5.2.0/24' }]).map(
      ({ subnet }) => subnet,
    ),
    ['10.5.2.0/24', '10.5.9.0-24', 'x'],
  );
  t.end();
});

const OWN_LEASE = {
  subnet: '10.5.1.0/24',
  isReservation: false,
  etcdLease: '1f',
  expiresInSeconds: 82_800,
  renewsInSeconds: 79_200,
  lost: null,
};

t.test('status: the problem first, since when, what to do, and whether packets flow', (t) => {
  const counts = { total: 199, ok: 198, silentSince: 1, unreachable: 0, neverHeard: 0, unknown: 0 };
  const text =
    'etcd cannot be used for some long reason that does not fit in eighty columns of a terminal at all';
  const status = statusWith({
    ready: false,
    degraded: [text],
    conditions: [
      {
        ...{ code: 'store-unreachable', severity: 'error', scope: 'node', part: 'store', text, count: 1 },
        ...{ action: 'see etcd', since: ago(252), seconds: 252 },
      },
    ],
    store: { ...STORE, connectedTo: 'http://192.0.2.9:2379', leases: 200, ownLease: OWN_LEASE },
    peerCounts: counts,
  });
  const lines = statusText(status, 80).split('\n');
  t.match(lines[0], /^error {11}for 4m 12s: etcd cannot be used/);
  t.ok(lines.every(({ length }) => length <= 80));
  t.match(statusText(status, 80), /^ {2}do {12}see etcd$/m);
  t.match(statusText(status, 80), /^packets {9}flow: 198 of 199 peers reachable$/m);
  t.match(statusText(status, 80), /daemon {10}twill 1\.2\.3, degraded, up 5s/);
  t.match(
    statusText(status, 120),
    /store {11}etcd http:\/\/192\.0\.2\.9:2379, 200 leases, own lease expires in 23h 0m/,
  );
  t.notMatch(statusText(status, 80), /[{}"]/, 'no JSON');
  t.equal(
    flowText(statusWith({ peers: [peerWith({ state: 'unknown', reason: 'off' })] })),
    'nobody knows whether they reach the peers: off',
  );
  t.end();
});

t.test('JSON has one style of keys', (t) => {
  const wrong: string[] = [];
  const look = (value: unknown): void => {
    if (typeof value !== 'object' || value === null) return;
    for (const [key, inner] of Object.entries(value)) {
      if (!Array.isArray(value) && !/^[a-z][a-zA-Z0-9]*$/.test(key)) wrong.push(key);
      look(inner);
    }
  };
  look(statusJson(statusWith()));
  t.same(wrong, []);
  t.end();
});

t.test('a peer that is refused for any reason is counted and listed as not used', (t) => {
  for (const code of PEER_REFUSAL_CODES) {
    const peers = [peerWith({ state: 'unknown' }, {}, { state: 'refused', code, reason: 'it cannot' })];
    t.match(statusText(statusWith({ peers }), 80), /^peers {11}1, 1 not used$/m);
    t.match(listLeases(statusWith({ peers })).at(-1), { state: 'not used: it cannot' });
  }
  t.end();
});

t.test('leases: keys that are none are shown', (t) => {
  const store = { ...STORE, badKeys: 1, badKeyList: [{ key: 'subnets/x', problem: 'no prefix' }] };
  t.same(listLeases(statusWith({ store })).at(-1), {
    subnet: 'subnets/x',
    publicIp: '–',
    state: 'unreadable: no prefix',
  });
  t.end();
});

t.test('top: sorts, scrolls, says how many more there are, and fits', (t) => {
  const peers = Array.from({ length: 40 }, (_, i) => ({
    ...peerWith({ state: 'ok', rttMs: (i * 7) % 40, loss: 0 }),
    subnet: `10.5.${i + 2}.0/24`,
    ...{ packetsOut: i, bytesOut: 1000 * i, packetsIn: 40 - i, bytesIn: 10 * (40 - i) },
  }));
  const status = statusWith({ peers });
  const rates = ratesBetween(lookAt(statusWith({ peers: [] })), lookAt(status), 1);
  const draw = (view = FIRST_VIEW, rows = 24, width = 80): string[] =>
    drawRates(lookAt(status), rates, rows, view, width).split('\n');
  const firstOf = (lines: readonly string[]): string | undefined =>
    lines.find((line) => line.startsWith('10.5.'))?.split(' ')[0];
  t.equal(draw().length, 24);
  t.equal(draw().at(-1), 'and 24 more');
  t.equal(firstOf(draw()), '10.5.41.0/24', 'busiest first');
  const press = (...keys: string[]) =>
    keys.reduce((view, key) => afterKey(view, key, 24, peers.length)!, FIRST_VIEW);
  t.equal(firstOf(draw(press('a'))), '10.5.2.0/24');
  t.equal(firstOf(draw(press('i'))), '10.5.2.0/24');
  t.match(draw(press('r'))[7], / 39\.00 /);
  t.equal(firstOf(draw(press('a', '\x1b[B', '\x1b[B', '\x1b[A'))), '10.5.3.0/24');
  t.equal(draw(press('a', '\x1b[6~')).at(-1), '16 above, and 8 more, by address');
  t.equal(draw(press('\x1b[F', '\x1b[B')).at(-1), '24 above', 'no further than the end');
  t.same(press('\x1b[F', '\x1b[H'), FIRST_VIEW);
  t.equal(afterKey(FIRST_VIEW, 'q', 24, 1), undefined);
  for (const width of [40, 60, 80])
    for (const rows of [9, 24]) {
      const lines = draw(FIRST_VIEW, rows, width);
      t.ok(lines.length <= rows && lines.every(({ length }) => length <= width), `${rows} by ${width}`);
    }
  t.match(draw(FIRST_VIEW, 24, 100)[6], /RTT ms +loss +state/);
  const looked = [1, 2].reduce((view) => afterLook(view, rates), FIRST_VIEW);
  t.equal(looked.outbound.length, 2);
  t.equal(sparkline([0, 5, 10]), '▁▅█');
  t.equal(sparkline([0, 0]), '▁▁');
  t.equal(secondsOption({ interval: '0.5' }, 'interval'), 0.5);
  for (const interval of ['0', '0.05', '-1', 'x'])
    t.throws(() => secondsOption({ interval }, 'interval'), /expected seconds, 0\.1 or more/);
  t.end();
});
