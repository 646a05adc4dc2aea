// EtcdConnection over an etcd in memory: which endpoint, when again, and what is said of it.

import pino from 'pino';
import t from 'tap';
import { EtcdConnection } from '../../../../src/store/etcd/connection.js';
import { parseEndpoints } from '../../../../src/store/etcd/endpoints.js';
import { codesOf, textsOf } from '../../../support/conditions.js';
import { FakeClock, settle } from '../../../support/fake-clock.js';
import { FakeEtcd } from '../../../support/fake-etcd.js';

const A = 'http://a:2379';
const B = 'http://b:2379';
const NEVER = new AbortController().signal;

interface Bench {
  readonly etcd: FakeEtcd;
  readonly clock: FakeClock;
  readonly connection: EtcdConnection;
  /** Lines of the log. */
  readonly said: string[];
  /** One read; undefined when it has not ended within `ms`. */
  readonly read: (ms?: number) => Promise<'read' | Error | undefined>;
}

function open(endpoints = `${A},${B}`, auth?: { username: string; password: string }): Bench {
  const clock = new FakeClock();
  const etcd = new FakeEtcd(clock);
  const said: string[] = [];
  const log = pino({}, { write: (line: string) => said.push((JSON.parse(line) as { msg: string }).msg) });
  const connection = new EtcdConnection({
    endpoints: parseEndpoints(endpoints, false),
    tls: { keyFile: '', certFile: '', caFile: '' },
    auth,
    proxy: 'off',
    log,
    clock,
    random: () => 0,
    openClient: etcd.openClient,
  });
  const read = async (ms = 0): Promise<'read' | Error | undefined> => {
    let outcome: 'read' | Error | undefined;
    connection
      .call('Cannot read', NEVER, (client) => client.kv.range({ key: Buffer.from('k') }))
      .then(
        () => (outcome = 'read'),
        (error: Error) => (outcome = error),
      );
    await clock.advance(ms);
    return outcome;
  };
  return { etcd, clock, connection, said, read };
}

t.test('EtcdConnection makes one session for all callers, and keeps it', async (t) => {
  const { etcd, clock, connection, said, read } = open();
  t.strictSame(await Promise.all([read(), read(), read()]), ['read', 'read', 'read']);
  t.equal(etcd.clients, 1);
  t.strictSame(said, ['connected to etcd']);
  t.strictSame(connection.status(), { endpoints: [A, B], connectedTo: A, sessionsOpened: 1 });
  await clock.advance(100_000);
  t.equal(await read(), 'read');
  t.equal(connection.status().sessionsOpened, 1);
  t.strictSame(textsOf(connection), []);
  connection.close();
  connection.close();
  t.equal(etcd.clients, 0);
  t.equal(clock.pending, 0);
});

t.test(
  'EtcdConnection takes the next endpoint at once when one refuses, after 300 ms when it is silent',
  async (t) => {
    for (const [state, ms] of [
      ['refusing', 0],
      ['leaderless', 0],
      ['silent', 300],
    ] as const) {
      const { etcd, connection, read } = open();
      etcd.set(state, A);
      if (ms > 0) t.equal(await read(ms - 1), undefined, state);
      t.equal(await read(1), 'read', state);
      t.equal(connection.status().connectedTo, B, state);
      connection.close();
      await settle();
      t.equal(etcd.clients, 0, 'the one that was silent is closed, too');
    }
  },
);

t.test('EtcdConnection leaves an endpoint that breaks, waits a moment, and says it once', async (t) => {
  const { etcd, connection, said, read } = open();
  await read();
  etcd.set('refusing', A);
  t.match(await read(), {
    kind: 'unreachable',
    message: /^Cannot read at http:\/\/a:2379: connect ECONNREFUSED/,
  });
  t.equal(await read(24), undefined, 'no busy loop');
  t.equal(await read(1), 'read');
  t.equal(connection.status().connectedTo, B);
  t.match(said, ['connected to etcd', /^Cannot read at http:\/\/a:2379/, 'connected to etcd again']);
  etcd.set('up', A);
  etcd.set('refusing', B);
  await read();
  t.equal(await read(50), 'read');
  t.equal(connection.status().connectedTo, A, 'and back, when that breaks');
  connection.close();
});

t.test('EtcdConnection without any endpoint asks again and again, more and more seldom', async (t) => {
  const { etcd, clock, connection, said, read } = open();
  for (const url of [A, B]) etcd.set('refusing', url);
  t.equal(await read(60_000), undefined);
  const asked = etcd.calls.filter((call) => call === `status ${A}`).length;
  // 25, 50, 100 … 1000 ms, and 1 s from then on.
  t.ok(asked > 55 && asked < 70, `${asked} times in a minute`);
  t.equal(said.length, 1, 'said once');
  t.strictSame(codesOf(connection), ['store-unreachable']);
  t.match(
    textsOf(connection)[0],
    /^etcd unreachable: Cannot connect to etcd at http:\/\/[ab]:2379: connect ECONNREFUSED/,
  );
  etcd.set('up', B);
  await clock.advance(1000);
  t.equal(await read(), 'read');
  t.strictSame(textsOf(connection), []);
  connection.close();
});

t.test('EtcdConnection ends a call that is not answered, and the session with it', async (t) => {
  const { etcd, clock, connection, read } = open(A);
  await read();
  etcd.set('silent', A);
  t.equal(await read(5000), undefined);
  await clock.advance(500);
  t.strictSame(codesOf(connection), ['store-unreachable']);
  t.match(textsOf(connection)[0], /^etcd does not answer: .*no answer from etcd within 5000 ms/);
  etcd.set('up', A);
  t.equal(await read(10_000), 'read');
  connection.close();
});

t.test('EtcdConnection: a user for a server without authentication is no reason to stay away', async (t) => {
  const { etcd, connection, read } = open(A, { username: 'u', password: 'canary' });
  t.equal(await read(100), 'read');
  etcd.user = { username: 'u', password: 'canary' };
  t.match(await read(), { kind: 'auth' }, 'the session knows no user');
  t.equal(await read(100), 'read', 'the next one does');
  etcd.user = { username: 'u', password: 'other' };
  await read();
  t.equal(await read(5000), undefined);
  t.match(textsOf(connection)[0], /^etcd authentication failed/);
  t.notMatch(textsOf(connection)[0], 'canary');
  connection.close();
});

t.test('EtcdConnection learns of alarms and of a lost leader by asking now and then', async (t) => {
  const { etcd, clock, connection, read } = open(A);
  await read();
  etcd.alarms = ['NOSPACE'];
  t.strictSame(textsOf(connection), []);
  await clock.advance(30_000);
  t.strictSame(codesOf(connection), ['store-alarm']);
  etcd.alarms = [];
  await clock.advance(30_000);
  t.strictSame(codesOf(connection), []);
  etcd.set('leaderless', A);
  await clock.advance(30_000);
  t.match(textsOf(connection), [/^etcd has no leader/]);
  connection.close();
});

t.test('EtcdConnection.renew() leaves the session, close() whoever waits', async (t) => {
  const { etcd, clock, connection, said, read } = open(A);
  connection.renew();
  await read();
  connection.renew();
  t.equal(etcd.clients, 0);
  t.equal(await read(50), 'read');
  t.equal(connection.status().sessionsOpened, 2);
  t.strictSame(said, ['connected to etcd', 'public IP changed: connecting to etcd again'], 'no outage');
  etcd.set('refusing', A);
  await read();
  const waiting = connection.session(NEVER);
  const refused = t.rejects(waiting, { message: 'etcd connection closed' });
  await clock.advance(10);
  connection.close();
  await refused;
  await t.rejects(connection.session(NEVER), { message: 'etcd connection closed' });
  t.equal(clock.pending, 0);
});
