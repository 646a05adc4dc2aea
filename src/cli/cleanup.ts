// `twill cleanup`: removes what twill keeps in the kernel when it ends.

import { findTraces } from '../cleanup/traces.js';
import { heldNetworks } from '../kernel/host-lock.js';
import { type Address, formatPrefix, parseAnyPrefix, type Prefix, prefixesOverlap } from '../net/prefix.js';
import { type Command, type OptionValues, show, UsageError } from './command.js';
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

/** What of --network is to go; undefined: everything. Throws UsageError. */
function networkOption(values: OptionValues): Prefix<Address> | undefined {
  const text = values['network'];
  if (text === undefined) return undefined;
  const network = parseAnyPrefix(String(text));
  if (network === undefined)
    throw new UsageError(
      `--network is ${JSON.stringify(text)}: expected a network like 10.5.0.0/16 or fd00:5::/48`,
    );
  return network;
}

/** Throws an Error, which says what to do, when a daemon still needs what would go. */
async function refuseWhileServed(network: Prefix<Address> | undefined, socketPath: string): Promise<void> {
  if (network === undefined) {
    if (!(await isDaemonAlive(socketPath))) return;
    throw new Error(
      'a daemon is running on this host: stop it first, name another network with --network, or use --force',
    );
  }
  const served = (await heldNetworks()).find((held) => prefixesOverlap(held, network));
  if (served === undefined) return;
  throw new Error(`a daemon serves network ${formatPrefix(served)}: stop it first, or use --force`);
}

export const CLEANUP: Command = {
  name: 'cleanup',
  summary: 'removes every device, lane, route and firewall rule of ours; the daemon must be stopped',
  help: [
    '--network <cidr>  only what belongs to this Network; daemons of others may run',
    '--dry-run         only says what would be removed',
    '--force           also while a daemon is running',
  ],
  options: { network: { type: 'string' }, 'dry-run': { type: 'boolean' }, force: { type: 'boolean' } },
  run: async (context) => {
    const isDryRun = context.options['dry-run'] === true;
    const network = networkOption(context.options);
    if (!isDryRun && context.options['force'] !== true) await refuseWhileServed(network, context.socketPath);
    const steps: Step[] = [];
    for (const trace of await findTraces(network)) {
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
