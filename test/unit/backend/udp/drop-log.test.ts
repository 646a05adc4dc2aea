import t from 'tap';
import type { CounterSnapshot } from '../../../../src/dataplane/dataplane.js';
import { INBOUND_COUNTERS, OUTBOUND_COUNTERS } from '../../../../src/native/counters.js';
import { DropLog } from '../../../../src/backend/udp/drop-log.js';

function snapshot(unknownPeer: number): CounterSnapshot {
  const zeros = (names: readonly string[]): Record<string, number> =>
    Object.fromEntries(names.map((name) => [name, 0]));
  const inbound = { ...zeros(INBOUND_COUNTERS), drop_unknown_peer: unknownPeer, packets_in: unknownPeer };
  const offender = { outer: 0xac140009, source: 0x08080808, destination: 0x0a050102 };
  return {
    outbound: { values: zeros(OUTBOUND_COUNTERS), offenders: new Map() },
    inbound: { values: inbound, offenders: new Map([['drop_unknown_peer', offender]]) },
    socketDrops: 0,
  } as unknown as CounterSnapshot;
}

t.test('DropLog says a cause once in ten seconds, with the packets since', (t) => {
  const log = new DropLog();
  t.same(log.take(snapshot(0), 0), []);
  const [first] = log.take(snapshot(5), 1_000);
  t.match(first, { direction: 'inbound', reason: 'drop_unknown_peer', packets: 5 });
  t.match(first.text, /last from host 172\.20\.0\.9, inner 8\.8\.8\.8 to 10\.5\.1\.2/);
  t.same(log.take(snapshot(500), 2_000), []);
  t.same(log.take(snapshot(900), 10_999), []);
  t.match(log.take(snapshot(1_000), 11_000), [{ packets: 995 }]);
  t.same(log.take(snapshot(1_000), 60_000), [], 'and nothing when nothing is dropped');
  t.end();
});

t.test('DropLog says nothing of what daemons before this one have counted', (t) => {
  const log = new DropLog();
  const values = { ...snapshot(0).outbound.values, reads: 2_000, drop_tun_queue: 3_000 };
  const former = { ...snapshot(7), outbound: { values, offenders: new Map() } };
  log.addFormer(former);
  t.same(log.take(former, 0), []);
  t.match(log.take({ ...snapshot(9), outbound: former.outbound }, 10_000), [
    { reason: 'drop_unknown_peer', packets: 2 },
  ]);
  t.end();
});

/** Feeds one snapshot a second; `perSecond` says what is dropped and what passes in each. Lines with their second. */
function linesOf(
  reason: 'drop_tun_queue' | 'drop_send_blocked',
  seconds: number,
  perSecond: (second: number) => { dropped: number; passed: number },
) {
  const log = new DropLog();
  const values: Record<string, number> = { ...snapshot(0).outbound.values, reads: 0, [reason]: 0 };
  const passedName = reason === 'drop_tun_queue' ? 'reads' : 'packets_out';
  const lines = [];
  for (let second = 0; second <= seconds; second++) {
    const outbound = { values: { ...values }, offenders: new Map() };
    for (const line of log.take({ ...snapshot(0), outbound }, second * 1_000))
      lines.push({ second, ...line });
    const { dropped, passed } = perSecond(second);
    values[reason] += dropped;
    values[passedName] += passed;
  }
  return lines;
}

t.test('DropLog tells of what overflowed before the first look', (t) => {
  const log = new DropLog();
  const outbound = {
    values: { ...snapshot(0).outbound.values, reads: 2_000, drop_tun_queue: 3_000 },
    offenders: new Map(),
  };
  t.same(log.take({ ...snapshot(0), outbound }, 0), []);
  t.match(log.take({ ...snapshot(0), outbound }, 10_000), [{ reason: 'drop_tun_queue', packets: 3_000 }]);
  t.end();
});

for (const reason of ['drop_tun_queue', 'drop_send_blocked'] as const) {
  t.test(`DropLog is silent about ${reason} by which TCP learns its rate`, (t) => {
    const silent = (
      name: string,
      perSecond: (second: number) => { dropped: number; passed: number },
    ): void => {
      t.same(linesOf(reason, 120, perSecond), [], name);
    };
    silent('64 flows of Cubic', () => ({ dropped: 300, passed: 20_000 }));
    silent('BBR', () => ({ dropped: 1_400, passed: 13_000 }));
    silent('a short transfer', (second) => ({ dropped: second === 5 ? 900 : 0, passed: 100 }));
    silent('an idle host', () => ({ dropped: 0, passed: 0 }));
    t.end();
  });

  t.test(`DropLog says once in ten seconds that ${reason} are a large share`, (t) => {
    const lines = linesOf(reason, 35, () => ({ dropped: 1_000, passed: 3_000 }));
    t.same(
      lines.map(({ second, direction, packets }) => ({ second, direction, packets })),
      [10, 20, 30].map((second) => ({ second, direction: 'outbound', packets: 10_000 })),
    );
    t.match(lines[0].text, /full.*; this was 25 % of the packets, .*; containers send more than/);
    t.match(
      linesOf(reason, 11, () => ({ dropped: 500, passed: 0 })),
      [{ text: /100 %/ }],
      'nothing passes',
    );
    t.match(
      linesOf(reason, 60, (second) => ({
        dropped: second === 3 ? 3_000 : 0,
        passed: second === 3 ? 2_000 : 0,
      })),
      [{ second: 10, packets: 3_000, text: /60 %/ }],
      'a burst, once',
    );
    t.end();
  });
}
