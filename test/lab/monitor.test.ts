// The kernel monitor's child: it is replaced when it dies, and it dies with us.

import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { LAB_SKIP, run, waitFor, withLab } from '../support/kernel-lab.js';
import type { KernelLab } from '../support/kernel-lab.js';

const MONITOR = fileURLToPath(new URL('../../src/kernel/monitor.ts', import.meta.url));

const SCRIPT = `
  import { openMonitor } from ${JSON.stringify(MONITOR)};
  const log = { warn: (_fields, message) => console.log(message) };
  const monitor = openMonitor(() => console.log('change'), { log });
  process.stdin.on('end', () => monitor.close().then(() => console.log('closed'))).resume();
`;

/** Starts a process with a monitor in h1; `printed` grows by a line for each change. */
function startMonitor(lab: KernelLab) {
  const child = lab.start('h1', [process.execPath, '--import', 'tsx', '--input-type=module', '-e', SCRIPT]);
  const state = { child, printed: '' };
  child.stdout!.on('data', (chunk: Buffer) => (state.printed += chunk.toString()));
  return state;
}

/** Children of a process by pid. */
async function childrenOf(pid: number): Promise<number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8');
  const pids = text
    .trim()
    .split(' ')
    .filter((word) => word !== '')
    .map(Number);
  const commands = await Promise.all(
    pids.map((child) => readFile(`/proc/${child}/cmdline`, 'utf8').catch(() => '')),
  );
  return pids.filter((_, index) => commands[index].includes('monitor'));
}

const changes = (text: string) => text.split('\n').filter((line) => line === 'change').length;

t.test(
  'openMonitor() tells of changes, few times for many, and not of the neighbours of others',
  { skip: LAB_SKIP },
  (t) =>
    withLab(async (lab) => {
      const monitor = startMonitor(lab);
      await waitFor('start', () => Promise.resolve(monitor.printed.includes('change')));
      const lines = Array.from(
        { length: 500 },
        (_, i) => `route add 10.9.${i >> 8}.${i & 255}/32 via 192.0.2.254\n`,
      );
      await lab.exec('h1', ['ip', '-batch', '-'], lines.join(''));
      await waitFor('changes', () => Promise.resolve(changes(monitor.printed) >= 2));
      await new Promise((resolve) => setTimeout(resolve, 200));
      const after = changes(monitor.printed);
      t.ok(after <= 6, `${after - 1} calls for 500 routes`);
      await lab.sh('h1', 'ip neigh replace 192.0.2.77 lladdr 02:00:00:00:00:77 dev eth0 nud permanent');
      await new Promise((resolve) => setTimeout(resolve, 200));
      t.equal(changes(monitor.printed), after, 'a neighbour on another device');

      const [pid] = await childrenOf(monitor.child.pid!);
      process.kill(pid, 'SIGKILL');
      await waitFor('restart', async () => {
        const [next] = await childrenOf(monitor.child.pid!);
        return next !== undefined && next !== pid;
      });
      await waitFor('told after the restart', () => Promise.resolve(changes(monitor.printed) > after));
      t.match(monitor.printed, 'kernel monitor ended, restarting');
      monitor.child.stdin!.end();
      await waitFor('closed', () => Promise.resolve(monitor.printed.includes('closed')));
    }),
);

t.test('the child of openMonitor() ends with a process that is killed', { skip: LAB_SKIP }, (t) =>
  withLab(async (lab) => {
    const monitor = startMonitor(lab);
    const [pid] = await waitFor('child', async () => {
      const pids = await childrenOf(monitor.child.pid!);
      return pids.length === 1 && monitor.printed.includes('change') && pids;
    });
    monitor.child.kill('SIGKILL');
    await waitFor(
      'its end',
      async () => (await run('ps', ['-o', 'stat=', '-p', String(pid)]).catch(() => 'Z')).startsWith('Z'),
      1_000,
    );
    t.pass('gone');
  }),
);
