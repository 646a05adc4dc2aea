import { readFileSync } from 'node:fs';
import t from 'tap';
import { aborted, MONOTONIC_CLOCK, orAbortAfter } from '../../../src/core/waiting.js';

t.test('MONOTONIC_CLOCK.bootMs() is the time since the boot, suspensions included', (t) => {
  const uptimeMs = (): number => Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]) * 1000;
  const before = uptimeMs();
  const now = MONOTONIC_CLOCK.bootMs();
  const after = uptimeMs();
  t.ok(now >= before - 1 && now <= after + 1, `${before} <= ${now} <= ${after}`);
  t.end();
});

t.test('orAbortAfter() lets what is under way end by itself for a while', async (t) => {
  const never = new Promise<string>(() => undefined);
  const open = new AbortController();
  t.equal(await orAbortAfter(Promise.resolve('done'), open.signal, 0), 'done');
  await t.rejects(orAbortAfter(Promise.reject(new Error('failed')), open.signal, 0), { message: 'failed' });

  const stop = new AbortController();
  let end = (_text: string): void => undefined;
  const ending = orAbortAfter(new Promise<string>((resolve) => (end = resolve)), stop.signal, 60_000);
  const hanging = orAbortAfter(never, stop.signal, 1);
  stop.abort(new Error('stopped'));
  await aborted(stop.signal);
  end('in time');
  t.equal(await ending, 'in time');
  await t.rejects(hanging, { message: 'stopped' });
  await t.rejects(orAbortAfter(never, stop.signal, 1), { message: 'stopped' });
});
