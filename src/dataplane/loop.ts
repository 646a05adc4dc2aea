// The worker loop: steps the addon, which sleeps when there is nothing, and judges what it returns.
//
// A batch that was judged is sent or delivered by the next step, before that step reads more.

import type { SourceCheck } from '../config/options.js';
import { OUTBOUND_CONTROL, type PathMtuEvent, takePathMtuEvents } from '../native/arena.js';
import { judgeInbound, newInboundArena, type OwnHost } from './inbound.js';
import type { Native, NativePort } from '../native/native.js';
import { judgeOutbound, newOutboundArena } from './outbound.js';
import type { RouteReader } from './route-table.js';

/** What one thread works on (docs/adr/0004). */
export type Direction = 'outbound' | 'inbound';

export interface LoopContext {
  readonly table: RouteReader;
  readonly own: OwnHost;
  readonly sourceCheck: SourceCheck;
  /** Called for a path that became narrower; rare. */
  readonly report: (event: PathMtuEvent) => void;
}

/**
 * Attaches to a direction of a queue, calls `begin`, runs until it ends, and returns its -errno. The port is closed
 * then.
 */
export function runLoop(
  native: Native,
  engine: number,
  queue: number,
  direction: Direction,
  context: LoopContext,
  begin: () => void,
): number {
  const arena = direction === 'outbound' ? newOutboundArena() : newInboundArena();
  const Port = direction === 'outbound' ? native.OutboundPort : native.InboundPort;
  const port = new Port(engine, queue, arena.buffer as ArrayBuffer);
  try {
    begin();
    return direction === 'outbound' ? runOutbound(port, arena, context) : runInbound(port, arena, context);
  } finally {
    port.close();
  }
}

function runOutbound(port: NativePort, arena: Int32Array, context: LoopContext): number {
  for (;;) {
    const count = port.step();
    if (count < 0) return count;
    if (count > 0) {
      context.table.enter();
      judgeOutbound(arena, count, context.table, context.own);
      context.table.leave();
    }
    if (arena[OUTBOUND_CONTROL] !== 0) takePathMtuEvents(arena, OUTBOUND_CONTROL).forEach(context.report);
  }
}

function runInbound(port: NativePort, arena: Int32Array, context: LoopContext): number {
  for (;;) {
    const count = port.step();
    if (count < 0) return count;
    if (count > 0) {
      context.table.enter();
      judgeInbound(arena, count, context.table, context.own, context.sourceCheck);
      context.table.leave();
    }
  }
}
