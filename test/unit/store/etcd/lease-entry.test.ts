import t from 'tap';
import type { KvEntry } from '../../../../src/store/etcd/etcd-kv.js';
import { keyLayout } from '../../../../src/store/etcd/keys.js';
import { leaseKeyId, trimEntry } from '../../../../src/store/etcd/lease-entry.js';

const LAYOUT = keyLayout('/p');
const IP = '"PublicIP":"172.20.0.1"';

function entry(name: string, value: string | undefined, valueBytes = value?.length ?? 0): KvEntry {
  const revisions = { createRevision: 1n, modRevision: 2n, leaseId: 3n };
  return { key: `/p/subnets/${name}`, value, valueBytes, ...revisions };
}

t.test('trimEntry() leaves a lease as it is', (t) => {
  const lease = entry('10.5.1.0-24', `{${IP}}`);
  t.equal(trimEntry(LAYOUT, lease), lease);
  t.equal(leaseKeyId(LAYOUT, lease.key), '10.5.1.0-24');
  t.end();
});

t.test('trimEntry() keeps of a long value what it means, or what is wrong with it', (t) => {
  const pad = 'x'.repeat(10_000);
  const check = (value: string, kept: Partial<KvEntry>): void => {
    const trimmed = trimEntry(LAYOUT, entry('10.5.1.0-24', value));
    t.match(trimmed, { key: '/p/subnets/10.5.1.0-24', modRevision: 2n, valueBytes: value.length, ...kept });
    t.ok(JSON.stringify([trimmed.value, trimmed.problem]).length < 300);
  };
  check(`{${IP},"X":"${pad}"}`, { value: `{${IP},"PublicIPv6":null}` });
  check(`{${' '.repeat(2000)}${IP},"BackendData":{"VNI":1}}`, {
    value: `{${IP},"PublicIPv6":null,"BackendData":{"VNI":1}}`,
  });
  check(`{${IP},"BackendData":{"a":"${pad}"}}`, {
    value: undefined,
    problem: 'BackendData of 10008 bytes (at most 1024)',
  });
  check(pad, { value: undefined });
  t.match(trimEntry(LAYOUT, entry('10.5.1.0-24', undefined, 20_000)).problem, /^value of 20000 bytes/);
  t.end();
});

t.test('trimEntry() and leaseKeyId() know a name that is no lease by a hash', (t) => {
  for (const name of [
    'bad',
    '10.5.1.0-024',
    'a/10.5.1.0-24',
    `${'n'.repeat(100_000)}`,
    '10.5.1.1-24',
    '\u00ff',
  ]) {
    const given = entry(name, '{}');
    const { key, value, problem, shownKey } = trimEntry(LAYOUT, given);
    t.equal(key, leaseKeyId(LAYOUT, given.key));
    t.ok(key.length < 20);
    t.equal(value, undefined);
    t.ok(problem !== undefined && problem.length < 100, problem ?? 'none');
    t.match(shownKey, /^\/p\/subnets/);
    t.ok(shownKey!.length < 160);
  }
  t.not(leaseKeyId(LAYOUT, '/p/subnets/a'), leaseKeyId(LAYOUT, '/p/subnets/b'));
  t.end();
});
