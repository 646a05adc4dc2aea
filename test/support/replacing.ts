// A daemon of a lab that is replaced by another one: taken over by it, or killed below a holder that starts it.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Host, type Lab, PROJECT_ROOT, type Task, waitFor } from './lab.js';

export const HOLDER = join(PROJECT_ROOT, 'build', 'Release', 'twill-holder');

/** A daemon that is replaced. */
export interface Replaced {
  readonly lab: Lab;
  readonly host: Host;
  /** Its command line, as `env` takes it. */
  readonly words: readonly string[];
  task: Task;
}

function readies({ task }: Replaced): number {
  return task.log().split('ready after').length - 1;
}

/** Ends the daemon below a holder by a signal; resolves when the next one forwards. */
export function ending(signal: NodeJS.Signals): (daemon: Replaced) => Promise<void> {
  return async (daemon) => {
    const { pid } = daemon.task.child;
    const before = readies(daemon);
    // The older one: the other one is on standby.
    const [child] = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ');
    process.kill(Number(child), signal);
    await waitFor(() => readies(daemon) > before, 'the daemon to be ready again');
  };
}

/** Resolves when the next one forwards and the one before is gone. */
export async function takeOver(daemon: Replaced): Promise<void> {
  const { lab, host, words, task } = daemon;
  const next = await lab.spawnUntil(host.ns, 'env', [...words, '--takeover'], /ready after/);
  await waitFor(() => task.child.exitCode !== null, 'the daemon before to end');
  daemon.task = next;
}
