// A daemon that is taken over, and one that takes over played by a few lines of another language.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { openLogger } from '../../../src/core/log.js';
import { MAX_QUEUES } from '../../../src/config/options.js';
import type { LeftDataPath } from '../../../src/handover/handover.js';
import { HANDOVER_PROTOCOL, type Patience, Successor } from '../../../src/handover/successor.js';
import { native } from '../../../src/native/native.js';

/** Reads names and descriptors, each a file that holds its own name; then does as its words say. */
const SUCCESSOR = `
import json, os, socket, sys, time
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
text, fds = b'', []
time.sleep(0.2)
while not text.endswith(b'}\\n'):
    data, more, _, _ = socket.recv_fds(s, 4096, 64)
    if not data: sys.exit(9)
    text, fds = text + data, fds + more
names = json.loads(text.split(b'\\r\\n\\r\\n')[1])['names']
wrong = [n for n, fd in zip(names, fds) if os.pread(fd, 99, 0).decode() != n]
print(len(names), len(fds), 'wrong:', wrong, flush=True)
lines = s.makefile()
for word in sys.argv[2:]:
    if word == 'sleep': time.sleep(60)
    elif word == 'read': print(lines.readline().strip(), flush=True)
    else: s.sendall(b'"%s"\\n' % word.encode())`;

interface Given {
  readonly isTaken: boolean;
  readonly said: string;
  readonly code: number | null;
  readonly log: string;
  readonly stops: number;
}

/** Gives a data path of so many queues to a successor that does `words`. */
async function give(t: Test, queues: number, words: readonly string[], patience: Patience): Promise<Given> {
  const folder = mkdtempSync(join(tmpdir(), 'twill-successor-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  let log = '';
  const logger = openLogger({ level: 'info', format: 'text', write: (line) => (log += line) });
  const file = (name: string): number => {
    const fd = native.memoryFile(name);
    writeSync(fd, name);
    return fd;
  };
  const files = (kind: string, count = queues): number[] =>
    Array.from({ length: count }, (_, i) => file(`flannel0.${kind}.${i}`));
  let stops = 0;
  const path: LeftDataPath = {
    device: 'flannel0',
    descriptors: {
      tun: files('tun'),
      udp4: files('udp4'),
      udp6: files('udp6'),
      turns: files('turns', 2 * queues),
    },
    stop: () => Promise.resolve({ stops: ++stops }),
  };
  const socketPath = join(folder, 's');
  const server: Server = createServer();
  const given = new Promise<boolean>((resolve, reject) =>
    server.once('connection', (socket) => {
      const successor = Successor.of(socket, HANDOVER_PROTOCOL, logger, patience);
      if (successor === undefined) reject(new Error(log));
      else resolve(successor.give(path, new AbortController().signal));
    }),
  );
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  const child = spawn('python3', ['-c', SUCCESSOR, socketPath, ...words], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let said = '';
  child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const code = new Promise<number | null>((resolve) => child.once('close', resolve));
  const isTaken = await given;
  const result = { isTaken, code: await code, said, log, stops };
  server.close();
  return result;
}

const PATIENT: Patience = { readyMs: 10_000, queueMs: 0, endMs: 10_000 };

t.test('all of the most queues there may be come over, under their names', async (t) => {
  const { isTaken, said, stops } = await give(t, MAX_QUEUES, ['stop', 'read', 'taken'], PATIENT);
  t.ok(isTaken);
  t.equal(said, '1280 1280 wrong: []\n{"stops":1}\n');
  t.equal(stops, 1);
});

t.test(
  'one that is not ready in time is told so, and what it says from then on does not count',
  async (t) => {
    const words = ['read', 'stop', 'taken'];
    const given = await give(t, 1, words, { readyMs: 600, queueMs: 0, endMs: 10_000 });
    t.notOk(given.isTaken);
    t.match(given.said, /"late"/);
    t.equal(given.stops, 0, 'the data path goes on');
    t.equal(given.code, 0);
    t.match(given.log, /not ready after 600 ms/);
    t.notMatch(given.log, /hangs/);
  },
);

t.test('one that hangs is killed, before and after it has taken over', async (t) => {
  for (const words of [['sleep'], ['stop', 'sleep']]) {
    const given = await give(t, 1, words, { readyMs: 100, queueMs: 0, endMs: 200 });
    t.notOk(given.isTaken, words.join());
    t.equal(given.code, null, 'by a signal');
    t.match(given.log, /hangs: it was killed/);
  }
});

t.test('one that goes away has changed nothing', async (t) => {
  const given = await give(t, 1, [], PATIENT);
  t.notOk(given.isTaken);
  t.equal(given.stops, 0);
  t.equal(given.log, '');
});
