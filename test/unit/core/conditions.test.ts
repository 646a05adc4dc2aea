import t from 'tap';
import { Conditions } from '../../../src/core/conditions.js';

t.test('a condition holds from hold() to release(), by its subject', (t) => {
  const conditions = new Conditions();
  t.same(conditions.list(), []);
  conditions.hold('firewall', 'first');
  conditions.hold('firewall', 'second');
  t.same(conditions.list(), [{ code: 'firewall', text: 'second', count: 1 }], 'the last word counts');
  t.equal(conditions.textOf('firewall'), 'second');
  conditions.set('firewall', undefined);
  t.same(conditions.list(), []);
  t.equal(conditions.textOf('firewall'), undefined);
  t.end();
});

t.test('subjects of one code are one condition with a count', (t) => {
  const conditions = new Conditions();
  for (let n = 1; n <= 7; n++) conditions.hold('peer-invalid', `peer ${n}`, `subject ${n}`);
  conditions.hold('firewall', 'rules');
  const [peers, firewall] = conditions.list();
  t.equal(peers.count, 7);
  t.equal(peers.text, 'peer 1; peer 2; peer 3; peer 4; peer 5; and 2 more');
  t.equal(firewall.text, 'rules');
  conditions.release(...Array.from({ length: 7 }, (_, n) => `subject ${n + 1}`));
  t.same(
    conditions.list().map(({ code }) => code),
    ['firewall'],
  );
  t.end();
});

t.test('a subject has one code at a time', (t) => {
  const conditions = new Conditions();
  conditions.hold('firewall', 'busy', 'forward rules');
  conditions.hold('no-permission', 'refused', 'forward rules');
  t.same(
    conditions.list().map(({ code }) => code),
    ['no-permission'],
  );
  t.end();
});
