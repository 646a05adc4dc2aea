// Runs steps in their order, in as few batches as possible.

import { groupBy } from '../core/group-by.js';
import { meansGone } from '../kernel/ip.js';
import type { Kernel } from '../kernel/kernel.js';
import { lineOf, placeOf, type Step } from './diff.js';

/** A step that the kernel did not take. */
export interface RefusedStep {
  readonly step: Step;
  readonly message: string;
}

/**
 * Performs `steps` place by place and resolves with what was refused; a removal of something that is gone already is
 * success. A peer that fails in one place is left out of those after it. Cost: one process for each place and tool.
 */
export async function performSteps(kernel: Kernel, steps: readonly Step[]): Promise<RefusedStep[]> {
  const refused: RefusedStep[] = [];
  const failed = new Set<string>();
  for (const ofPlace of inOrder(steps, placeOf)) {
    const due = ofPlace.filter(({ peer }) => peer === undefined || !failed.has(peer));
    await Promise.all(
      inOrder(due, ({ object }) => object.kind.tool).map(async (batch) => {
        const { tool } = batch[0].object.kind;
        for (const { index, message } of await kernel.perform(tool, batch.map(lineOf))) {
          const step = batch[index];
          if (step.action !== 'add' && meansGone(message)) continue;
          if (step.peer !== undefined) failed.add(step.peer);
          refused.push({ step, message });
        }
      }),
    );
  }
  return refused;
}

/** Groups of equal `keyOf`, in the order of that; within a group the order stays. */
function inOrder<K extends string | number>(steps: readonly Step[], keyOf: (step: Step) => K): Step[][] {
  return [...groupBy(steps, keyOf)].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, members]) => members);
}
