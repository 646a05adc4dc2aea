// `twill cleanup`: removes what twill keeps in the kernel when it ends.

import { findTraces } from '../backend/traces.js';
import { heldNetworks } from '../kernel/host-lock.js';
import { type Command, show } from './command.js';
import { DaemonUnreachable, fetchStatus } from './daemon-client.js';

interface Step {
  readonly kind: string;
  readonly name: string;
  readonly result: string;
}

async function isDaemonAlive(socketPath: string): Promise<boolean> {
  try {
    await fetchStatus(socketPath);
    return true;
  } catch (error) {
    if (!(error instanceof DaemonUnreachable)) throw error;
    // It may listen elsewhere, or nowhere.
    return !error.isAbsent || (await heldNetworks()).length > 0;
  }
}

export const CLEANUP: Command = {
  name: 'cleanup',
  summary: 'removes every device, route and firewall rule of ours; the daemon must be stopped',
  help: ['--dry-run    only says what would be removed', '--force      also while a daemon is running'],
  options: { 'dry-run': { type: 'boolean' }, force: { type: 'boolean' } },
  run: async (context) => {
    const isDryRun = context.options['dry-run'] === true;
    if (!isDryRun && context.options['force'] !== true && (await isDaemonAlive(context.socketPath))) {
      throw new Error('a daemon is running on this host: stop it first, or use --force');
    }
    const steps: Step[] = [];
    for (const trace of await findTraces()) {
      let result = 'would be removed';
      if (!isDryRun) {
        result = await trace.remove().then(
          () => 'removed',
          (error: Error) => `failed: ${error.message}`,
        );
      }
      steps.push({ kind: trace.kind, name: trace.name, result });
    }
    show(context, steps, () =>
      steps.length === 0
        ? 'nothing of ours is left in the kernel'
        : steps.map(({ kind, name, result }) => `${result}: ${kind} ${name}`).join('\n'),
    );
    return steps.some(({ result }) => result.startsWith('failed')) ? 1 : 0;
  },
};
