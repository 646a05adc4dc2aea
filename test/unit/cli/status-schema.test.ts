// The shipped schema says what /status and the commands say. lab/reach.test.ts holds real daemons in every mode
// against it.

import { readFileSync } from 'node:fs';
import t from 'tap';
import { CONDITIONS } from '../../../src/core/conditions.js';
import { PEER_REFUSALS, REACH_STATES } from '../../../src/ops/status.js';
import { printedStatus, type Schema, violations } from '../../support/json-schema.js';

const schema = JSON.parse(
  readFileSync(new URL('../../../docs/status.schema.json', import.meta.url), 'utf8'),
) as Schema;
const { condition, peer, reachability, store, backend } = schema.$defs!;

const ETCD = {
  kind: 'etcd',
  endpoints: ['http://127.0.0.1:2379'],
  connectedTo: null,
  sessionsOpened: 0,
  prefix: '/coreos.com/network',
  ownLease: null,
  revision: '0',
  watchEstablished: false,
  leases: 1,
  badKeys: 0,
  badKeyList: [],
};

const NAMES = {
  ...{ subnet: '10.5.2.0/24', subnets: { v4: '10.5.2.0/24' } },
  ...{ publicIp: '172.20.0.2', publicIps: { v4: '172.20.0.2' } },
};

const DOCUMENT = {
  statusVersion: 1,
  version: '0.1.0',
  uptimeSeconds: 1,
  ready: false,
  degraded: [],
  conditions: [],
  subnetFile: '/run/flannel/subnet.env',
  store: ETCD,
  backend: {},
  peers: [],
  refusedLeases: [],
  alarms: [],
};

t.test('its words are those of the source', (t) => {
  t.same(reachability.properties!['state'].enum, REACH_STATES);
  t.same(peer.properties!['reachability'].$ref, '#/$defs/reachability');
  t.same(condition.properties!['code'].enum, Object.keys(CONDITIONS));
  for (const { severity, scope } of Object.values(CONDITIONS)) {
    t.ok(condition.properties!['severity'].enum!.includes(severity));
    t.ok(condition.properties!['scope'].enum!.includes(scope));
  }
  const refused = peer.anyOf!.find(({ properties }) => properties!['state'].const === 'refused')!;
  t.same(refused.properties!['code'].enum, Object.keys(PEER_REFUSALS));
  t.end();
});

t.test('the checker finds what is missing, of another type, or another word', (t) => {
  const value = { ...NAMES, publicIp: 7, state: 'programmed', reachability: { state: 'dead' } };
  t.same(violations(value, peer, schema), [
    '$.publicIp is integer, not string',
    '$.reachability.state is dead',
  ]);
  t.same(violations([{}], { items: peer }, schema).length, 6);
  t.same(violations(ETCD, store, schema), []);
  t.end();
});

t.test('the checker holds a value against the member of a union that it claims to be', (t) => {
  const fine = { ...NAMES, reachability: { state: 'ok' } };
  const check = (value: unknown, against: Schema, expected: readonly string[]): void => {
    t.same(violations(value, against, schema), expected);
  };
  check({ ...fine, state: 'waiting' }, peer, []);
  check({ ...fine, state: 'failed', reason: 'EPERM' }, peer, []);
  check({ ...fine, state: 'failed' }, peer, ['$.reason is missing']);
  check({ ...fine, state: 'refused', code: 'ugly', reason: 'it is' }, peer, ['$.code is ugly']);
  check({ ...fine, state: 'asleep' }, peer, ['$.state is asleep']);
  check(null, peer, ['$ is null, not object']);
  check({ ...ETCD, connectedTo: 7 }, store, ['$.connectedTo is integer, not null or string']);
  check({ kind: 'static', leases: 1 }, store, ['$.file is missing']);
  check({}, backend, []);
  check({ type: 'host-gw' }, backend, ['$.interface is missing']);
  t.not(violations({ type: 'pigeon' }, backend, schema).length, 0);
  t.end();
});

t.test('the document, and what `twill status --json` makes of it', (t) => {
  const { peers, ...rest } = DOCUMENT;
  const printed = { ...rest, peerCount: peers.length };
  t.same(violations(DOCUMENT, schema, schema), []);
  t.same(violations(printed, schema, schema), ['$.peers is missing']);
  t.same(violations(printed, printedStatus(schema), schema), []);
  t.same(violations(DOCUMENT, printedStatus(schema), schema), [
    '$.peerCount is missing',
    '$.peers must not be there',
  ]);
  t.end();
});
