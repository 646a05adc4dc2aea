// A host whose engine talks to one peer over either family, without a daemon: `outer-host.ts <1 or 2> <v6|dual>
// <queues>`. Its device has fd00:5:0:<index>::1 and, when dual, 10.5.<index>.1; the peer is the other index at fd99::,
// and for IPv4 inside at 172.20.0.. Prints "ready", and on SIGTERM what it has seen as one line of JSON.

import { execFileSync } from 'node:child_process';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { OFFLOAD_FEATURES, type OffloadSwitches } from '../../src/config/options.js';
import {
  INBOUND_ARENA_WORDS,
  INBOUND_CAPACITY,
  InboundField,
  OUTBOUND_ARENA_WORDS,
  OUTBOUND_CAPACITY,
  OUTBOUND_CONTROL,
  OutboundField,
  takePathMtuEvents,
} from '../../src/native/arena.js';
import {
  INBOUND_COUNTERS,
  inboundIndex,
  OFFENDER_WORDS,
  OUTBOUND_COUNTERS,
} from '../../src/native/counters.js';
import { native } from '../../src/native/native.js';

const PORT = 8285;
/** A worker has no tsx of its own. */
const WORKER = `import(${JSON.stringify(import.meta.resolve('tsx/esm/api'))}).then(({ register }) => {
  register();
  return import(${JSON.stringify(import.meta.url)});
});`;

interface Task {
  readonly engine: number;
  readonly queue: number;
  readonly isOutbound: boolean;
  readonly index: number;
}

/** What a host has seen. */
export interface OuterSeen {
  readonly outbound: Readonly<Record<string, number>>;
  readonly inbound: Readonly<Record<string, number>>;
  /** The queue that received it, the words of the outer source, and of the peer's the low byte of the port. */
  readonly senders: readonly string[];
  readonly events: readonly string[];
}

const peerV4 = (index: number): number => 0xac140000 + index;
const hostV6 = (index: number): number[] => [0xfd990000, 0, 0, index];
const subnetV6 = (index: number): number[] => [0xfd000005, index, 0, 0];
const hex = (words: readonly number[]): string => words.map((word) => (word >>> 0).toString(16)).join(':');

function send({ engine, queue, index }: Task): void {
  const arena = new Int32Array(OUTBOUND_ARENA_WORDS);
  const port = new native.OutboundPort(engine, queue, arena.buffer);
  const peer = 3 - index;
  const set = (field: number, rest: number, i: number, words: readonly number[]): void => {
    arena[field + i] = words[0];
    for (let word = 1; word < 4; word++) arena[rest + (word - 1) * OUTBOUND_CAPACITY + i] = words[word];
  };
  for (let count = port.step(); count >= 0; count = port.step()) {
    for (const { peer: of, mtuBytes } of takePathMtuEvents(arena, OUTBOUND_CONTROL))
      parentPort!.postMessage({ events: `${typeof of === 'number' ? of : hex(of)} ${mtuBytes}` });
    for (let i = 0; i < count; i++) {
      const isWide = arena[OutboundField.WIDE + i];
      arena[OutboundField.VERDICT + i] = 0;
      arena[OutboundField.OUTER_WIDE + i] = isWide;
      if (isWide === 1) {
        set(OutboundField.PEER_ADDRESS, OutboundField.PEER_ADDRESS_REST, i, hostV6(peer));
        set(OutboundField.REPLY_SOURCE, OutboundField.REPLY_SOURCE_REST, i, subnetV6(peer));
      } else {
        arena[OutboundField.PEER_ADDRESS + i] = peerV4(peer);
        arena[OutboundField.REPLY_SOURCE + i] = 0x0a050000 + 256 * peer;
      }
      arena[OutboundField.PEER_PORT + i] = PORT;
      arena[OutboundField.PEER_MTU + i] = isWide === 1 ? 1452 : 1472;
      arena[OutboundField.PEER_ID + i] = 0;
    }
  }
}

function receive({ engine, queue, index }: Task): void {
  const arena = new Int32Array(INBOUND_ARENA_WORDS);
  const port = new native.InboundPort(engine, queue, arena.buffer);
  const seen = new Set<string>();
  const known = [hex(hostV6(3 - index)), hex([peerV4(3 - index)])];
  for (let count = port.step(); count >= 0; count = port.step()) {
    for (let i = 0; i < count; i++) {
      const words = [arena[InboundField.OUTER_SOURCE + i]];
      if (arena[InboundField.OUTER_WIDE + i] === 1)
        for (let word = 0; word < 3; word++)
          words.push(arena[InboundField.OUTER_SOURCE_REST + word * INBOUND_CAPACITY + i]);
      const source = hex(words);
      const isKnown = known.includes(source);
      arena[InboundField.VERDICT + i] = isKnown ? 0 : inboundIndex('drop_unknown_peer');
      arena[InboundField.PEER_ID + i] = isKnown ? 0 : -1;
      arena[InboundField.AUDIT + i] = 0;
      const sender = `${queue} ${source} ${isKnown ? arena[InboundField.OUTER_PORT + i] & 0xff : '-'}`;
      if (seen.has(sender)) continue;
      seen.add(sender);
      parentPort!.postMessage({ senders: sender });
    }
  }
}

function counters(engine: number, isOutbound: boolean): Record<string, number> {
  const names = isOutbound ? OUTBOUND_COUNTERS : INBOUND_COUNTERS;
  const values = new Float64Array(names.length);
  native.readCounters(engine, isOutbound, values, new Uint32Array(OFFENDER_WORDS * names.length));
  return Object.fromEntries(names.map((name, i) => [name, values[i]]));
}

function main(index: number, isDual: boolean, queues: number): void {
  const engine = native.open({
    device: 'flannel0',
    listen: { ...(isDual && { v4: peerV4(index) }), v6: hostV6(index) },
    port: PORT,
    queues,
    offload: Object.fromEntries(OFFLOAD_FEATURES.map((feature) => [feature, true])) as OffloadSwitches,
    inner: {
      ...(isDual && {
        v4: { replySource: 0x0a050000, ownAddress: 0x0a050000 + 256 * index, broadcast: 0x0a05ffff },
      }),
      v6: { replySource: subnetV6(0), ownAddress: subnetV6(index) },
    },
    reserved: false,
    anyOption: false,
    auditOptions: false,
    bufferBytes: 4 << 20,
  });
  if ('errno' in engine) throw new Error(`${engine.operation}: errno ${engine.errno}`);
  for (const command of [
    'link set flannel0 mtu 1452 up',
    `-6 address add fd00:5:0:${index}::1/128 dev flannel0 nodad`,
    '-6 route add fd00:5::/48 dev flannel0',
    `address add 10.5.${index}.1/32 dev flannel0`,
    '-4 route add 10.5.0.0/16 dev flannel0',
  ])
    execFileSync('ip', command.split(' '));
  const seen = { senders: [] as string[], events: [] as string[] };
  for (let queue = 0; queue < queues; queue++) {
    for (const isOutbound of [true, false]) {
      const task: Task = { engine: engine.id, queue, isOutbound, index };
      const worker = new Worker(WORKER, { eval: true, execArgv: [], workerData: task });
      worker.on('message', (told: { senders?: string; events?: string }) => {
        if (told.senders !== undefined) seen.senders.push(told.senders);
        if (told.events !== undefined) seen.events.push(told.events);
      });
    }
  }
  const { tcp, udp } = native.probe(engine.id);
  process.stdout.write(`ready ${JSON.stringify({ tcp, udp })}\n`);
  process.on('SIGTERM', () => {
    const all: OuterSeen = {
      outbound: counters(engine.id, true),
      inbound: counters(engine.id, false),
      ...seen,
    };
    process.stdout.write(`${JSON.stringify(all)}\n`, () => process.exit(0));
  });
}

if (isMainThread) main(Number(process.argv[2]), process.argv[3] === 'dual', Number(process.argv[4]));
else if ((workerData as Task).isOutbound) send(workerData as Task);
else receive(workerData as Task);
