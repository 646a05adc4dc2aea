// twill-holder with a daemon of a few lines: what it stores is there for the next one, and when there is a next one.

import { spawn } from 'node:child_process';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { labUnavailable, waitFor } from '../support/lab.js';

const skip = labUnavailable();
const HOLDER = new URL('../../build/Release/twill-holder', import.meta.url).pathname;

/** Each life does what its number says, in the words of the script's argument. */
const DAEMON = `
import os, signal, socket, sys, time
folder, steps = sys.argv[1], sys.argv[2:]
standby = os.environ.pop('TWILL_STANDBY', None)
if standby:
    s, text, given = socket.socket(fileno=int(standby)), b'', []
    while not text.endswith(b'\\n'):
        data, more, _, _ = socket.recv_fds(s, 4096, 64)
        if not data: sys.exit(0)
        text, given = text + data, given + more
    os.environ['LISTEN_FDNAMES'] = text.decode().strip()
path = folder + '/lives'
life = int(open(path).read()) if os.path.exists(path) else 0
open(path, 'w').write(str(life + 1))
address = '\\0' + os.environ['NOTIFY_SOCKET'][1:]
def notify(text, fds=[]):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.connect(address)
    socket.send_fds(s, [text.encode()], fds); s.close()
def barrier():
    r, w = os.pipe(); notify('BARRIER=1', [w]); os.close(w)
    assert os.read(r, 1) == b''; os.close(r)
names = os.environ.get('LISTEN_FDNAMES', '')
fds = int(os.environ.get('LISTEN_FDS', '0'))
mine = os.environ.get('LISTEN_PID', str(os.getpid())) == str(os.getpid())
if not standby: given = range(3, 3 + fds)
held = [n + '=' + os.pread(fd, 99, 0).decode() for n, fd in zip(names.split(':'), given)]
if len(held) > 9: held = [str(len(held)), 'as a standby' if standby else 'anew', str(len(set(held)))]
print(life, 'mine' if mine else 'not mine', ','.join(sorted(held)), flush=True)
for step in steps[min(life, len(steps) - 1)].split():
    word, _, rest = step.partition('=')
    if word == 'store':
        fd = os.memfd_create(rest); os.write(fd, (rest + str(life)).encode())
        notify('FDSTORE=1\\nFDNAME=' + rest + '\\nFDPOLL=0', [fd])
    if word == 'many':
        for i in range(int(rest)):
            fd = os.memfd_create('m'); os.write(fd, str(i).encode())
            notify('FDSTORE=1\\nFDNAME=flannel0.tun.' + str(i) + '\\nFDPOLL=0', [fd]); os.close(fd)
    if word == 'forget': notify('FDSTOREREMOVE=1\\nFDNAME=' + rest)
    if word == 'ready': notify('READY=1')
    if word == 'left': notify('X_TWILL_LEFT=' + rest)
    if word == 'urgent': notify('X_TWILL_STANDBY=1')
    if word == 'say': print(rest, flush=True)
    if word == 'orphan' and os.fork() == 0:
        if os.fork() == 0: time.sleep(0.2)
        os._exit(0)
    if word == 'barrier': barrier()
    if word == 'stranger' and os.fork() == 0:
        fd = os.memfd_create('x'); notify('FDSTORE=1\\nFDNAME=stranger', [fd]); os._exit(0)
    if word == 'sleep': time.sleep(float(rest))
    if word == 'kill': os.kill(os.getpid(), signal.SIGKILL)
    if word == 'segv': os.kill(os.getpid(), signal.SIGSEGV)
    if word == 'exit': sys.exit(int(rest))
    if word == 'wait': signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); print('waits', flush=True); signal.pause()
`;

interface Held {
  readonly code: number;
  readonly lines: readonly string[];
  readonly lives: number;
}

/** Runs a holder with these lives; `onLine` may send it signals. */
async function hold(
  lives: readonly string[],
  onLine: (line: string, kill: (signal: NodeJS.Signals) => void, pid: number) => void = () => undefined,
  flags: readonly string[] = ['--no-standby'],
): Promise<Held> {
  const folder = mkdtempSync(join(tmpdir(), 'twill-holder-'));
  try {
    writeFileSync(join(folder, 'daemon.py'), DAEMON);
    const env = { ...process.env };
    delete env.NOTIFY_SOCKET;
    const args = [...flags, 'python3', join(folder, 'daemon.py'), folder, ...lives];
    const child = spawn(HOLDER, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    let text = '';
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => {
        text += chunk.toString();
        for (const line of chunk.toString().split('\n'))
          onLine(line, (signal) => void child.kill(signal), child.pid!);
      });
    const code = await new Promise<number>((resolve) => child.once('close', (code) => resolve(code ?? -1)));
    const path = join(folder, 'lives');
    const count = existsSync(path) ? Number(readFileSync(path, 'utf8')) : 0;
    return { code, lines: text.split('\n').filter(Boolean), lives: count };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

t.test('what was stored is there after a kill, and what was forgotten is not', async (t) => {
  const { code, lines, lives } = await hold([
    'store=a store=b store=a ready stranger sleep=0.1 kill',
    'forget=b store=c barrier segv',
    'exit=0',
  ]);
  const told = lines.filter((line) => /^\d /.test(line));
  t.same(told, ['0 mine ', '1 mine a=a0,b=b0', '2 mine a=a0,c=c1']);
  t.equal(lives, 3);
  t.equal(code, 0);
  t.match(lines.join('\n'), /was ended by signal 9: starting it again in 0 ms, with 2 descriptors/);
});

t.test('its end is the end, and one that was never ready is not tried again', async (t) => {
  for (const [steps, code] of [
    ['ready exit=0', 0],
    ['ready exit=2', 2],
    ['exit=1', 1],
    ['kill', 137],
  ] as const) {
    const held = await hold([steps]);
    t.equal(held.code, code, steps);
    t.equal(held.lives, 1, steps);
  }
});

t.test('one that fails after it was ready is started again, more and more slowly', async (t) => {
  const startedMs = Date.now();
  const { lines, lives } = await hold(['ready exit=1', 'exit=1', 'kill', 'exit=1', 'exit=0']);
  t.equal(lives, 5);
  t.ok(Date.now() - startedMs >= 100);
  t.match(lines.join('\n'), /has ended with status 1: starting it again in 100 ms/);
});

t.test('one that was ready is started again at once, however often it dies', async (t) => {
  const { lines, lives } = await hold([...Array<string>(9).fill('store=a ready barrier kill'), 'exit=0']);
  t.equal(lives, 10);
  t.equal(lines.filter((line) => line.endsWith('starting it again in 0 ms, with 1 descriptors')).length, 9);
});

t.test('SIGTERM goes to the daemon, whose end is awaited', async (t) => {
  const { code, lives } = await hold(['ready wait', 'exit=9'], (line, kill) => {
    if (line === 'waits') kill('SIGTERM');
  });
  t.equal(code, 0);
  t.equal(lives, 1);
});

t.test('one that another daemon follows is not started again, however it ends', async (t) => {
  for (const [steps, code] of [
    ['store=a ready left=1 exit=0', 0],
    ['store=a ready left=1 exit=4', 0],
    ['store=a ready left=1 exit=1', 1],
    ['store=a ready left=1 kill', 137],
  ] as const) {
    const held = await hold([steps]);
    t.equal(held.code, code, steps);
    t.equal(held.lives, 1, steps);
  }
  const { lines, lives } = await hold(['store=a ready left=1 left=0 kill', 'exit=0']);
  t.equal(lives, 2, 'the other one has gone away');
  t.match(lines.join('\n'), /^1 mine a=a0$/m);
});

t.test('--stay: then it waits for SIGTERM, and keeps nothing', async (t) => {
  for (const steps of ['store=a store=b ready left=1 exit=0', 'store=a ready left=1 kill']) {
    let kept: readonly string[] | undefined;
    const { code, lives } = await hold(
      [steps],
      (line, kill, pid) => {
        if (!line.includes('or for SIGTERM')) return;
        const files = readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
        kept = files.filter((file) => file.startsWith('/memfd:'));
        setTimeout(() => kill('SIGTERM'), 200);
      },
      ['--no-standby', '--stay'],
    );
    t.equal(code, 0, steps);
    t.equal(lives, 1, steps);
    t.strictSame(kept, [], steps);
  }
  const ended = await hold(['exit=3'], undefined, ['--no-standby', '--stay']);
  t.equal(ended.code, 3, 'all other ends are ends');
});

t.test(
  '--stay: it goes on when nobody has listened for 3 s at the socket of the one that follows',
  async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'twill-successor-'));
    t.teardown(() => rmSync(folder, { recursive: true }));
    const path = join(folder, 'control.sock');
    let connections = 0;
    const successor = createServer((connection) => {
      connections++;
      connection.on('error', () => undefined).resume();
      if (connections === 3) successor.close();
    });
    successor.listen(path);
    let closedMs = 0;
    successor.on('close', () => (closedMs = Date.now()));
    const { code, lines, lives } = await hold([`store=a ready left=${path} exit=4`, 'exit=2'], undefined, [
      '--no-standby',
      '--stay',
    ]);
    t.equal(connections, 3, 'once a second');
    t.ok(Date.now() - closedMs > 2_000, 'one that is being started again is waited for');
    t.equal(lives, 2);
    t.match(lines.join('\n'), /nobody listens at ".*control.sock": starting "python3" again/);
    t.match(lines.join('\n'), /^1 mine $/m, 'with nothing of what it had given away');
    t.equal(code, 2);
  },
);

t.test('a standby is there for a daemon that packets wait for, and for no other', async (t) => {
  for (const [steps, count] of [
    ['store=a ready barrier say=now wait', 1],
    ['store=a urgent ready barrier say=now wait', 2],
  ] as const) {
    let processes = 0;
    await hold(
      [steps, 'wait'],
      (line, kill, pid) => {
        if (line !== 'now') return;
        processes = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').length;
        setTimeout(() => kill('SIGTERM'), 300);
      },
      [],
    );
    t.equal(processes, count, steps);
  }
});

t.test('a standby gets as many descriptors as there may be', async (t) => {
  const lives = ['many=770 urgent ready barrier sleep=0.3 kill', 'exit=0'];
  const { code, lines } = await hold(lives, undefined, []);
  t.equal(code, 0);
  t.match(lines.join('\n'), /^1 mine 770,770,as a standby$/m);
});

t.test(
  'as the first process of a container it reaps, and hands SIGTERM and the exit code on',
  { skip },
  async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'twill-holder-'));
    t.teardown(() => rmSync(folder, { recursive: true }));
    writeFileSync(join(folder, 'daemon.py'), DAEMON);
    const run = async (steps: string, onWait: (init: number) => Promise<void>): Promise<number> => {
      rmSync(join(folder, 'lives'), { force: true });
      const daemon = ['python3', join(folder, 'daemon.py'), folder, steps];
      const words = ['--pid', '--fork', '--kill-child', '--mount-proc', HOLDER, '--no-standby', '--stay'];
      const child = spawn('unshare', [...words, ...daemon], { stdio: ['ignore', 'pipe', 'inherit'] });
      const [init] = await new Promise<number[]>((resolve) =>
        child.stdout.on('data', (chunk: Buffer) => {
          if (chunk.toString().includes('waits')) resolve(childrenOf(child.pid!));
        }),
      );
      const ended = new Promise<number>((resolve) => child.once('close', (code) => resolve(code ?? -1)));
      await onWait(init);
      return await ended;
    };
    const code = await run('ready orphan orphan orphan wait', async (init) => {
      await waitFor(() => childrenOf(init).length === 1, 'the orphans to end and be reaped');
      process.kill(init, 'SIGTERM');
    });
    t.equal(code, 0);
    const failed = await run('wait', (init) => {
      process.kill(childrenOf(init)[0], 'SIGKILL');
      return Promise.resolve();
    });
    t.equal(failed, 137, 'never ready');
  },
);

function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
}

t.test('a command that cannot be run', async (t) => {
  const child = spawn(HOLDER, ['/nonexistent/twilld'], { stdio: ['ignore', 'ignore', 'pipe'] });
  let text = '';
  child.stderr.on('data', (chunk: Buffer) => (text += chunk.toString()));
  t.equal(await new Promise((resolve) => child.once('close', resolve)), 127);
  t.match(text, /cannot run "\/nonexistent\/twilld": No such file/);
});
