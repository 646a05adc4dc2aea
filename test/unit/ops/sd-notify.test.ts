// What systemd hears, on a real datagram socket of the kind it listens on.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { sdNotify } from '../../../src/dataplane/native.js';
import { ServiceNotifier } from '../../../src/ops/sd-notify.js';

const LISTENER = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind(sys.argv[1]); s.settimeout(5)
for _ in range(int(sys.argv[2])): print(repr(s.recv(4096).decode()), flush=True)`;

t.test('ServiceNotifier speaks to NOTIFY_SOCKET', async (t) => {
  // Not t.testdir(): a socket's path has room for 107 bytes (unix(7)), and a checkout may lie deeper than that.
  const folder = mkdtempSync(join(tmpdir(), 'twill-notify-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'notify');
  const listener = spawn('python3', ['-c', LISTENER, path, '4'], { stdio: ['ignore', 'pipe', 'inherit'] });
  const closed = once(listener, 'close');
  let heard = '';
  listener.stdout.on('data', (chunk: Buffer) => (heard += chunk.toString()));
  for (let i = 0; i < 500 && !existsSync(path); i++) await new Promise((resolve) => setTimeout(resolve, 10));
  const notifier = new ServiceNotifier({ NOTIFY_SOCKET: path, WATCHDOG_USEC: '100000' }, sdNotify);
  notifier.ready('forwarding for 10.5.1.0/24');
  notifier.startWatchdog();
  await new Promise((resolve) => setTimeout(resolve, 120));
  notifier.close();
  notifier.stopping();
  await closed;
  const messages = heard.trim().split('\n');
  t.equal(messages[0], String.raw`'READY=1\nSTATUS=forwarding for 10.5.1.0/24'`);
  t.same(messages.slice(1, 3), ["'WATCHDOG=1'", "'WATCHDOG=1'"]);
  t.equal(messages[3], "'STOPPING=1'");
});

t.test('without a socket, or for another process, it is silent', (t) => {
  const sent: string[] = [];
  const send = (_path: string, text: string): number => sent.push(text);
  new ServiceNotifier({}, send).ready('x');
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
