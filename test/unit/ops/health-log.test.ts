// Each condition is one line when it begins and one when it ends, and the numbers are those of the same look.

import pino from 'pino';
import t from 'tap';
import { type Condition, condition } from '../../../src/core/conditions.js';
import { Health } from '../../../src/ops/health.js';
import { logHealth } from '../../../src/ops/health-log.js';
import { healthMetrics } from '../../../src/ops/health-metrics.js';

function setUp() {
  const lines: string[] = [];
  const write = (line: string): void => {
    const { level, msg } = JSON.parse(line) as { level: number; msg: string };
    lines.push(`${pino.levels.labels[level]} ${msg}`);
  };
  const log = pino({}, { write });
  const host = { isStarting: true, found: [] as Condition[] };
  const health = new Health();
  health.addSource('daemon', () => host.found);
  health.onChange = (change) => logHealth(log, change, host.isStarting);
  const look = (...found: Condition[]): string[] => {
    host.found = found;
    health.look();
    return lines.splice(0);
  };
  return { host, health, look };
}

t.test('logHealth() says what began, what is over, and whether this host is ready', (t) => {
  const { host, health, look } = setUp();
  t.strictSame(look(condition('starting', 'waiting for a lease')), [], 'each step has a line of its own');
  host.isStarting = false;
  health.setStarted(true);
  t.strictSame(look(), ['info ready']);
  t.strictSame(look(condition('firewall', 'nft fails'), condition('probes-off', 'no socket')), [
    'error nft fails',
    'warn no socket',
    'error not ready',
  ]);
  t.strictSame(look(condition('firewall', 'nft fails otherwise'), condition('probes-off', 'no socket')), []);
  t.strictSame(look(condition('probes-off', 'no socket')), [
    'info no longer: nft fails otherwise',
    'info ready',
  ]);
  t.end();
});

t.test('healthMetrics() has every code, and since when it holds', (t) => {
  const { health, look } = setUp();
  health.setStarted(true);
  look(condition('firewall', 'nft fails'), condition('lease-refused', 'two', 2));
  const families = new Map(healthMetrics(health.look()).map((family) => [family.name, family.values]));
  t.match(families.get('ready'), [{ value: 0 }]);
  t.match(families.get('degraded_reasons'), [{ value: 1 }]);
  const counts = families.get('conditions') ?? [];
  const valueOf = (code: string): number | undefined =>
    counts.find(({ labels }) => labels['code'] === code)?.value;
  t.equal(valueOf('firewall'), 1);
  t.equal(valueOf('lease-refused'), 2);
  t.equal(valueOf('saved-table'), 0);
  t.match(families.get('condition_since_seconds'), [
    { labels: { code: 'firewall', part: 'daemon' } },
    { labels: { code: 'lease-refused', part: 'daemon' } },
  ]);
  t.end();
});
