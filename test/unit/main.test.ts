// The program as a child process, up to where it would need privileges.

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const PROGRAM = fileURLToPath(new URL('../../src/main.ts', import.meta.url));

interface Outcome {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

function run(args: readonly string[], env: Record<string, string> = {}): Promise<Outcome> {
  const options = { env: { PATH: process.env['PATH'], ...env }, timeout: 20_000 };
  return new Promise((resolve) => {
    execFile(process.execPath, ['--import', 'tsx', PROGRAM, ...args], options, (error, stdout, stderr) => {
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

void t.test('signals without a meaning end nothing', async (t) => {
  const args = ['--etcd-endpoints=http://127.0.0.1:1', '--control-socket=off'];
  const daemon = spawn(process.execPath, ['--import', 'tsx', PROGRAM, ...args], {
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
