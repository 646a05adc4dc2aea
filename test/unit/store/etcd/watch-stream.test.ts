// One watch on one stream: how it lets go of it.

import { Duplex } from 'node:stream';
import pino from 'pino';
import t from 'tap';
import type { WatchDuplex } from '../../../../src/store/etcd/client.js';
import { ProgressSupport } from '../../../../src/store/etcd/progress-support.js';
import type { Session } from '../../../../src/store/etcd/session.js';
import { startWatch, type WatchRequest } from '../../../../src/store/etcd/watch-stream.js';
import { FakeClock } from '../../../support/fake-clock.js';

const URL = 'http://127.0.0.1:2379';

/** A stream that notes when it is cancelled. */
class NotingStream extends Duplex {
  isCancelled = false;

  constructor() {
    super({ objectMode: true, read: () => undefined, write: (_chunk, _encoding, done) => done() });
  }

  cancel(): void {
    this.isCancelled = true;
  }
}

function setUp(openWatch: () => Promise<WatchDuplex>): {
  readonly session: Session;
  readonly request: WatchRequest;
  readonly closing: AbortController;
} {
  const closing = new AbortController();
  const session: Session = {
    endpoint: { url: URL } as Session['endpoint'],
    closed: closing.signal,
    progress: new ProgressSupport(URL, pino({ level: 'silent' })),
    openWatch,
    read: () => Promise.resolve(),
  };
  const request: WatchRequest = {
    range: { start: '/a', end: '/b' },
    startRevision: 1n,
    clusterId: '1',
    progressMs: 1000,
    clock: new FakeClock(),
    signal: new AbortController().signal,
    onCreated: () => undefined,
    onEvents: () => undefined,
    onProgress: () => undefined,
    onUnproven: () => undefined,
  };
  return { session, request, closing };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

t.test('a stream is cancelled, but not out of what ends the watch', async (t) => {
  const stream = new NotingStream();
  const { session, request, closing } = setUp(() => Promise.resolve(stream as WatchDuplex));
  const { ended } = startWatch(session, request);
  await turn();
  closing.abort(new Error('another stream was reset'));
  t.notOk(stream.isCancelled, 'that may be the reading of the same connection');
  t.match(await ended, { kind: 'fault' });
  await turn();
  t.ok(stream.isCancelled);
});

t.test('a stream that comes too late is cancelled as well', async (t) => {
  const stream = new NotingStream();
  let open: (stream: WatchDuplex) => void = () => undefined;
  const { session, request, closing } = setUp(() => new Promise((resolve) => (open = resolve)));
  const { ended } = startWatch(session, request);
  closing.abort(new Error('closed'));
  await ended;
  open(stream);
  await turn();
  await turn();
  t.ok(stream.isCancelled);
});
