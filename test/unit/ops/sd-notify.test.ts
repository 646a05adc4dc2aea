// What systemd hears, on a real datagram socket of the kind it listens on.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { sdNotify } from '../../../src/native/native.js';
import { type Condition, condition } from '../../../src/core/conditions.js';
import { Health } from '../../../src/ops/health.js';
import { ServiceNotifier, statusLine } from '../../../src/ops/sd-notify.js';

const LISTENER = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind(sys.argv[1]); s.settimeout(5)
for _ in range(int(sys.argv[2])): print(repr(s.recv(4096).decode()), flush=True)`;

t.test('ServiceNotifier speaks to NOTIFY_SOCKET', async (t) => {
  // Not t.testdir(): a socket's path has room for 107 bytes (unix(7)), and a checkout may lie deeper than that.
  const folder = mkdtempSync(join(tmpdir(), 'twill-notify-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'notify');
  const listener = spawn('python3', ['-c', LISTENER, path, '6'], { stdio: ['ignore', 'pipe', 'inherit'] });
  const closed = once(listener, 'close');
  let heard = '';
  listener.stdout.on('data', (chunk: Buffer) => (heard += chunk.toString()));
  for (let i = 0; i < 500 && !existsSync(path); i++) await new Promise((resolve) => setTimeout(resolve, 10));
  const notifier = new ServiceNotifier({ NOTIFY_SOCKET: path, WATCHDOG_USEC: '100000' }, sdNotify);
  notifier.ready();
  notifier.status('forwarding for 10.5.1.0/24');
  notifier.status('forwarding for 10.5.1.0/24');
  notifier.startWatchdog();
  await new Promise((resolve) => setTimeout(resolve, 120));
  notifier.close();
  notifier.stopping();
  await closed;
  const messages = heard.trim().split('\n');
  t.same(messages, [
    "'READY=1'",
    "'STATUS=forwarding for 10.5.1.0/24'",
    "'WATCHDOG=1'",
    "'WATCHDOG=1'",
    "'STOPPING=1'",
    "'STATUS=stopping'",
  ]);
});

t.test('without a socket, or for another process, it is silent', (t) => {
  const sent: string[] = [];
  const send = (_path: string, text: string): number => sent.push(text);
  new ServiceNotifier({}, send).ready();
  const other = new ServiceNotifier({ NOTIFY_SOCKET: '/x', WATCHDOG_USEC: '1000', WATCHDOG_PID: '1' }, send);
  other.startWatchdog();
  other.close();
  t.same(sent, []);
  t.end();
});

t.test('the watchdog is fed only while what it watches is alive', async (t) => {
  const sent: string[] = [];
  const send = (_path: string, text: string): number => sent.push(text);
  const notifier = new ServiceNotifier({ NOTIFY_SOCKET: '/x', WATCHDOG_USEC: '10000' }, send);
  t.teardown(() => notifier.close());
  let asked = 0;
  let isAlive = false;
  await new Promise<void>((resolve) =>
    notifier.startWatchdog(() => {
      asked++;
      if (asked === 5) {
        t.same(sent, []);
        isAlive = true;
      }
      if (asked === 7) resolve();
      return isAlive;
    }),
  );
  t.ok(sent.length >= 2);
  t.ok(sent.every((text) => text === 'WATCHDOG=1'));
});

t.test('no text of a condition can become an assignment, or a message too long for systemd', (t) => {
  const sent: string[] = [];
  const notifier = new ServiceNotifier({ NOTIFY_SOCKET: '/x' }, (_path, text) => sent.push(text));
  notifier.status('lease\nMAINPID=1\r\n\u0085X');
  notifier.status('€'.repeat(5_000));
  t.equal(sent[0], 'STATUS=lease MAINPID=1 X');
  t.ok(Buffer.byteLength(sent[1]) < 4_096);
  t.end();
});

t.test('statusLine() says the worst, and how much more there is', (t) => {
  const health = new Health();
  let found: Condition[] = [condition('starting', 'waiting for the network config')];
  health.addSource('x', () => found);
  const check = (conditions: Condition[], expected: string): void => {
    found = conditions;
    t.equal(statusLine(health.look(), 'forwarding'), expected);
  };
  check(found, 'starting: waiting for the network config');
  health.setStarted(true);
  check([], 'forwarding');
  const warning = condition('config-changed', 'restart to apply it');
  check([warning], 'forwarding; warning: restart to apply it');
  const down = condition('interface-down', 'eth0 is down');
  check([warning, down], 'not ready: eth0 is down (and 1 more: twill status)');
  check([], 'forwarding');
  t.end();
});
