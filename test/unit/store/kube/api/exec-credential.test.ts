import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { ExecCredentials } from '../../../../../src/store/kube/api/credentials.js';
import { type ExecRun, runExecPlugin } from '../../../../../src/store/kube/api/exec-credential.js';
import { until } from '../../../../support/store-fixture.js';
import { folderOf } from '../../../../support/folder.js';

const V1 = 'client.authentication.k8s.io/v1';
const never = new AbortController().signal;

/** A run of a plugin that is this shell script; it finds its folder in $0. */
function runOf(t: Test, script: string, more: Partial<ExecRun['spec']> = {}): ExecRun & { dir: string } {
  const dir = folderOf(t, { plugin: `#!/bin/sh\n${script}\n` });
  const command = join(dir, 'plugin');
  chmodSync(command, 0o755);
  const spec = {
    version: V1,
    command,
    args: [],
    env: [],
    wantsCluster: false,
    installHint: undefined,
  } as const;
  return {
    dir,
    spec: { ...spec, ...more },
    cluster: undefined,
    environment: { PATH: process.env['PATH'] ?? '' },
    timeoutMs: 10_000,
  };
}

const print = (status: object, version = V1): string =>
  `cat <<'X'\n${JSON.stringify({ kind: 'ExecCredential', apiVersion: version, status })}\nX`;

t.test(
  'runExecPlugin() passes arguments, environment and the cluster, and takes what it prints',
  async (t) => {
    const script = `echo "$1 $PROFILE" > "$(dirname "$0")/args"
printf %s "$KUBERNETES_EXEC_INFO" > "$(dirname "$0")/info"
cat && ${print({ token: 'abc', expirationTimestamp: '2030-01-02T03:04:05Z' })}`;
    const { dir, ...run } = runOf(t, script, { args: ['--x y'], env: [['PROFILE', 'p']] });
    t.strictSame(await runExecPlugin(run, never), {
      token: 'abc',
      certificate: undefined,
      expiresAtMs: Date.UTC(2030, 0, 2, 3, 4, 5),
    });
    t.equal(readFileSync(join(dir, 'args'), 'utf8'), '--x y p\n');
    const info = (): unknown => JSON.parse(readFileSync(join(dir, 'info'), 'utf8'));
    t.strictSame(info(), { kind: 'ExecCredential', apiVersion: V1, spec: { interactive: false } });
    const cluster = { server: 'https://x', config: { audience: 'y' } };
    await runExecPlugin({ ...run, cluster: () => Promise.resolve(cluster) }, never);
    t.match(info(), { spec: { cluster, interactive: false } });
  },
);

t.test('runExecPlugin() takes a certificate, and v1beta1', async (t) => {
  const version = 'client.authentication.k8s.io/v1beta1';
  const status = { clientCertificateData: 'C', clientKeyData: 'K' };
  const { certificate, expiresAtMs } = await runExecPlugin(
    runOf(t, print(status, version), { version }),
    never,
  );
  t.same(certificate, { cert: Buffer.from('C'), key: Buffer.from('K') });
  t.equal(expiresAtMs, undefined);
});

t.test('runExecPlugin() says what went wrong, in one line', async (t) => {
  const cases: [script: string, expected: RegExp][] = [
    ['echo one >&2; echo "no session" >&2; exit 3', /ended with 3: one no session$/],
    ['exit 1', /ended with 1: it said nothing$/],
    ['kill -9 $$', /ended with SIGKILL/],
    ['echo token', /printed no JSON$/],
    ['echo "{}"', /printed something else than an ExecCredential of client/],
    [print({ token: 'x' }, `${V1}beta1`), /printed something else/],
    [print({}), /printed neither a token nor a certificate$/],
    [print({ clientKeyData: 'secret' }), /printed a certificate without a key, or a key alone$/],
    [
      print({ token: 'secret', expirationTimestamp: 'soon' }),
      /an expirationTimestamp that is no RFC 3339 time$/,
    ],
    ['yes secret', /its output has more than 1048576 bytes$/],
  ];
  for (const [script, message] of cases) {
    const error: unknown = await runExecPlugin(runOf(t, script), never).catch((caught: unknown) => caught);
    t.match(error, { name: 'WayFault', reason: 'credentials', message });
    t.match((error as Error).message, /^exec plugin ".*\/plugin" /);
    t.notMatch((error as Error).message, /secret|\n/);
  }
  const missing = runOf(t, '', { command: 'no-such-plugin-of-twill', installHint: 'apt install it' });
  await t.rejects(runExecPlugin(missing, never), { message: /ENOENT: apt install it$/ });
});

t.test('runExecPlugin() kills what hangs, and its children', async (t) => {
  const script = 'sleep 1000 & echo $! > "$(dirname "$0")/child"; wait';
  const { dir, ...run } = runOf(t, script);
  const isGone = (): boolean => {
    const pid = readFileSync(join(dir, 'child'), 'utf8').trim();
    return !existsSync(`/proc/${pid}`) || readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ');
  };
  await t.rejects(runExecPlugin({ ...run, timeoutMs: 300 }, never), {
    message: /did not end within 300 ms$/,
  });
  await until(isGone, 'its child is gone');
  const abort = new AbortController();
  writeFileSync(join(dir, 'child'), '');
  const running = runExecPlugin(run, abort.signal);
  await until(() => readFileSync(join(dir, 'child'), 'utf8') !== '', 'it runs');
  abort.abort();
  await t.rejects(running, { message: /was ended$/ });
  await until(isGone, 'its child is gone');
  await t.rejects(runExecPlugin(run, abort.signal), { message: /is not run any more$/ });
});

t.test('ExecCredentials runs the plugin once for all, again when it expires or is refused', async (t) => {
  const inTime = (ms: number): string => new Date(Date.now() + ms).toISOString();
  const { dir, ...run } = runOf(t, 'echo x >> "$(dirname "$0")/runs"; cat "$(dirname "$0")/answer"');
  const answer = (status: object): void => {
    const credential = { kind: 'ExecCredential', apiVersion: V1, status };
    writeFileSync(join(dir, 'answer'), JSON.stringify(credential));
  };
  const runs = (): number => readFileSync(join(dir, 'runs'), 'utf8').length / 2;
  const credentials = new ExecCredentials(run);
  await credentials.check();
  answer({ token: 'one', expirationTimestamp: inTime(60_000) });
  const passes = await Promise.all([1, 2, 3].map(() => credentials.current(never)));
  t.same(
    passes.map(({ authorization }) => authorization),
    ['Bearer one', 'Bearer one', 'Bearer one'],
  );
  const first = await credentials.current(never);
  t.equal(runs(), 1);

  const pair = { clientCertificateData: 'C', clientKeyData: 'K' };
  answer({ ...pair, expirationTimestamp: inTime(1000) });
  credentials.refuse(first);
  const second = await credentials.current(never);
  t.equal(second.authorization, undefined);
  t.equal(runs(), 2);
  const third = await credentials.current(never);
  t.equal(runs(), 3, 'it expires too soon to be used again');
  t.equal(third.certificate, second.certificate, 'the same certificate is the same object');

  answer({ token: 'secret\nline' });
  const error: unknown = await credentials.current(never).catch((caught: unknown) => caught);
  t.match(error, { reason: 'credentials', message: /^token of the exec plugin cannot be used/ });
  t.notMatch((error as Error).message, /secret/);
  answer({ token: 'four' });
  t.match(await credentials.current(never), { authorization: 'Bearer four' });
  credentials.refuse(first);
  await credentials.current(never);
  t.equal(runs(), 5, 'what is refused late was replaced already');
  credentials.close();
});
