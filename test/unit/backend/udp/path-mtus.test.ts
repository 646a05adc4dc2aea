// What is known of narrow paths, and when it is forgotten.

import t from 'tap';
import { PATH_MTU_TTL_MS, PathMtus } from '../../../../src/backend/udp/path-mtus.js';
import { parseIpv4 } from '../../../../src/net/ipv4.js';

const PEER = parseIpv4('192.0.2.2')!;

t.test('PathMtus.note() tells what is new and lives for its time', (t) => {
  const paths = new PathMtus();
  t.equal(paths.of(PEER), undefined);
  t.ok(paths.note(PEER, 1400, 0));
  t.equal(paths.of(PEER), 1400);
  t.notOk(paths.note(PEER, 1400, 1000), 'the same again');
  t.strictSame(paths.expired(PATH_MTU_TTL_MS), [], 'the second time counts');
  t.strictSame(paths.expired(PATH_MTU_TTL_MS + 1000), [PEER]);
  t.ok(paths.note(PEER, 1300, 2000));
  t.ok(paths.forget(PEER));
  t.notOk(paths.forget(PEER));
  t.end();
});

t.test('PathMtus.clear() forgets all', (t) => {
  const paths = new PathMtus();
  paths.note(PEER, 1400, 0);
  paths.clear();
  t.equal(paths.of(PEER), undefined);
  t.strictSame(paths.expired(Infinity), []);
  t.end();
});
