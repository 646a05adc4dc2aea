// The reader of watch answers against etcd3's own, which knows the whole of the protocol, and against bytes that are no
// answer at all.

import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import t, { type Test } from 'tap';
import type { IWatchResponse } from 'etcd3';
import { MAX_VALUE_BYTES } from '../../../../src/lease/lease-codec.js';
import { entryOf, positionOf } from '../../../../src/store/etcd/etcd-kv.js';
import { decodeWatchAnswer, type WatchAnswer } from '../../../../src/store/etcd/watch-codec.js';
import { randomOf } from '../../../support/random.js';

/** What proto-loader makes of a service, as far as it is used here. */
interface Method {
  responseSerialize(response: unknown): Buffer;
  responseDeserialize(bytes: Buffer): IWatchResponse;
}
interface Loader {
  loadSync(file: string, options: object): Record<string, Record<string, Method>>;
}

const etcd3 = createRequire(import.meta.resolve('etcd3'));
const loader = etcd3('@grpc/proto-loader') as Loader;
const PROTO = join(dirname(etcd3.resolve('etcd3/package.json')), 'proto', 'rpc.proto');
const WATCH = loader.loadSync(PROTO, { keepCase: true, longs: String, enums: String, defaults: true })[
  'etcdserverpb.Watch'
]['Watch'];

/** The answer as etcd3 reads it, in our words. */
function readByEtcd3(bytes: Buffer): WatchAnswer {
  const answer = WATCH.responseDeserialize(bytes);
  return {
    position: positionOf(answer.header),
    isCreated: answer.created,
    isCanceled: answer.canceled,
    isFragment: answer.fragment,
    compactRevision: BigInt(answer.compact_revision),
    cancelReason: answer.cancel_reason,
    events: answer.events.map(({ type, kv }) => ({ isPut: type === 'Put', entry: entryOf(kv) })),
  };
}

const HEADER = { cluster_id: '17237436991929493444', member_id: '9', revision: '12', raft_term: '3' };
const KV = {
  key: Buffer.from('/n/subnets/10.5.1.0-24'),
  create_revision: '3',
  mod_revision: '12',
  version: '2',
};

/** Both read `answer` alike; its bytes. */
function check(t: Test, what: string, answer: object): Buffer {
  const bytes = WATCH.responseSerialize({ header: HEADER, ...answer });
  t.strictSame(decodeWatchAnswer(bytes), readByEtcd3(bytes), what);
  return bytes;
}

t.test('decodeWatchAnswer() reads what etcd3 reads', (t) => {
  check(t, 'nothing but a header', {});
  check(t, 'created', { created: true, watch_id: '77' });
  check(t, 'compacted', { canceled: true, compact_revision: '9007199254740993' });
  check(t, 'canceled for a reason', { canceled: true, cancel_reason: 'etcdserver: pas d’accès' });
  check(t, 'events', {
    fragment: true,
    events: [
      { kv: { ...KV, value: Buffer.from('{"PublicIP":"1.2.3.4"}'), lease: '7587869174837093892' } },
      { type: 'Delete', kv: { key: KV.key, mod_revision: '13' } },
      { kv: { ...KV, create_revision: '12', value: Buffer.from('ü') }, prev_kv: KV },
    ],
  });
  check(t, 'a key that is no text', { events: [{ kv: { ...KV, key: Buffer.from([0, 128, 255, 10]) } }] });
  for (const size of [0, 127, 128, MAX_VALUE_BYTES, MAX_VALUE_BYTES + 1])
    check(t, `a value of ${size} bytes`, { events: [{ kv: { ...KV, value: Buffer.alloc(size, 'x') } }] });
  t.end();
});

t.test('decodeWatchAnswer() reads every 64-bit number', (t) => {
  for (let bit = 0; bit < 63; bit++) {
    for (const number of [2n ** BigInt(bit), 2n ** BigInt(bit + 1) - 1n].map(String)) {
      const kv = { ...KV, create_revision: number, mod_revision: number, lease: number };
      check(t, number, { header: { ...HEADER, revision: number, cluster_id: number }, events: [{ kv }] });
    }
  }
  t.end();
});

t.test('decodeWatchAnswer() skips what it does not know', (t) => {
  const known = check(t, 'known', { events: [{ kv: KV }] });
  // Fields 1000 to 1003, one of each wire type.
  const strange = Buffer.from('c03ed209' + 'c93e0102030405060708' + 'd23e03616263' + 'dd3e01020304', 'hex');
  t.strictSame(decodeWatchAnswer(Buffer.concat([strange, known, strange])), decodeWatchAnswer(known));
  t.end();
});

t.test('decodeWatchAnswer() refuses what is no answer', (t) => {
  for (const [hex, problem] of [
    ['5a05', /ends early/],
    ['5affffffffffffffffff01', /ends early/],
    ['18', /ends early/],
    ['18ffffffffffffffffffff01', /more than ten bytes/],
    ['58', /wire type 0/],
    ['5801', /wire type 0: expected 2/],
    ['1a00', /wire type 2: expected 0/],
    ['0b', /wire type 3/],
    ['00', /number 0/],
  ] as const)
    t.throws(() => decodeWatchAnswer(Buffer.from(hex, 'hex')), problem, hex);
  t.end();
});

t.test('decodeWatchAnswer() reads or refuses any bytes, and nothing behind them', (t) => {
  const random = randomOf(1);
  const whole = check(t, 'whole', { events: [{ kv: { ...KV, value: Buffer.from('{}'), lease: '5' } }] });
  const tryOne = (bytes: Buffer): void => {
    // A view into more: what lies behind it must not be read.
    const around = Buffer.concat([Buffer.alloc(16, 0xff), bytes, Buffer.alloc(16, 0xff)]);
    let read: WatchAnswer | undefined;
    try {
      read = decodeWatchAnswer(around.subarray(16, 16 + bytes.length));
    } catch (error) {
      if (!(error instanceof Error)) throw error;
    }
    if (read !== undefined) t.strictSame(decodeWatchAnswer(Buffer.from(bytes)), read);
  };
  for (let length = 0; length < whole.length; length++) tryOne(whole.subarray(0, length));
  for (let i = 0; i < 20_000; i++) {
    const bytes = Buffer.from(whole);
    for (let changes = 1 + random() * 3; changes > 0; changes--)
      bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256);
    tryOne(bytes);
  }
  t.end();
});
