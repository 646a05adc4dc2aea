import t from 'tap';
import { type Condition, type ConditionCode, condition, CONDITIONS } from '../../../src/core/conditions.js';
import { conditionOfMany, isPermission, makesUnready } from '../../../src/core/conditions.js';
import { countConditions, Health, type HealthChange } from '../../../src/ops/health.js';

void t.test('Health.look() asks every part, and says what holds since when', (t) => {
  let nowMs = 1_000;
  const health = new Health(() => nowMs);
  const changes: HealthChange[] = [];
  health.onChange = (change) => changes.push(change);
  let found: Condition[] = [];
  health.addSource('leases', () => [condition('lease-refused', 'one')]);
  health.addSource('store', () => found);
  t.equal(health.look().state, 'starting');
  t.equal(health.look().isReady, false);
  health.setStarted(true);
  t.equal(health.look().state, 'ready', "another host's fault is no reason to be not ready");

  nowMs = 2_000;
  found = [condition('store-unreachable', 'etcd is away')];
  const { state, isReady, conditions } = health.look();
  t.equal(state, 'degraded');
  t.equal(isReady, false);
  t.match(conditions, [
    { code: 'store-unreachable', severity: 'error', scope: 'node', part: 'store', sinceMs: 2_000 },
    { code: 'lease-refused', severity: 'warning', scope: 'peer', part: 'leases', sinceMs: 1_000 },
  ]);
  nowMs = 9_000;
  found = [condition('store-unreachable', 'etcd is still away')];
  t.match(health.look().conditions[0], { text: 'etcd is still away', sinceMs: 2_000 });
  found = [];
  t.equal(health.look().isReady, true);
  nowMs = 10_000;
  found = [condition('store-unreachable', 'etcd is away')];
  t.equal(health.look().conditions[0].sinceMs, 10_000, 'a gap ends it');

  t.match(
    changes.map(({ raised, cleared, wasSinceMs }) => [
      raised.map(({ code }) => code),
      cleared.map(({ code }) => code),
      wasSinceMs,
    ]),
    [
      [['lease-refused'], [], undefined],
      [[], [], 1_000],
      [['store-unreachable'], [], 1_000],
      [[], ['store-unreachable'], 2_000],
      [['store-unreachable'], [], 9_000],
    ],
    'each change once',
  );
  t.end();
});

void t.test('only an error of this node makes it unready, in whatever company', (t) => {
  const codes = ['store-unreachable', 'table-not-saved', 'peer-other-type', 'config-changed'] as const;
  for (let set = 0; set < 2 ** codes.length; set++) {
    const health = new Health();
    health.addSource('all', () => codes.filter((_, i) => set & (1 << i)).map((code) => condition(code, 'x')));
    health.setStarted(true);
    t.equal(health.look().isReady, (set & 1) === 0, String(set));
  }
  for (const [code, { severity, scope, meaning, action }] of Object.entries(CONDITIONS)) {
    t.equal(makesUnready({ code: code as ConditionCode }), severity === 'error' && scope === 'node', code);
    t.ok(meaning !== '' && action !== '', `${code} says what it means and what to do`);
  }
  t.end();
});

void t.test('a part that fails to answer is a condition, not an error of who looks', (t) => {
  const health = new Health();
  health.addSource('backend', () => {
    throw new Error('bug');
  });
  health.setStarted(true);
  t.match(health.look(), { isReady: false, conditions: [{ code: 'health-failed', text: 'bug' }] });
  t.end();
});

void t.test('conditions of many peers are one, with five named and all counted', (t) => {
  const health = new Health();
  health.addSource('backend', () => [
    conditionOfMany(
      'peer-other-type',
      Array.from({ length: 12 }, (_, i) => `p${i}`),
    ),
  ]);
  const report = health.look();
  t.equal(report.conditions[0].text, 'p0; p1; p2; p3; p4; and 7 more');
  const counts = countConditions(report);
  t.equal(counts.get('peer-other-type'), 12);
  t.equal(counts.get('firewall'), 0, 'what does not hold is 0');
  t.equal(counts.size, Object.keys(CONDITIONS).length);
  t.end();
});

void t.test('isPermission knows the words of the kernel, ip, iptables and Node', (t) => {
  for (const text of [
    'RTNETLINK answers: Operation not permitted',
    'iptables v1.8.9: Permission denied (you must be root)',
    'EACCES: permission denied',
  ])
    t.ok(isPermission(new Error(text)), text);
  t.notOk(isPermission('RTNETLINK answers: File exists'));
  t.end();
});
