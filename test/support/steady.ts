// A steady stream of numbered datagrams between two containers, each way (steady.cc): what arrived of it.

import { setTimeout } from 'node:timers/promises';
import type { Test } from 'tap';
import type { Host, Lab, Task } from './lab.js';

const PORT = '9904';

export interface Arrived {
  readonly received: number;
  readonly twice: number;
  readonly overtaken: number;
  readonly longestGapMs: number;
}

/** Numbered datagrams both ways; resolves with what arrived at b and at a, when `during` and they have ended. */
export async function sendBothWays(
  lab: Lab,
  [a, b]: readonly [Host, Host],
  rate: number,
  seconds: number,
  during: () => Promise<unknown>,
): Promise<readonly Arrived[]> {
  const program = lab.compile('test/support/steady.cc');
  const sink = (ns: string): Promise<Task> => lab.spawnUntil(ns, program, ['sink', PORT], /listening/);
  const sinks = [await sink(b.containerNs), await sink(a.containerNs)];
  const send = async (from: Host, to: Host): Promise<unknown> => {
    const words = ['send', to.containerIp, PORT, String(rate), String(seconds)];
    return await lab.run(from.containerNs, program, words, { timeoutMs: 1_000_000 });
  };
  await Promise.all([send(a, b), send(b, a), during()]);
  await setTimeout(300);
  await Promise.all(sinks.map((task) => lab.end(task)));
  return sinks.map((task) => JSON.parse(task.log().split('\n')[1]) as Arrived);
}

/** All of both directions, but for `mayMiss` of each. */
export function checkArrived(t: Test, arrived: readonly Arrived[], sent: number, mayMiss: number): void {
  for (const [i, { received, twice, overtaken, longestGapMs }] of arrived.entries()) {
    t.comment(`${i === 0 ? 'out' : 'in'}: ${received} of ${sent}, longest gap ${longestGapMs} ms`);
    t.ok(sent - received <= mayMiss, `${sent - received} lost`);
    t.equal(twice, 0, 'none doubled');
    t.equal(overtaken, 0, 'none overtaken');
  }
}
