// What was opened is closed in the reverse order, and not for ever.

import pino from 'pino';
import t from 'tap';
import { type Closable, ClosingStack } from '../../../src/core/closing.js';

function setUp(limitMs: number) {
  const lines: string[] = [];
  const closed: string[] = [];
  const write = (line: string): void => void lines.push((JSON.parse(line) as { msg: string }).msg);
  const stack = new ClosingStack(pino({}, { write }), limitMs);
  const resource = (name: string, close: () => unknown = () => undefined): Closable => ({
    close: () => {
      closed.push(name);
      return close();
    },
  });
  return { lines, closed, stack, resource };
}

t.test('ClosingStack.close() closes in the reverse order, once', async (t) => {
  const { lines, closed, stack, resource } = setUp(1_000);
  let isFirstDone = false;
  stack.add(
    'store',
    resource('store', () => t.ok(isFirstDone, 'what uses it has ended')),
  );
  const slow = resource('server', async () => {
    await new Promise((resolve) => setImmediate(resolve));
    isFirstDone = true;
  });
  t.equal(stack.add('server', slow), slow);
  await Promise.all([stack.close(), stack.close()]);
  await stack.close();
  t.strictSame(closed, ['server', 'store']);
  t.strictSame(lines, []);
});

t.test('ClosingStack.close() goes on after what fails', async (t) => {
  const { lines, closed, stack, resource } = setUp(1_000);
  stack.add('store', resource('store'));
  stack.add(
    'backend',
    resource('backend', () => Promise.reject(new Error('no'))),
  );
  stack.add(
    'firewall',
    resource('firewall', () => {
      throw new Error('no');
    }),
  );
  await stack.close();
  t.strictSame(closed, ['firewall', 'backend', 'store']);
  t.strictSame(lines, ['closing the firewall failed', 'closing the backend failed']);
});

t.test('ClosingStack.close() names what hangs, and tells the others to close all the same', async (t) => {
  const { lines, closed, stack, resource } = setUp(20);
  stack.add('store', resource('store'));
  stack.add(
    'backend',
    resource('backend', () => new Promise(() => undefined)),
  );
  await stack.close();
  t.strictSame(closed, ['backend', 'store']);
  t.equal(lines[0], 'closing the backend takes longer than the end may: going on without');
});

t.test('ClosingStack.add() after close() closes at once', async (t) => {
  const { closed, stack, resource } = setUp(1_000);
  await stack.close();
  stack.add('late', resource('late'));
  t.strictSame(closed, ['late']);
});
