import t from 'tap';
import type { CounterSnapshot } from '../../../src/dataplane/dataplane.js';
import { INBOUND_COUNTERS, OUTBOUND_COUNTERS } from '../../../src/dataplane/counters.js';
import { DropLog } from '../../../src/dataplane/drop-log.js';

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
