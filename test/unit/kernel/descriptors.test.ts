// Programs that cannot be started because the process has no descriptor left: an error like any other, not the end.

import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const source = (name: string) =>
  JSON.stringify(fileURLToPath(new URL(`../../../src/${name}.ts`, import.meta.url)));

const SCRIPT = `
  import { closeSync, openSync } from 'node:fs';
  import { runCommand } from ${source('kernel/command')};
  import { openMonitor } from ${source('kernel/monitor')};
  const true_ = () => runCommand('true', []);
  await runCommand('setpriv', ['--version']).catch(() => undefined);
  const taken = [];
  try { for (;;) taken.push(openSync('/dev/null')); } catch ({ code }) { console.log(code); }
  console.log(await true_().catch(({ code, message }) => code + ' ' + message));
  let change;
  const changed = new Promise((resolve) => (change = resolve));
  const warned = new Promise((warn) => {
    const log = { warn: ({ reason }) => warn(reason) };
    globalThis.monitor = openMonitor(() => change('change'), { log });
  });
  console.log(await warned);
  taken.forEach((fd) => closeSync(fd));
  console.log(await changed, (await true_()).status);
  await globalThis.monitor.close();
`;

t.test('runCommand() and openMonitor() outlive a lack of descriptors', (t) => {
  const node = [process.execPath, '--import', 'tsx', '--input-type=module', '-e', SCRIPT];
  const { status, stdout, stderr } = spawnSync('sh', ['-c', 'ulimit -n 64; exec "$@"', 'sh', ...node], {
    encoding: 'utf8',
    env: { ...process.env, NODE_OPTIONS: '' },
  });
  t.equal(status, 0, stderr);
  t.equal(stdout, 'EMFILE\nE_KERNEL Cannot run "true": spawn true EMFILE\n' + 'spawn ip EMFILE\nchange 0\n');
  t.end();
});
