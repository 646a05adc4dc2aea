// RangeMirror against a server made of paper: streams whose every message the test writes, among them those that
// released etcd versions have sent wrongly (replayed, out of order, lost).

import { EventEmitter } from 'node:events';
import pino from 'pino';
import t from 'tap';
import type { IWatchRequest } from 'etcd3';
import type { SessionSource } from '../../../../src/store/etcd/connection.js';
import type { Session } from '../../../../src/store/etcd/session.js';
import type { KvEntry } from '../../../../src/store/etcd/etcd-kv.js';
import { type EtcdFault } from '../../../../src/store/etcd/faults.js';
import type { MirrorEvent } from '../../../../src/store/etcd/mirror-diff.js';
import { ProgressSupport } from '../../../../src/store/etcd/progress-support.js';
import { RangeMirror } from '../../../../src/store/etcd/range-mirror.js';
import type { WatchAnswer, WatchEvent } from '../../../../src/store/etcd/watch-codec.js';
import { EMPTY_ANSWER, FakeKv } from '../../../support/etcd-fakes.js';
import { FakeClock, settle } from '../../../support/fake-clock.js';
import { randomOf } from '../../../support/random.js';

class PaperStream extends EventEmitter {
  readonly written: IWatchRequest[] = [];
  isCancelled = false;

  write(request: IWatchRequest): void {
    this.written.push(request);
  }

  end(): void {
    this.emit('end');
  }

  cancel(): void {
    this.isCancelled = true;
  }

  get startRevision(): string {
    return String(this.written[0]?.create_request?.start_revision);
  }

  get progressRequests(): number {
    return this.written.filter((request) => request.progress_request !== undefined).length;
  }

  /** `row` is "put key value mod [create]" or "del key mod". */
  send(headerRevision: number, rows: string[], more: Partial<WatchAnswer> = {}): void {
    this.emit('data', {
      ...EMPTY_ANSWER,
      position: { revision: BigInt(headerRevision), clusterId: '1' },
      events: rows.map(eventOf),
      ...more,
    } satisfies WatchAnswer);
  }
}

function eventOf(row: string): WatchEvent {
  const [verb, key, ...rest] = row.split(' ');
  const isPut = verb === 'put';
  const value = isPut ? rest[0] : '';
  const createRevision = BigInt(isPut ? (rest[2] ?? 1) : 0);
  const modRevision = BigInt(isPut ? rest[1] : rest[0]);
  return {
    isPut,
    entry: { key, value, valueBytes: value.length, createRevision, modRevision, leaseId: 0n },
  };
}

interface Bench {
  readonly kv: FakeKv;
  readonly clock: FakeClock;
  readonly mirror: RangeMirror;
  readonly seen: string[];
  readonly faults: EtcdFault[];
  /** What the endpoint's support of progress requests has logged. */
  readonly notes: string[];
  readonly server: { isReadable: boolean };
  readonly streams: PaperStream[];
  readonly stream: () => PaperStream;
  readonly nextStream: () => Promise<PaperStream>;
}

async function open(): Promise<Bench> {
  const kv = new FakeKv();
  const clock = new FakeClock();
  const streams: PaperStream[] = [];
  const faults: EtcdFault[] = [];
  const seen: string[] = [];
  const notes: string[] = [];
  const server = { isReadable: false };
  const log = pino({}, { write: (line: string) => notes.push((JSON.parse(line) as { msg: string }).msg) });
  const session = {
    progress: new ProgressSupport('http://paper:1', log),
    read: () => (server.isReadable ? Promise.resolve() : Promise.reject(new Error('no'))),
    endpoint: { url: 'http://paper:1', target: 'paper:1', isTls: false },
    closed: new AbortController().signal,
    openWatch: () => {
      const stream = new PaperStream();
      streams.push(stream);
      return Promise.resolve(stream);
    },
  } as unknown as Session;
  const connection: SessionSource = {
    session: () => Promise.resolve(session),
    report: (_session, fault) => faults.push(fault),
  };
  const show = (row: KvEntry): string => `${row.key}=${row.value}@${row.modRevision}`;
  kv.put('/p/a', '1');
  const mirror = new RangeMirror({
    connection,
    kv,
    clock,
    range: { start: '/p', end: '/q' },
    log: pino({ level: 'silent' }),
    random: () => 0,
    progressMs: 1000,
    resyncMs: 100_000,
    listener: {
      onSnapshot: (entries) => seen.push(`snapshot ${[...entries.values()].map(show).join(' ')}`),
      onEvents: (events: readonly MirrorEvent[]) => {
        seen.push(
          ...events.map((event) =>
            event.kind === 'put' ? `put ${show(event.entry)}` : `${event.kind} ${event.key}`,
          ),
        );
      },
    },
  });
  let served = 0;
  const isWatching = (index: number): boolean => (streams[index]?.written.length ?? 0) > 0;
  await settle();
  const bench: Bench = {
    kv,
    clock,
    mirror,
    seen,
    faults,
    notes,
    server,
    streams,
    stream: () => streams.at(-1)!,
    nextStream: async () => {
      const index = ++served;
      for (let i = 0; i < 200 && !isWatching(index); i++) await clock.advance(50);
      return streams[index];
    },
  };
  t.equal(bench.stream().startRevision, '3', 'from list revision + 1');
  bench.stream().send(2, [], { isCreated: true });
  return bench;
}

t.test('RangeMirror resumes after the last delivered event, whatever the headers say', async (t) => {
  const { mirror, seen, stream, nextStream } = await open();
  stream().send(500, ['put /p/b 1 3', 'put /p/c 1 4']);
  stream().send(900, []); // progress
  stream().emit('error', Object.assign(new Error('14 UNAVAILABLE: Connection dropped'), { code: 14 }));
  const second = await nextStream();
  t.equal(second.startRevision, '5');
  second.send(900, [], { isCreated: true });
  second.emit('end');
  t.equal((await nextStream()).startRevision, '5', '"created" does not move it');
  t.strictSame(seen, ['snapshot /p/a=1@2', 'put /p/b=1@3', 'put /p/c=1@4']);
  await mirror.close();
});

t.test('RangeMirror delivers a fragmented response when it is complete, or not at all', async (t) => {
  const { mirror, seen, stream, nextStream } = await open();
  stream().send(3, ['put /p/b 1 3'], { isFragment: true });
  t.equal(seen.length, 1);
  stream().send(3, ['put /p/c 1 3']);
  t.equal(seen.length, 3);
  stream().send(4, ['put /p/d 1 4'], { isFragment: true });
  stream().end();
  t.equal((await nextStream()).startRevision, '4');
  t.equal(seen.length, 3);
  await mirror.close();
});

t.test('RangeMirror drops replayed and older events', async (t) => {
  const { mirror, seen, stream } = await open();
  stream().send(5, ['put /p/b 1 3', 'put /p/b 2 5']);
  stream().send(5, ['put /p/b 1 3', 'put /p/b 2 5']);
  stream().send(6, ['del /p/b 6']);
  stream().send(6, ['put /p/b 2 5', 'del /p/b 6']);
  stream().send(8, ['put /p/c 8 8', 'put /p/c 7 7']);
  t.strictSame(seen.slice(1), ['put /p/b=1@3', 'put /p/b=2@5', 'delete /p/b', 'put /p/c=8@8']);
  t.equal(mirror.counters.eventsReplayed, 5);
  await mirror.close();
});

t.test('RangeMirror takes 1,000 events in one response', async (t) => {
  const { mirror, seen, stream } = await open();
  stream().send(
    1002,
    Array.from({ length: 1000 }, (_, i) => `put /p/k${i} v ${3 + i}`),
  );
  t.equal(seen.length, 1001);
  t.equal(mirror.revision, 1002n);
  await mirror.close();
});

t.test('RangeMirror lists and tells the difference after a compaction', async (t) => {
  const { kv, mirror, seen, stream, nextStream } = await open();
  for (let i = 0; i < 5; i++) kv.put('/p/b', String(i));
  kv.delete('/p/a');
  stream().send(8, [], { isCanceled: true, compactRevision: 7n });
  t.equal((await nextStream()).startRevision, '9');
  t.strictSame(seen.slice(1), ['delete /p/a', 'put /p/b=4@7']);
  t.equal(mirror.counters.compactions, 1);
  await mirror.close();
});

t.test(
  'RangeMirror lists when another cluster answers, and keeps what vanished apart from what was deleted',
  async (t) => {
    const { kv, mirror, seen, stream, nextStream } = await open();
    kv.entries.clear();
    kv.revision = 1n;
    stream().send(1, [], { isCreated: true });
    await nextStream();
    t.strictSame(seen.slice(1), ['vanished /p/a']);
    t.equal(mirror.counters.historyRewritten, 1);
    await mirror.close();
  },
);

t.test('RangeMirror asks a silent server for progress and gives it up when it stays silent', async (t) => {
  const { clock, mirror, faults, stream, streams } = await open();
  const first = stream();
  await clock.advance(1100);
  t.equal(first.progressRequests, 1);
  first.send(2, []);
  await clock.advance(1100);
  t.equal(first.progressRequests, 2);
  t.equal(streams.length, 1, 'an answer is enough');
  await clock.advance(1100);
  t.ok(first.isCancelled);
  t.match(faults, [{ kind: 'timeout', message: /no sign of life/ }]);
  t.notOk(mirror.isLive);
  await mirror.close();
});

t.test('RangeMirror believes a watch without progress answers while reads are answered', async (t) => {
  const { kv, clock, mirror, faults, notes, server, streams, stream, seen } = await open();
  server.isReadable = true;
  await clock.advance(10_000);
  t.strictSame(faults, []);
  t.equal(streams.length, 1);
  t.equal(stream().progressRequests, 1, 'asked once and never again');
  t.match(notes, [/paper:1 does not answer progress requests.*every minute/]);
  kv.put('/p/lost', '1'); // and the watch does not tell
  await clock.advance(70_000);
  t.strictSame(
    seen.slice(1),
    ['put /p/lost=1@3'],
    'found by the list of the minute, not by that of resyncMs',
  );
  t.equal(stream().progressRequests, 1);
  server.isReadable = false;
  await clock.advance(3000);
  t.match(faults, [{ kind: 'timeout', message: /no sign of life/ }]);
  t.equal(notes.length, 1);
  await mirror.close();
});

t.test('RangeMirror asks for progress where it was answered once, whatever reads say', async (t) => {
  const { clock, mirror, faults, notes, server, stream } = await open();
  server.isReadable = true;
  await clock.advance(1050);
  stream().send(2, []);
  await clock.advance(2100);
  t.match(faults, [{ kind: 'timeout' }], 'a dead watch on a living connection');
  t.strictSame(notes, []);
  await mirror.close();
});

t.test('RangeMirror does without progress where streams end over it', async (t) => {
  const { clock, mirror, notes, server, stream, nextStream } = await open();
  server.isReadable = true;
  for (const end of ['end', 'cancel'] as const) {
    await clock.advance(1050);
    t.equal(stream().progressRequests, 1);
    if (end === 'end') stream().end();
    else stream().send(2, [], { isCanceled: true, cancelReason: 'unknown request' });
    (await nextStream()).send(2, [], { isCreated: true });
  }
  t.match(notes, [/ends the watch over progress requests/]);
  await clock.advance(10_000);
  t.equal(stream().progressRequests, 0);
  await mirror.close();
});

t.test('RangeMirror takes no position from the header that a proxy makes up', async (t) => {
  const { mirror, stream, streams, nextStream, seen } = await open();
  stream().emit('end');
  const position = { revision: 0n, clusterId: '0' };
  (await nextStream()).send(0, [], { isCreated: true, position });
  stream().send(3, ['put /p/b 1 3']);
  t.equal(streams.length, 2);
  t.strictSame(seen.slice(1), ['put /p/b=1@3']);
  await mirror.close();
});

t.test('RangeMirror reports a refused watch with its reason', async (t) => {
  const { mirror, faults, stream } = await open();
  stream().send(2, [], { isCanceled: true, cancelReason: 'etcdserver: invalid auth token' });
  await settle();
  t.match(faults, [{ kind: 'token', message: /invalid auth token/ }]);
  t.match(mirror.fault, /invalid auth token/);
  await mirror.close();
});

t.test('RangeMirror leaves nothing behind a comparison that waits for the watch', async (t) => {
  const { kv, clock, mirror, stream } = await open();
  const warnings: string[] = [];
  const onWarning = ({ name }: Error): void => void warnings.push(name);
  process.on('warning', onWarning);
  t.teardown(() => process.off('warning', onWarning));
  for (let i = 0; i < 15 * 120; i++) {
    kv.revision++; // somebody writes elsewhere
    await clock.advance(900);
    stream().send(Number(kv.revision), []);
  }
  await settle();
  t.ok(kv.calls.filter((call) => call === 'list').length > 12);
  t.strictSame(warnings, [], 'no MaxListenersExceededWarning');
  await mirror.close();
  t.equal(clock.pending, 0);
});

t.test('RangeMirror compares with a list every resyncMs and repairs what the watch lost', async (t) => {
  const { kv, clock, mirror, seen, stream } = await open();
  const live = stream();
  const keepAlive = (): void => live.send(Number(kv.revision), []);
  kv.put('/p/lost', '1');
  kv.put('/p/known', '1');
  live.send(4, ['put /p/known 1 4 4']);
  kv.delete('/p/a');
  for (let i = 0; i < 120; i++) {
    await clock.advance(900);
    keepAlive();
  }
  t.strictSame(seen.slice(1), ['put /p/known=1@4', 'vanished /p/a', 'put /p/lost=1@3']);
  t.equal(mirror.counters.resyncRepairs, 2);
  live.send(5, ['del /p/a 5']);
  t.equal(seen.length, 5, 'the late event is told, too');
  await mirror.close();
  t.equal(clock.pending, 0);
});

// What released versions of etcd did wrong, in any order: events lost, replayed, out of order, in fragments, streams
// that end in the middle, compactions (etcd issues 15271, 17529, 18089, 19179, 20221).
t.test(
  'E16 RangeMirror is the range after the next comparison, and no older event undoes a newer',
  async (t) => {
    for (let seed = 1; seed <= 12; seed++) {
      const random = randomOf(seed);
      const below = (count: number): number => Math.floor(random() * count);
      const { kv, clock, mirror, seen, stream, nextStream } = await open();
      let current = stream();
      let history: { readonly revision: number; readonly row: string }[] = [];
      let sent = 2;
      for (let step = 0; step < 120; step++) {
        for (let i = below(6); i > 0; i--) {
          const key = `/p/k${below(8)}`;
          if (random() < 0.3 && kv.entries.has(key)) {
            kv.delete(key);
            history.push({ revision: Number(kv.revision), row: `del ${key} ${kv.revision}` });
          } else {
            const { value, modRevision, createRevision } = kv.put(key, `v${step}`);
            const row = `put ${key} ${value} ${modRevision} ${createRevision}`;
            history.push({ revision: Number(kv.revision), row });
          }
        }
        const revision = Number(kv.revision);
        let rows = history.filter((event) => event.revision > sent).map(({ row }) => row);
        if (random() < 0.15) rows = rows.filter(() => random() < 0.7);
        if (random() < 0.2) rows = [...history.slice(-below(10) - 1).map(({ row }) => row), ...rows];
        if (random() < 0.1) rows.reverse();
        if (random() < 0.2) {
          const half = below(rows.length + 1);
          current.send(revision, rows.slice(0, half), { isFragment: true });
          rows = rows.slice(half);
        }
        const luck = random();
        if (luck < 0.9) {
          current.send(revision, rows);
          sent = revision;
        } else {
          if (luck < 0.95) current.end();
          else current.send(revision, [], { isCanceled: true, compactRevision: BigInt(revision) });
          current = await nextStream();
          sent = Number(current.startRevision) - 1;
          current.send(revision, [], { isCreated: true });
        }
        history = history.slice(-200);
      }
      for (let i = 0; i < 120; i++) {
        await clock.advance(900);
        current.send(Number(kv.revision), []);
      }
      const show = (entries: Iterable<KvEntry>): string[] =>
        [...entries].map(({ key, value, modRevision }) => `${key}=${value}@${modRevision}`).sort();
      const told = new Map<string, number>();
      const table = new Map<string, string>([['/p/a', '1@2']]);
      let older = 0;
      for (const line of seen.slice(1)) {
        const [verb, what] = line.split(' ');
        const [key, value] = what.split('=');
        if (verb !== 'put') {
          table.delete(key);
          continue;
        }
        const modRevision = Number(value.split('@')[1]);
        if (modRevision < (told.get(key) ?? 0)) older++;
        told.set(key, modRevision);
        table.set(key, value);
      }
      t.equal(older, 0, `seed ${seed}: no older value after a newer`);
      const listened = [...table].map(([key, value]) => `${key}=${value}`).sort();
      t.same(listened, show(kv.entries.values()), `seed ${seed}: the listener was told all of it`);
      await mirror.close();
    }
  },
);
