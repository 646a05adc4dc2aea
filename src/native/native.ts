// The C++ addon, typed. The only file that loads it; addon/binding/ is the other side.
//
// Errors cross as numbers: a negative result is -errno. Nothing here throws but a TypeError for wrong arguments.

import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import type { OffloadSwitches } from '../config/options.js';

/** What open() needs. Addresses are unsigned, host order. */
export interface NativeOpenOptions {
  readonly device: string;
  /** Where the sockets are bound, by family: one at least. IPv6 in words. */
  readonly listen: { readonly v4?: number; readonly v6?: readonly number[] };
  readonly port: number;
  /** 1 to 256; more than one makes the device multi-queue. */
  readonly queues: number;
  /** What is used where the kernel grants it. */
  readonly offload: OffloadSwitches;
  /** What each family inside needs. A packet of a family that is not here is dropped by its version. */
  readonly inner: {
    readonly v4?: {
      /** Source of ICMP errors about destinations that no lease covers. */
      readonly replySource: number;
      /** Address of the TUN device. */
      readonly ownAddress: number;
      /** Broadcast address of the overlay network: never answered. */
      readonly broadcast: number;
    };
    readonly v6?: { readonly replySource: readonly number[]; readonly ownAddress: readonly number[] };
  };
  /** Whether addresses of the reserved range 240/4 are hosts'. */
  readonly reserved: boolean;
  /** Whether received packets may have IP options that route or record, and whether those are counted. */
  readonly anyOption: boolean;
  readonly auditOptions: boolean;
  /** Wanted size of each socket buffer. */
  readonly bufferBytes: number;
  /** Descriptors to go on with instead of opening new ones; ESTALE when they are not what these options ask for. */
  readonly adopted?: NativeDescriptors;
}

/** The descriptors of an engine, each list by queue; one of a family that it has no sockets of is empty. */
export interface NativeDescriptors {
  readonly tun: readonly number[];
  readonly udp4: readonly number[];
  readonly udp6: readonly number[];
  /** From turns() of another engine, whose workers are waited for; empty when nobody has them. */
  readonly turns: readonly number[];
}

/** What was granted. `tunOffloads` holds the bits of TUNSETOFFLOAD. */
export interface NativeEngine {
  readonly id: number;
  /** Interface index of the device. */
  readonly deviceIndex: number;
  readonly tunOffloads: number;
  readonly udpGro: boolean;
  /** Datagrams one message may carry; 1 without UDP_SEGMENT. */
  readonly udpSegments: number;
  readonly receiveBufferBytes: number;
  readonly sendBufferBytes: number;
  /** Bytes that may wait in each queue of the device; 0 without a bound. */
  readonly queueBytes: number;
  /** "avx2" or "portable". */
  readonly checksum: string;
}

export interface NativeFailure {
  readonly errno: number;
  /** The system call, ioctl or option that failed. */
  readonly operation: string;
}

/**
 * One direction of one queue, owned by the thread that made it. A step that finds nothing sleeps until there may be
 * something, a tenth of a second at most; it returns 0 when there still is nothing.
 */
export interface NativePort {
  /**
   * Sends or delivers the batch before as its verdicts say, and returns the number of new descriptors (outbound) or
   * runs (inbound); 0 for none; -errno when it ends.
   */
  step(): number;
  close(): void;
}

/**
 * The raw ICMP socket of the path probes, on the event loop of the thread that made it; it does not keep the process
 * alive. onBatch gets the number of packets that lie one behind the other in `buffer`, the i-th ending at ends[i]; they
 * are overwritten when it has returned. A negative number is -errno.
 */
export interface NativeIcmpSocket {
  /** 0 or -errno: -EPERM without CAP_NET_RAW. */
  open(): number;
  /**
   * One message without its IP header, to an address or, over ICMPv6, to its words; 0 or -errno: -EMSGSIZE when the
   * interface does not take the size.
   */
  send(to: number | readonly number[], message: Uint8Array): number;
  /** Idempotent. What is called afterwards gets -EBADF. */
  close(): void;
}

/** What openLane() needs. Addresses are unsigned, host order. */
export interface NativeLaneOptions {
  /** Interface index of the Ethernet device that the other hosts' datagrams arrive at. */
  readonly uplinkIndex: number;
  readonly ownNetwork: number;
  readonly ownMask: number;
  readonly listenAddress: number;
  readonly publicIp: number;
  readonly port: number;
  readonly mode: LaneModeNumber;
  /** How long a flow stays with the engine after the packet that took it there. */
  readonly quietMs: number;
  /** What one CPU may send by the lane in about a millisecond: not ICMP, and when it is for all, not TCP. */
  readonly packetsPerMs: number;
  /** Below a mounted BPF file system, made when it is missing; '' when the lane shall end with the process. */
  readonly pinFolder: string;
}

/** Off, sparse, all; alone, which is all while no engine reads the device. */
export type LaneModeNumber = 0 | 1 | 2 | 3;

export interface NativeLane {
  /** Whether the lane will go on without the process. */
  readonly pinned: boolean;
  readonly encapInstructions: number;
  readonly decapInstructions: number;
}

export type LaneProgramName = 'encap' | 'decap';

export interface NativeLaneProgram {
  /** Instructions of 8 bytes, struct bpf_insn. */
  readonly code: Uint8Array;
  /** Each stands before an instruction: the name of a label, or why. */
  readonly remarks: readonly {
    readonly instruction: number;
    readonly text: string;
    readonly isLabel: boolean;
  }[];
}

/** `arena` has the size of its direction: outboundArenaWords or inboundArenaWords of the layout. */
export type NativePortClass = new (id: number, queue: number, arena: ArrayBuffer) => NativePort;

export interface NativeLayout {
  readonly outboundCounters: readonly string[];
  readonly inboundCounters: readonly string[];
  readonly outboundCapacity: number;
  readonly inboundCapacity: number;
  readonly outboundFields: number;
  readonly inboundFields: number;
  readonly outboundArenaWords: number;
  readonly inboundArenaWords: number;
  readonly controlWords: number;
  readonly laneTotals: readonly string[];
  readonly laneProofMs: number;
  readonly maxRows: number;
  readonly outerHeaderBytes: number;
  readonly outerHeaderBytesV6: number;
  readonly tunCsum: number;
  readonly tunTso4: number;
  readonly tunTso6: number;
  readonly tunTsoEcn: number;
  readonly tunUso4: number;
}

export interface Native {
  /** Opens TUN queues and sockets: all or nothing. */
  open(options: NativeOpenOptions): NativeEngine | NativeFailure;
  /**
   * Finds out which superpackets the device takes; to be called again while `result` is an -errno (it is down, say).
   */
  probe(id: number): { readonly result: number; readonly tcp: boolean; readonly udp: boolean };
  /** Wakes every port of the engine: their step() returns -ECANCELED from now on. */
  stop(id: number): number;
  /** Stops, and closes the descriptors once the last port is closed. Idempotent. */
  close(id: number): void;
  /** Its descriptors: to be handed on, and never to be closed. */
  descriptors(id: number): NativeDescriptors;
  /**
   * Descriptors that awaitTurn() waits on, the outbound and the inbound worker of each queue; never to be closed.
   * -errno.
   */
  turns(id: number): readonly number[] | number;
  /** Waits until a worker of turns() touches no packet any more, or is gone. 0 or -errno. Blocks the thread. */
  awaitTurn(fd: number, timeoutMs: number): number;
  /** Another process has its descriptors: what is attached to the device stays when the engine closes. 0 or -errno. */
  leaveDevice(id: number): number;
  /** Lets the device go away with the engine. */
  forgetDevice(id: number): number;
  /**
   * Adds the counters of all queues to `values`. `offenders` gets 13 words each: 1 for an outer host of IPv6 and 2 for
   * inner ones, then four words of the outer host, the inner source and the inner destination; zeros for none.
   */
  readCounters(id: number, outbound: boolean, values: Float64Array, offenders: Uint32Array): number;
  /** Adds four values a row, from row `first` on: packets and bytes outbound, packets and bytes inbound. */
  readPeers(id: number, values: Float64Array, first?: number): number;
  /** Two values a queue: the heartbeats of its outbound and its inbound worker. */
  readBeats(id: number, values: Uint32Array): number;
  /** Names the calling thread, for `top -H`. */
  nameThread(name: string): void;
  /** Ends the process without waiting for its threads; process.exit() joins them. */
  exitNow(code: number): void;
  /** Datagrams the kernel dropped because a receive buffer was full. */
  socketDrops(id: number): number;
  /**
   * The largest inner packet the kernel now believes to reach `peer` from `source` in one piece; -errno without a
   * route. Both of one family; IPv6 in words.
   */
  innerPathMtu(source: number | readonly number[], peer: number | readonly number[], port: number): number;
  /**
   * Whether the kernel has what a lane needs: `tcx` (since 6.6), and lets us load programs; else what it refused.
   */
  probeLane(): { readonly tcx: boolean } | NativeFailure;
  /**
   * Makes the lane of an engine: maps, and programs that are loaded and not attached yet. A lane that the engine has
   * already goes on until attachLane(), and its counters go on in the new one. EPROTOTYPE for a device that is no
   * Ethernet.
   */
  openLane(engine: number, options: NativeLaneOptions): NativeLane | NativeFailure;
  /**
   * Attaches what openLane() made, in place of a lane that was pinned by a process before or that the engine had. 0
   * or -errno: the lane that there was goes on then.
   */
  attachLane(engine: number): number;
  /** 0 or -errno. Off: nothing more is sent by the lane, and what other hosts send by theirs is still taken. */
  setLaneMode(engine: number, mode: LaneModeNumber): number;
  /**
   * Records of LANE_RECORD_WORDS words in this order, each atomic: a sum of LANE_RECORD kinds, network, prefix length,
   * and to set: peer address, port, MTU, row. To the lane that was opened last. 0, or -errno of the first that failed:
   * those before it are done.
   */
  updateLane(engine: number, records: Int32Array): number;
  /** A lane that is not pinned carries nothing any more, and its counters are final. 0 or -errno. */
  endLane(engine: number): number;
  /**
   * Fills `values`, indexed as LANE_TOTALS; zeros without a lane. Former: those of the lane that an earlier process had
   * pinned, and whose place this one took. 0 or -errno.
   */
  readLaneTotals(engine: number, values: Float64Array, former?: boolean): number;
  /** Milliseconds since a packet of each row was taken by the lane, from row `first` on; -1 for never. 0 or -errno. */
  readLaneHeard(engine: number, ageMs: Float64Array, first: number): number;
  /** A program of the lane as it would be for a host out of a book, with what its source says of it. For tests. */
  laneProgram(name: LaneProgramName): NativeLaneProgram;
  /** What the verifier of this kernel says of it; errno 0 when it accepts. For tests. */
  verifyLane(name: LaneProgramName): { readonly errno: number; readonly log: string };
  /** One datagram to a systemd notification socket (sd_notify(3)), with descriptors. 0 or -errno. */
  sdNotify(path: string, text: string, descriptors?: readonly number[]): number;
  /** Waits until what was sent to a notification socket was read. 0 or -errno. Blocks the thread. */
  sdBarrier(path: string, timeoutMs: number): number;
  /** A descriptor of a stream that is connected to a unix socket, the caller's to close; -errno. */
  connectUnix(path: string): number;
  /** One message of at most 4,096 bytes on a unix stream, with at most 64 descriptors. 0 or -errno. */
  sendMessage(socket: number, text: string, descriptors: readonly number[]): number;
  /** What comes next on a unix stream; descriptors are the caller's to close. Blocks the thread. */
  receiveMessage(
    socket: number,
    timeoutMs: number,
  ): { readonly text: string; readonly descriptors: readonly number[] } | NativeFailure;
  /** The user id that has connected to a unix socket (SO_PEERCRED); -errno. */
  peerUser(socket: number): number;
  /** A descriptor of the process that has connected to a unix socket, the caller's to close; -errno. */
  peerProcess(socket: number): number;
  /** Ends what peerProcess() gave by SIGKILL; 0 or -errno. */
  killProcess(process: number): number;
  /** A descriptor of an empty file in memory (memfd_create(2)), the caller's to close; -errno. */
  memoryFile(name: string): number;
  /** A duplicate of a descriptor, or itself, that no child process inherits; -errno. */
  ownDescriptor(fd: number, duplicate: boolean): number;
  readonly layout: NativeLayout;
  readonly OutboundPort: NativePortClass;
  readonly InboundPort: NativePortClass;
  /**
   * `buffer` holds the largest packet, 65,535 bytes, at least. `wide` is for ICMPv6: no header comes with a message,
   * but the 16 bytes of its source stand before it.
   */
  readonly IcmpSocket: new (
    buffer: ArrayBuffer,
    ends: Uint32Array,
    onBatch: (count: number) => void,
    wide?: boolean,
  ) => NativeIcmpSocket;
}

const require = createRequire(import.meta.url);
const load = require('node-gyp-build') as (root: string) => Native;

/** The addon. Loading fails with node-gyp-build's message when it was not built. */
export const native: Native = load(fileURLToPath(new URL('../..', import.meta.url)));

/** Notifies systemd; 0 or -errno. */
export function sdNotify(path: string, text: string): number {
  return native.sdNotify(path, text);
}
