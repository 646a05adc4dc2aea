import t from 'tap';
import { countIn, uncountedOf } from '../../support/twill-hosts.js';

const METRICS = `# HELP twill_peers Leases.
twill_peers_reachability{state="never heard"} 3
twill_peers 12
twill_path_rtt_seconds{peer="10.0.0.1"} 0.0004
`;

t.test('countIn() finds a value by its whole name', (t) => {
  t.equal(countIn(METRICS, 'peers'), 12);
  t.equal(countIn(METRICS, 'peers_reachability{state="never heard"}'), 3);
  t.equal(countIn(METRICS, 'path_rtt_seconds{peer="10.0.0.1"}'), 0.0004);
  for (const name of ['peer', 'peers_reachability', 'path_rtt_seconds{peer="10.0.0.2"}'])
    t.ok(Number.isNaN(countIn(METRICS, name)), name);
  t.end();
});

t.test('uncountedOf() is what went in and did not come out, less the drops', (t) => {
  const counters = { packets_in: 10, packets_out: 6, bytes_in: 99, drop_no_route: 2, drop_too_big: 1 };
  t.equal(uncountedOf(counters as unknown as Parameters<typeof uncountedOf>[0]), 1);
  t.end();
});
