// The process behind a LaneHost: an engine with a lane and no daemon, told by lines of JSON what to do.
//
// There are no workers. What the lane leaves to the engine is read from the engine's ports by `left` and `received`,
// which drop it. Calls are answered in order, one line each.

import { createInterface } from 'node:readline';
import { OFFLOAD_FEATURES, type OffloadSwitches } from '../../src/config/options.js';
import {
  INBOUND_ARENA_WORDS,
  InboundField,
  OUTBOUND_ARENA_WORDS,
  OutboundField,
} from '../../src/native/arena.js';
import {
  INBOUND_COUNTERS,
  OFFENDER_WORDS,
  inboundIndex,
  LANE_TOTALS,
  OUTBOUND_COUNTERS,
  outboundIndex,
} from '../../src/native/counters.js';
import {
  type LaneModeNumber,
  type NativeLaneOptions,
  type NativePort,
  native,
} from '../../src/native/native.js';

/** What a call is told. */
export interface LaneCall {
  readonly name: string;
  readonly args: readonly unknown[];
}

/** A packet that the engine got. Addresses are unsigned. */
export interface EnginePacket {
  readonly source: number;
  readonly destination: number;
  readonly bytes: number;
  readonly segments: number;
}

/** What the engine got, and its counters that are not 0. */
export interface EngineTake {
  readonly packets: readonly EnginePacket[];
  readonly counters: Readonly<Record<string, number>>;
}

const ALL_ON = Object.fromEntries(OFFLOAD_FEATURES.map((feature) => [feature, true])) as OffloadSwitches;

let engine = 0;
let outbound: { readonly port: NativePort; readonly arena: Int32Array };
let inbound: typeof outbound;

function nonzero(names: readonly string[], values: Float64Array): Record<string, number> {
  const result: Record<string, number> = {};
  names.forEach((name, i) => {
    if (values[i] !== 0) result[name] = values[i];
  });
  return result;
}

function counters(isOutbound: boolean): Record<string, number> {
  const names = isOutbound ? OUTBOUND_COUNTERS : INBOUND_COUNTERS;
  const values = new Float64Array(names.length);
  native.readCounters(engine, isOutbound, values, new Uint32Array(OFFENDER_WORDS * names.length));
  return nonzero(names, values);
}

/** Takes from a port until it is empty, or so many times; each packet is dropped. */
function take(isOutbound: boolean, steps = Infinity): EngineTake {
  const { port, arena } = isOutbound ? outbound : inbound;
  const field = isOutbound ? OutboundField : { ...InboundField, SOURCE: InboundField.INNER_SOURCE };
  const destination = isOutbound ? OutboundField.DESTINATION : InboundField.INNER_DESTINATION;
  const verdict = isOutbound ? outboundIndex('drop_no_table') : inboundIndex('drop_no_table');
  const packets: EnginePacket[] = [];
  for (let count = port.step(); count > 0; count = --steps > 0 ? port.step() : 0) {
    for (let i = 0; i < count; i++) {
      packets.push({
        source: arena[field.SOURCE + i] >>> 0,
        destination: arena[destination + i] >>> 0,
        bytes: arena[field.LENGTH + i],
        segments: arena[field.SEGMENTS + i],
      });
      arena[field.VERDICT + i] = verdict;
    }
  }
  return { packets, counters: counters(isOutbound) };
}

const CALLS: Readonly<Record<string, (...args: never[]) => unknown>> = {
  open(device: string, address: number, port: number, ownAddress: number) {
    const opened = native.open({
      device,
      listen: { v4: address },
      port,
      queues: 1,
      offload: ALL_ON,
      inner: { v4: { replySource: 0, ownAddress, broadcast: 0 } },
      reserved: false,
      anyOption: false,
      auditOptions: false,
      bufferBytes: 1 << 20,
    });
    if ('errno' in opened) return opened;
    engine = opened.id;
    const attach = (Port: typeof native.OutboundPort, words: number): typeof outbound => {
      const arena = new Int32Array(words);
      return { arena, port: new Port(engine, 0, arena.buffer) };
    };
    outbound = attach(native.OutboundPort, OUTBOUND_ARENA_WORDS);
    inbound = attach(native.InboundPort, INBOUND_ARENA_WORDS);
    return opened;
  },
  probeLane: () => native.probeLane(),
  openLane: (options: NativeLaneOptions) => native.openLane(engine, options),
  attachLane: () => native.attachLane(engine),
  setLaneMode: (mode: LaneModeNumber) => native.setLaneMode(engine, mode),
  updateLane: (records: number[]) => native.updateLane(engine, Int32Array.from(records)),
  totals() {
    const values = new Float64Array(LANE_TOTALS.length);
    const result = native.readLaneTotals(engine, values);
    if (result !== 0) return result;
    return nonzero(LANE_TOTALS, values);
  },
  heard(rows: number, first: number) {
    const ages = new Float64Array(rows);
    native.readLaneHeard(engine, ages, first);
    return [...ages];
  },
  peers(rows: number) {
    const values = new Float64Array(4 * rows);
    native.readPeers(engine, values);
    return [...values];
  },
  left: (steps?: number) => take(true, steps),
  received: () => take(false),
  forgetDevice: () => native.forgetDevice(engine),
  close: () => native.close(engine),
};

createInterface({ input: process.stdin }).on('line', (line) => {
  const { name, args } = JSON.parse(line) as LaneCall;
  console.log(JSON.stringify({ result: CALLS[name]?.(...(args as never[])) ?? null }));
});
