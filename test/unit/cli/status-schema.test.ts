// The shipped schema says what the commands print. lab/reach.test.ts holds real daemons in every mode against it.

import { readFileSync } from 'node:fs';
import t from 'tap';
import { CONDITIONS } from '../../../src/core/conditions.js';
import { REACH_STATES } from '../../../src/ops/status.js';
import { type Schema, violations } from '../../support/json-schema.js';

const schema = JSON.parse(
  readFileSync(new URL('../../../docs/status.schema.json', import.meta.url), 'utf8'),
) as Schema;
const { condition, peer } = schema.$defs!;

t.test('its words are those of the source', (t) => {
  t.same(peer.properties!['reachability'].properties!['state'].enum, REACH_STATES);
  for (const { severity, scope } of Object.values(CONDITIONS)) {
    t.ok(condition.properties!['severity'].enum!.includes(severity));
    t.ok(condition.properties!['scope'].enum!.includes(scope));
  }
  t.end();
});

t.test('the checker finds what is missing, of another type, or another word', (t) => {
  const value = { subnet: '10.5.2.0/24', publicIp: 7, reachability: { state: 'dead' } };
  t.same(violations(value, peer, schema), [
    '$.publicIp is integer, not string',
    '$.reachability.state is dead',
  ]);
  t.same(violations([{}], { items: peer }, schema).length, 3);
  t.same(violations({ kind: 'etcd', leases: 1, connectedTo: null }, schema.properties!['store'], schema), []);
  t.end();
});
