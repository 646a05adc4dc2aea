// The kernel's side of the peers: reading what it holds, and running the batches that change it.

import { listFdb } from '../kernel/fdb.js';
import { ipBatch, meansGone, ROUTE_PROTOCOL } from '../kernel/ip.js';
import { listNeighbours } from '../kernel/neigh.js';
import { listRoutes } from '../kernel/route.js';
import { type Prefix, prefixCovers, prefixKey } from '../net/prefix.js';
import type { Route } from '../kernel/route.js';
import type { KernelState, Phases, Step } from './diff.js';

export interface ReadOptions {
  readonly network: Prefix;
  readonly tunnelDevice: string | undefined;
  /** Also routes of ours in the network of an earlier run, and all on the device. */
  readonly withElsewhere: boolean;
  readonly former: Prefix | undefined;
}

/** What the kernel holds. Cost: three processes (five with `withElsewhere`), about 25 µs for each peer. */
export async function readKernelState(options: ReadOptions): Promise<KernelState> {
  const { network, tunnelDevice: device, withElsewhere, former } = options;
  const [within, ours, onDevice, neighbours, fdb] = await Promise.all([
    listRoutes({ within: network }),
    withElsewhere && former !== undefined ? listRoutes({ protocol: ROUTE_PROTOCOL, within: former }) : [],
    withElsewhere && device !== undefined ? listRoutes({ device }) : [],
    device === undefined ? [] : listNeighbours(device),
    device === undefined ? [] : listFdb(device),
  ]);
  const elsewhere = new Map<string, Route>();
  for (const route of [...ours, ...onDevice]) {
    if (prefixCovers(network, route.prefix)) continue;
    const { gateway, device: through, protocol, metric } = route;
    elsewhere.set(`${prefixKey(route.prefix)} ${gateway} ${through} ${protocol} ${metric}`, route);
  }
  return { routes: [...within, ...elsewhere.values()], neighbours, fdb };
}

/** A step that the kernel did not take. */
export interface RefusedStep {
  readonly step: Step;
  readonly message: string;
}

/**
 * Runs the batches in their order and resolves with what was refused; a removal of something that is gone already is
 * success. A peer that fails in one batch is left out of those after it.
 */
export async function performPhases(phases: Phases): Promise<RefusedStep[]> {
  const refused: RefusedStep[] = [];
  const failed = new Set<string>();
  const run = async (tool: 'ip' | 'bridge', steps: readonly Step[]) => {
    const wanted = steps.filter((step) => step.id === undefined || !failed.has(step.id));
    if (wanted.length === 0) return;
    const lines = wanted.map((step) => step.line);
    for (const { index, message } of await ipBatch(lines, { tool })) {
      const step = wanted[index];
      if (step.isRemoval && meansGone(message)) continue;
      if (step.id !== undefined) failed.add(step.id);
      refused.push({ step, message });
    }
  };
  await Promise.all([run('ip', phases.neighbours), run('bridge', phases.fdb)]);
  await run('ip', phases.routes);
  await Promise.all([run('bridge', phases.fdbRemovals), run('ip', phases.neighbourRemovals)]);
  return refused;
}
