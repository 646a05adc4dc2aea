import t from 'tap';
import { Health } from '../../../src/ops/health.js';

void t.test('Health.reasons() asks every part at each call and names it', (t) => {
  const health = new Health();
  t.equal(health.isReady, false);
  let isAway = false;
  health.addSource('store', () => (isAway ? ['no answer', 'old table'] : []));
  health.addSource('firewall', () => ['rules missing']);
  t.strictSame(health.reasons(), ['firewall: rules missing']);
  isAway = true;
  t.strictSame(health.reasons(), ['store: no answer', 'store: old table', 'firewall: rules missing']);
  health.setReady(true);
  t.equal(health.isReady, true);
  health.setReady(false);
  t.equal(health.isReady, false);
  t.end();
});
