// The worker loop: steps the addon, judges what it returns, sleeps when there is nothing.
//
// A batch that was judged is sent or delivered by the next step, before that step reads more. With both directions on
// one thread the two take turns; each turn is bounded by the size of a batch.

import { INBOUND_CONTROL, OUTBOUND_CONTROL, type PathMtuEvent, takePathMtuEvents } from './arena.js';
import { judgeInbound, newInboundArena, type OwnHost } from './inbound.js';
import type { SourceCheck } from '../config/options.js';
import type { Native, NativePort } from './native.js';
import { judgeOutbound, newOutboundArena } from './outbound.js';
import type { RouteReader } from './route-table.js';

/** What one thread works on. */
export type Direction = 'outbound' | 'inbound' | 'both';

export interface LoopContext {
  readonly table: RouteReader;
  readonly own: OwnHost;
  readonly sourceCheck: SourceCheck;
  /** Called for a path that became narrower; rare. */
  readonly report: (event: PathMtuEvent) => void;
}

/** The addon's port with the arenas of its directions. */
export interface LoopPort {
  readonly port: NativePort;
  readonly outbound: Int32Array | undefined;
  readonly inbound: Int32Array | undefined;
}

/** Attaches to a queue of an engine. */
export function openPort(native: Native, engine: number, queue: number, direction: Direction): LoopPort {
  const outbound = direction === 'inbound' ? undefined : newOutboundArena();
  const inbound = direction === 'outbound' ? undefined : newInboundArena();
  const buffer = (arena: Int32Array | undefined): ArrayBuffer | null =>
    (arena?.buffer as ArrayBuffer | undefined) ?? null;
  return { port: new native.Port(engine, queue, buffer(outbound), buffer(inbound)), outbound, inbound };
}

/** Runs until the port ends, and returns its -errno. */
export function runLoop({ port, outbound, inbound }: LoopPort, context: LoopContext): number {
  for (;;) {
    let found = 0;
    if (outbound !== undefined) {
      found = stepOutbound(port, outbound, context);
      if (found < 0) return found;
    }
    if (inbound !== undefined) {
      const runs = stepInbound(port, inbound, context);
      if (runs < 0) return runs;
      found += runs;
    }
    if (found > 0) continue;
    const waited = port.wait();
    if (waited < 0) return waited;
  }
}

function stepOutbound(port: NativePort, arena: Int32Array, context: LoopContext): number {
  const count = port.stepOutbound();
  if (count > 0) {
    context.table.enter();
    judgeOutbound(arena, count, context.table, context.own);
    context.table.leave();
  }
  if (arena[OUTBOUND_CONTROL] !== 0) takePathMtuEvents(arena, OUTBOUND_CONTROL).forEach(context.report);
  return count;
}

function stepInbound(port: NativePort, arena: Int32Array, context: LoopContext): number {
  const count = port.stepInbound();
  if (count > 0) {
    context.table.enter();
    judgeInbound(arena, count, context.table, context.own, context.sourceCheck);
    context.table.leave();
  }
  if (arena[INBOUND_CONTROL] !== 0) takePathMtuEvents(arena, INBOUND_CONTROL).forEach(context.report);
  return count;
}
