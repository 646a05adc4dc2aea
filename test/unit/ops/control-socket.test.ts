import { once } from 'node:events';
import { STATUS_VERSION } from '../../../src/ops/status.js';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { spawnSync } from 'node:child_process';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import { DaemonUnreachable, fetchStatus } from '../../../src/cli/daemon-client.js';
import { openControlSocket } from '../../../src/ops/control-socket.js';
import { Health } from '../../../src/ops/health.js';
import { Metrics } from '../../../src/ops/metrics.js';

const SERVED = {
  health: new Health(),
  metrics: new Metrics({ families: () => [], version: '' }),
  status: () => ({ statusVersion: STATUS_VERSION, version: '1.2.3' }),
  log: pino({ level: 'silent' }),
};

// A socket's path has room for 107 bytes, and a checkout may lie deeper than that.
function folder(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'twill-control-'));
  t.teardown(() => rmSync(path, { recursive: true }));
  return path;
}

t.test('it answers, for its owner alone, and goes with its server', async (t) => {
  const path = join(folder(t), 'made/on/the/way/t.sock');
  const server = await openControlSocket(path, SERVED);
  t.equal(statSync(path).mode & 0o777, 0o600);
  t.match(await fetchStatus(path), { version: '1.2.3' });
  await t.rejects(openControlSocket(path, SERVED), { code: 'E_SOCKET', message: /another daemon answers/ });
  t.match(await fetchStatus(path), { version: '1.2.3' }, 'the first is left alone');
  await server.close();
  const gone = await fetchStatus(path).catch((error: unknown) => error);
  t.match(gone, { isAbsent: true, message: /is twilld running/ });
});

t.test('the socket of a dead daemon is replaced', async (t) => {
  const path = join(folder(t), 't.sock');
  const kill = `() => process.kill(process.pid, 'SIGKILL')`;
  const script = `require('node:net').createServer().listen(${JSON.stringify(path)}, ${kill})`;
  spawnSync('env', ['-u', 'NODE_OPTIONS', process.execPath, '-e', script]);
  t.ok(statSync(path).isSocket(), 'it was left behind');
  const server = await openControlSocket(path, SERVED);
  t.match(await fetchStatus(path), { version: '1.2.3' });
  await server.close();
});

t.test('what is no socket is left alone', async (t) => {
  const path = join(folder(t), 'precious');
  writeFileSync(path, 'data');
  await t.rejects(openControlSocket(path, SERVED), { code: 'E_SOCKET', message: /it is no socket/ });
  t.equal(readFileSync(path, 'utf8'), 'data');
  for (const bad of ['relative.sock', `/${'x'.repeat(107)}`]) {
    await t.rejects(openControlSocket(bad, SERVED), {
      code: 'E_SOCKET',
      message: /expected an absolute path/,
    });
  }
  await t.rejects(openControlSocket('/proc/none/t.sock', SERVED), { code: 'E_SOCKET' });
});

t.test('something else that listens is no daemon, but not absent either', async (t) => {
  const path = join(folder(t), 't.sock');
  const server = createServer((socket) => socket.end('hello')).listen(path);
  t.teardown(() => server.close());
  await once(server, 'listening');
  const strange = await fetchStatus(path).catch((error: unknown) => error);
  t.ok(strange instanceof DaemonUnreachable && !strange.isAbsent);
});
