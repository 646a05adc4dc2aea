// One comparison of the kernel at a time, and what is said when they fail.

import pino from 'pino';
import t from 'tap';
import { ReconcileLoop } from '../../../src/overlay/reconcile-loop.js';

/** Runs that end when the test says so. */
function setUp() {
  const lines: string[] = [];
  const ends: ((error?: Error) => void)[] = [];
  const stop = new AbortController();
  const write = (line: string): void => void lines.push((JSON.parse(line) as { msg: string }).msg);
  const loop = new ReconcileLoop({
    run: () =>
      new Promise((resolve, reject) => {
        ends.push((error) => (error === undefined ? resolve() : reject(error)));
      }),
    log: pino({}, { write }),
    signal: stop.signal,
  });
  const codes = (): string[] => loop.conditions().map(({ code }) => code);
  return { lines, ends, stop, loop, codes };
}

t.test('ReconcileLoop.soon() runs once more for all events during a run', async (t) => {
  const { ends, loop } = setUp();
  const done = loop.soon();
  t.equal(ends.length, 1, 'at once');
  void loop.soon();
  void loop.soon();
  t.equal(ends.length, 1);
  ends[0]();
  await new Promise((resolve) => setImmediate(resolve));
  t.equal(ends.length, 2);
  ends[1]();
  await done;
  t.equal(ends.length, 2);
  const again = loop.soon();
  t.equal(ends.length, 3, 'and at once again');
  ends[2]();
  await again;
});

t.test('ReconcileLoop.conditions() has what failed twice in a row', async (t) => {
  const { ends, lines, loop, codes } = setUp();
  t.teardown(() => loop.close());
  const run = async (error?: Error): Promise<void> => {
    const done = loop.soon();
    ends.at(-1)!(error);
    await done;
  };
  await run(new Error('no such device'));
  t.strictSame(codes(), [], 'once may be chance');
  await run(new Error('no such device'));
  t.strictSame(codes(), ['repair-failed']);
  t.strictSame(lines, ['cannot repair the kernel state: no such device'], 'said once');
  await run(new Error('RTNETLINK answers: Operation not permitted'));
  t.strictSame(codes(), ['no-permission']);
  t.equal(lines.length, 2);
  await run();
  t.strictSame(codes(), []);
});

t.test('ReconcileLoop.close() waits for the run, and no other follows', async (t) => {
  const { ends, loop, stop } = setUp();
  loop.every(1);
  while (ends.length === 0) await new Promise((resolve) => setImmediate(resolve));
  void loop.soon();
  const closed = loop.close();
  ends[0]();
  await closed;
  t.equal(ends.length, 1);
  stop.abort();
  await loop.soon();
  t.equal(ends.length, 1, 'none after the signal');
});

t.test('a run that failed is made again without an event, not after the close', async (t) => {
  const { ends, loop } = setUp();
  t.teardown(() => loop.close());
  const failed = loop.soon();
  ends[0](new Error('spawn ip EAGAIN'));
  await failed;
  t.equal(ends.length, 1, 'not at once');
  const startedMs = performance.now();
  while (ends.length === 1) await new Promise((resolve) => setTimeout(resolve, 10));
  t.ok(performance.now() - startedMs >= 450, 'after a pause');
  const closed = loop.close();
  ends[1](new Error('spawn ip EAGAIN'));
  await closed;
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  t.equal(ends.length, 2);
});

t.test('an event at the very end of a run is not lost', async (t) => {
  for (let turns = 0; turns < 8; turns++) {
    const { ends, loop } = setUp();
    void loop.soon();
    ends[0]();
    for (let turn = 0; turn < turns; turn++) await Promise.resolve();
    void loop.soon();
    await new Promise((resolve) => setImmediate(resolve));
    t.equal(ends.length, 2, `${turns} turns of the microtask queue after it`);
  }
});
