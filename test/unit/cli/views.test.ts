// What the commands make of a daemon's status, without a daemon.

import t from 'tap';
import { captureArguments } from '../../../src/cli/capture.js';
import type { DaemonStatus } from '../../../src/cli/daemon-client.js';
import { formatColumns, formatDuration, formatNumber, printable } from '../../../src/cli/format.js';
import { drawRates, ratesBetween } from '../../../src/cli/top.js';
import { listDrops } from '../../../src/cli/views.js';
import { DROP_MEANINGS, INBOUND_COUNTERS, OUTBOUND_COUNTERS } from '../../../src/dataplane/counters.js';

const zeroes = (names: readonly string[]): Record<string, number> =>
  Object.fromEntries(names.map((name) => [name, 0]));

function statusWith(changes: Partial<DaemonStatus> = {}, outbound = {}, inbound = {}): DaemonStatus {
  return {
    version: '1.2.3',
    uptimeSeconds: 5,
    ready: true,
    degraded: [],
    network: '10.5.0.0/16',
    lease: { subnet: '10.5.1.0/24', mtuBytes: 1472 },
    interface: { name: 'eth0', address: '192.0.2.1', publicIp: '192.0.2.1', mtuBytes: 1500 },
    subnetFile: '/run/flannel/subnet.env',
    store: { kind: 'etcd' },
    backend: {
      type: 'udp',
      device: 'flannel0',
      counters: {
        outbound: { ...zeroes(OUTBOUND_COUNTERS), ...outbound },
        inbound: { ...zeroes(INBOUND_COUNTERS), ...inbound },
        socketDrops: 0,
      },
    },
    peers: [
      { subnet: '10.5.2.0/24', publicIp: '192.0.2.2', packetsOut: 0, bytesOut: 0, packetsIn: 0, bytesIn: 0 },
      { subnet: '10.5.3.0/24', publicIp: '192.0.2.3', packetsOut: 0, bytesOut: 0, packetsIn: 0, bytesIn: 0 },
    ],
    refusedLeases: [],
    alarms: [],
    ...changes,
  };
}

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
  const rates = ratesBetween(before, after, 2);
  t.match(rates.outbound, { packetsPerSecond: 100, bitsPerSecond: 16_000, dropsPerSecond: 2 });
  t.match(rates.peers[0], { subnet: '10.5.3.0/24', out: { packetsPerSecond: 15, bitsPerSecond: 3600 } });
  const restarted = ratesBetween(after, statusWith({}, { packets_out: 50 }), 1);
  t.equal(restarted.outbound.packetsPerSecond, 50, 'a counter that went back counts from 0');
  t.match(drawRates(after, rates, 24), /10\.5\.3\.0\/24 +192\.0\.2\.3 +15 +3\.60 k/);
  t.equal(
    drawRates(after, rates, 9)
      .split('\n')
      .filter((line) => line.startsWith('10.5.')).length,
    1,
    'fits',
  );
  t.end();
});

t.test('arguments of tcpdump', (t) => {
  t.same(captureArguments(statusWith(), {}), ['-n', '-i', 'flannel0']);
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
  const hostGw = statusWith({ backend: { type: 'host-gw' } });
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
