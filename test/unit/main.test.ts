// The program as it is built, as a child process, up to where it would need privileges.

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import t from 'tap';
import { fetchStatus } from '../../src/cli/daemon-client.js';

const PROGRAM = fileURLToPath(new URL('../../dist/main.js', import.meta.url));

interface Outcome {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

function run(args: readonly string[], env: Record<string, string> = {}): Promise<Outcome> {
  const options = { env: { PATH: process.env['PATH'], ...env }, timeout: 20_000 };
  return new Promise((resolve) => {
    execFile(process.execPath, [PROGRAM, ...args], options, (error, stdout, stderr) => {
      resolve({ status: error === null ? 0 : Number(error.code), stdout, stderr });
    });
  });
}

void t.test('--version prints the package’s version', async (t) => {
  const text = await readFile(new URL('../../package.json', import.meta.url), 'utf8');
  const { version } = JSON.parse(text) as { version: string };
  t.strictSame(await run(['--version']), { status: 0, stdout: `${version}\n`, stderr: '' });
});

void t.test('--help prints the usage on standard error', async (t) => {
  const { status, stdout, stderr } = await run(['--help']);
  t.equal(status, 0);
  t.equal(stdout, '');
  t.match(stderr, /^Usage: twilld \[OPTION\]\.\.\.\n[^]* {2}--etcd-prefix\n/);
});

void t.test('a wrong command line is exit code 2 and one line', async (t) => {
  const cases: readonly (readonly [string[], Record<string, string>, RegExp])[] = [
    [['--nonsense'], {}, /^Unknown flag --nonsense: --help lists all\n$/],
    [['positional'], {}, /^Unexpected argument "positional": expected a flag\n$/],
    [['--v'], {}, /^Flag --v needs a value: [^\n]*\n$/],
    [['--healthz-port=x'], {}, /^--healthz-port is "x": expected an integer from 0 to 65535\n$/],
    [[], { FLANNELD_IP_MASQ: 'maybe' }, /^FLANNELD_IP_MASQ is "maybe": expected true or false\n$/],
    [['--store=static'], {}, /^\S+ fatal --store=static needs --static-file [^\n]*\n$/],
  ];
  for (const [args, env, message] of cases) {
    const { status, stdout, stderr } = await run(args, env);
    t.equal(status, 2, args.join(' '));
    t.equal(stdout, '');
    t.match(stderr, message);
  }
});

void t.test('the space for new objects stays small, also after a thread has started', async (t) => {
  const measure = `
    import { Worker } from 'node:worker_threads';
    import { getHeapSpaceStatistics } from 'node:v8';
    const fill = () => {
      const kept = Array.from({ length: 500_000 }, (_, i) => ({ i }));
      const { space_size } = getHeapSpaceStatistics().find(({ space_name }) => space_name === 'new_space');
      console.log(kept.length, space_size);
      process.exit();
    };
    const wait = () => {
      if (process.listenerCount('SIGTERM') === 0) return setTimeout(wait, 10);
      new Worker('', { eval: true }).once('exit', fill);
    };
    wait();`;
  const args = ['--import', `data:text/javascript,${encodeURIComponent(measure)}`, PROGRAM];
  const daemon = [...args, '--etcd-endpoints=http://127.0.0.1:1', '--control-socket=off'];
  const { stdout } = await promisify(execFile)(process.execPath, daemon, {
    env: { PATH: process.env['PATH'] },
    timeout: 20_000,
  });
  // Without that it is 32 MB. How far it grows before the thread runs depends on what else the program does then.
  const [kept, bytes] = stdout.trim().split(' ').map(Number);
  t.equal(kept, 500_000);
  t.ok(bytes < 16 << 20, `${bytes} bytes`);
});

void t.test('signals without a meaning end nothing', async (t) => {
  const args = ['--etcd-endpoints=http://127.0.0.1:1', '--control-socket=off'];
  const daemon = spawn(process.execPath, [PROGRAM, ...args], {
    env: { PATH: process.env['PATH'] },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  t.teardown(() => daemon.kill('SIGKILL'));
  const exited = once(daemon, 'exit');
  await once(daemon.stderr, 'data'); // it waits for etcd
  for (const signal of ['SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGALRM', 'SIGPIPE'] as const) daemon.kill(signal);
  await once(daemon.stderr, 'data'); // and does so still
  t.equal(daemon.exitCode ?? daemon.signalCode, null);
  daemon.kill('SIGTERM');
  t.same(await exited, [0, null]);
});

void t.test('no spelling of an endpoint puts its password into the log', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'main-'));
  t.teardown(() => rm(dir, { recursive: true }));
  const file = join(dir, 'static.json');
  await writeFile(file, '{"config":{"Network":"10.5.0.0/16","Backend":{"Type":"udp","PSK":canary}}}');
  const spellings = [
    'root:canary@10.0.0.1:2379',
    'http://a:1,root:canary@h',
    'http://h:2379/?x=canary',
    'root%3Acanary%40h:2379',
    'ETCD://u:canary@h',
  ];
  let runs = 0;
  // They run side by side, and two daemons have no subnet file in common.
  const shared = () => ['--v=10', '--control-socket=off', `--subnet-file=${dir}/subnet-${++runs}.env`];
  const outcomes = await Promise.all([
    ...spellings.map((text) => run(shared(), { FLANNELD_ETCD_ENDPOINTS: text })),
    run([...shared(), `--etcd-endpoints=${spellings[3]}`, '--log-format=json']),
    run([...shared(), '--store=static', `--static-file=${file}`]),
  ]);
  for (const { status, stdout, stderr } of outcomes) {
    t.ok(status === 2 || status === 1, `exit code ${status}`);
    t.match(stderr, /endpoint|not valid JSON/);
    t.notMatch(stdout + stderr, /canary/i);
  }
});

void t.test('a password is neither in the log nor in the status', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'main-'));
  t.teardown(() => rm(dir, { recursive: true }));
  const socket = join(dir, 'a.sock');
  const args = [`--control-socket=${socket}`, `--subnet-file=${dir}/subnet.env`, '--v=10'];
  const daemon = spawn(process.execPath, [PROGRAM, ...args], {
    env: {
      PATH: process.env['PATH'],
      FLANNELD_ETCD_ENDPOINTS: 'HTTP://127.0.0.1:1',
      FLANNELD_ETCD_USERNAME: 'root',
      FLANNELD_ETCD_PASSWORD: 'canary',
    },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  t.teardown(() => daemon.kill('SIGKILL'));
  let log = '';
  daemon.stderr.setEncoding('utf8').on('data', (text: string) => (log += text));
  while (!log.includes('127.0.0.1:1')) await once(daemon.stderr, 'data'); // it cannot connect
  const status = JSON.stringify(await fetchStatus(socket));
  t.match(status, /http:\/\/127\.0\.0\.1:1/);
  daemon.kill('SIGTERM');
  await once(daemon, 'exit');
  t.notMatch(status + log, /canary/);
});

void t.test('P10 an error that nobody catches is told once, and ends the process with 70', async (t) => {
  const faults = ["throw new Error('canary')", "void Promise.reject(new Error('canary'))"];
  for (const fault of faults) {
    // Preloaded, since nothing outside can cause one: SIGUSR2 has no meaning to twilld.
    const preload = `data:text/javascript,process.once('SIGUSR2', () => { ${fault} })`;
    const args = ['--import', preload, PROGRAM];
    args.push('--etcd-endpoints=http://127.0.0.1:1', '--control-socket=off');
    const daemon = spawn(process.execPath, args, {
      env: { PATH: process.env['PATH'] },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    t.teardown(() => daemon.kill('SIGKILL'));
    let log = '';
    daemon.stderr.on('data', (chunk: Buffer) => (log += chunk.toString()));
    const closed = once(daemon, 'close');
    await once(daemon.stderr, 'data'); // it waits for etcd
    daemon.kill('SIGUSR2');
    t.same(await closed, [70, null], fault);
    t.equal(log.match(/internal error/g)?.length, 1, log);
    t.match(
      log,
      /fatal internal error err="Error: canary\\n +at [^\n]*data:text/,
      'with its place, in one line',
    );
  }
});
