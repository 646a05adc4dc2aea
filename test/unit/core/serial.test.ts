// Work that runs one after the other.

import t from 'tap';
import { Serial } from '../../../src/core/serial.js';

t.test('Serial.run() begins when the work before has ended, failed or not', async (t) => {
  const serial = new Serial();
  const seen: string[] = [];
  let end = (): void => undefined;
  const first = serial.run(async () => {
    seen.push('first');
    await new Promise<void>((resolve) => (end = resolve));
    seen.push('first ends');
    throw new Error('in vain');
  });
  const second = serial.run(() => Promise.resolve(seen.push('second')));
  await new Promise((resolve) => setImmediate(resolve));
  t.strictSame(seen, ['first']);
  end();
  await t.rejects(first, /in vain/);
  t.equal(await second, 3);
  t.strictSame(seen, ['first', 'first ends', 'second']);
});
