// The examples of docs/api.md as they stand there, by the names that package.json exports: host 1 runs one, host 2 a
// daemon with the static store.

import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { Lab, labUnavailable, PROJECT_ROOT, type Task } from '../support/lab.js';
import { startDaemon, tableOf, writeTable } from '../support/twill-hosts.js';

const skip = labUnavailable();
const TSX = fileURLToPath(import.meta.resolve('tsx'));

function runExample(lab: Lab, ns: string, name: string, pattern: RegExp, args: string[] = []): Promise<Task> {
  const path = join(PROJECT_ROOT, 'docs/examples', name);
  return lab.spawnUntil(ns, process.execPath, ['--import', TSX, path, ...args], pattern);
}

t.test('the data path alone', { skip }, async (t) => {
  const lab = Lab.open('api-');
  t.teardown(() => lab.close());
  const [a, b] = [lab.addHost(1), lab.addHost(2)];
  const staticFile = join(lab.dir, 'static.json');
  writeTable(staticFile, tableOf([a, b]));
  await startDaemon(lab, b, staticFile);
  const example = await runExample(lab, a.ns, 'dataplane.ts', /the data path is open/);
  const ping = ['-c', '3', '-i', '0.2', '-W', '2', '-I', '10.5.1.0', b.containerIp];
  t.equal(
    (await lab.run(a.ns, 'ping', ping, { mustSucceed: false })).code,
    0,
    'a container of the peer answers',
  );
  t.equal(await lab.end(example), 0);
  t.match(example.log(), /[3-9] packets were sent/);
});

t.test('an overlay', { skip }, async (t) => {
  const lab = Lab.open('api-');
  t.teardown(() => lab.close());
  const [a, b] = [lab.addHost(1), lab.addHost(2)];
  const staticFile = join(lab.dir, 'static.json');
  writeTable(staticFile, tableOf([a, b]));
  await startDaemon(lab, b, staticFile);
  const files = [staticFile, join(a.dir, 'subnet.env')];
  const example = await runExample(lab, a.ns, 'overlay.ts', /this host has 10\.5\.1\.0\/24/, files);
  const ping = ['-c', '3', '-i', '0.2', '-W', '2', b.containerIp];
  t.equal(
    (await lab.run(a.containerNs, 'ping', ping, { mustSucceed: false })).code,
    0,
    'containers reach each other',
  );
  t.equal(await lab.end(example), 0);
  t.notMatch(example.log(), /cannot go on/);
});
