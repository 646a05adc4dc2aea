// The owner of one data path: engine, workers, counters. The route table belongs to the caller and outlives it.
//
// Life:  open ─► start ─► probe ─► (running) ─► close
// open() takes the device and the socket; start() starts two workers per queue, while the caller gives the device its
// address; probe() asks the device, once it is up, what it accepts; close() stops them, waits for them, and
// closes the descriptors. When the device or a worker fails, `onFailure` is called once and the caller closes and opens
// anew: there is no half-running state.

import { closeSync } from 'node:fs';
import type { OffloadFeature, OffloadSwitches, SourceCheck } from '../config/options.js';
import { errnoName } from '../core/errno.js';
import { OverlayError } from '../core/errors.js';
import { RESERVED_RANGE } from '../net/bogons.js';
import { formatEndpoints } from '../net/endpoint.js';
import { type Ipv4, ipv4 } from '../net/ipv4.js';
import {
  type Address,
  type DualAddress,
  type DualPrefix,
  lastOf,
  type Prefix,
  prefixesOverlap,
  stepped,
} from '../net/prefix.js';
import {
  INBOUND_COUNTERS,
  type InboundCounter,
  OFFENDER_WORDS,
  OUTBOUND_COUNTERS,
  type OutboundCounter,
} from '../native/counters.js';
import { type AddressWords, ofWords, wordsOf } from '../net/address-words.js';
import { Heartbeats } from './heartbeats.js';
import { Lane, type LaneOptions, type LaneRefusal, type LaneTotals } from './lane.js';
import { type NativeDescriptors, type NativeEngine, native } from '../native/native.js';
import { ownHostOf } from './own-host.js';
import type { PathMtuEvent } from './path-mtu.js';
import { MAX_ROWS, type RouteTable } from './route-table.js';
import { DIRECTIONS, type OnStuck, workerName, Workers } from './workers.js';

// Enough for some 60 ms of single datagrams at 1 Gbit/s; the kernel counts about 2,300 bytes for each.
const SOCKET_BUFFER_BYTES = 8 << 20;

interface InnerFamilies {
  readonly v4?: { readonly replySource: Ipv4; readonly ownAddress: Ipv4; readonly broadcast: Ipv4 };
  readonly v6?: { readonly replySource: AddressWords; readonly ownAddress: AddressWords };
}

const ECANCELED = 125;
const EBADFD = 77;

export interface DataplaneOptions {
  /** Device name, at most 15 bytes. */
  readonly device: string;
  /** Addresses of this host: those that sockets are bound to, and those that the peers send to. */
  readonly listen: DualAddress;
  readonly publicIp: DualAddress;
  readonly port: number;
  readonly queues: number;
  readonly offload: OffloadSwitches;
  readonly sourceCheck: SourceCheck;
  readonly networks: DualPrefix;
  readonly own: DualPrefix;
  readonly table: RouteTable;
  /**
   * Descriptors of an earlier data path to go on with; they stay the caller's. The workers then touch no packet before
   * release(), for the earlier one may still read them.
   */
  readonly adopted?: NativeDescriptors | undefined;
  readonly onPathMtu: (event: PathMtuEvent) => void;
  /**
   * The device is gone or a worker ended. Called at most once, between start() and close(); before, start() rejects.
   */
  readonly onFailure: (reason: string) => void;
}

/** The packet that was refused last under a counter. An address that is not known is 0 of its family. */
export interface Offender {
  readonly outer: Address;
  readonly source: Address;
  readonly destination: Address;
}

/** Counters of one direction since the data path was opened; `offenders` has an entry where an address is known. */
export interface DirectionCounters<Name extends string> {
  readonly values: Readonly<Record<Name, number>>;
  readonly offenders: ReadonlyMap<Name, Offender>;
}

/** The counters of both directions. */
export interface CounterSnapshot {
  readonly outbound: DirectionCounters<OutboundCounter>;
  readonly inbound: DirectionCounters<InboundCounter>;
  /** Datagrams lost because the socket's receive buffer was full. */
  readonly socketDrops: number;
  /** What the kernel lane did, which is in no counter above; absent when there was none. */
  readonly lane?: LaneTotals;
  /** What the lane of an earlier process had done when this one took its place; only of a data path that is open. */
  readonly formerLane?: LaneTotals;
}

/** What is left of a data path that is closed. */
export interface LastCounters extends CounterSnapshot {
  /** Four values for each row of the table, as peerCounters() gives them. */
  readonly peers: Float64Array;
}

/** Whether the kernel has granted something, or 'off' when it was not asked. */
export type Grant = boolean | 'off';

/** The offloads that are in use, and 'off' for each that was not asked for. */
export interface GrantedOffloads {
  readonly tso4: Grant;
  readonly tso6: Grant;
  readonly ecn: Grant;
  readonly uso: Grant;
  /** Datagrams one message may carry; 1 without UDP_SEGMENT. */
  readonly udpSegments: number | 'off';
  readonly udpGro: Grant;
  readonly mergeTcp: Grant;
  readonly mergeUdp: Grant;
  /** Bytes that may wait in each queue of the device; 0 when only packets are counted. */
  readonly queueBytes: number | 'off';
  readonly checksum: string;
  readonly receiveBufferBytes: number;
  readonly sendBufferBytes: number;
}

/**
 * Address from which ICMP about an unrouted destination comes: never the device's own, which the kernel calls martian.
 */
export function replySourceOf<A extends Address>(network: Prefix<A>, ownSubnet: Prefix<A>): A {
  return network.address !== ownSubnet.address
    ? network.address
    : stepped(network.address, ownSubnet.length, 1);
}

/** What the engine answers packets of each family from, and what it never answers. */
function innerOf(networks: DualPrefix, own: DualPrefix): InnerFamilies {
  return {
    ...(networks.v4 &&
      own.v4 && {
        v4: {
          replySource: replySourceOf(networks.v4, own.v4),
          ownAddress: own.v4.address,
          broadcast: lastOf(networks.v4),
        },
      }),
    ...(networks.v6 &&
      own.v6 && {
        v6: {
          replySource: wordsOf(replySourceOf(networks.v6, own.v6)),
          ownAddress: wordsOf(own.v6.address),
        },
      }),
  };
}

export class Dataplane {
  readonly #options: DataplaneOptions;
  readonly #engine: NativeEngine;
  readonly #workers: Workers;
  readonly #heartbeats: Heartbeats;
  #lane: Lane | undefined;
  #merge: { result: number; tcp: boolean; udp: boolean } = { result: 0, tcp: false, udp: false };
  /** Those of the data path before this one; its own duplicates. */
  readonly #turns: readonly number[];
  #isStarted = false;
  #isClosing = false;
  #failure: string | undefined;

  private constructor(options: DataplaneOptions, engine: NativeEngine) {
    this.#options = options;
    this.#engine = engine;
    this.#heartbeats = new Heartbeats(DIRECTIONS.length * options.queues);
    const { sourceCheck, table, onPathMtu, adopted } = options;
    this.#turns = adopted?.turns.map((fd) => native.ownDescriptor(fd, true)) ?? [];
    this.#workers = new Workers({
      engine: engine.id,
      isHeld: adopted !== undefined,
      turns: this.#turns,
      own: ownHostOf(options),
      sourceCheck,
      table,
      onPathMtu,
      onErrno: (worker, errno) => this.#fail(worker, errno),
      onEnd: (reason) => this.#failWith(reason),
    });
  }

  /**
   * Opens the device and the socket.
   *
   * @throws OverlayError E_PRIVILEGE without /dev/net/tun or CAP_NET_ADMIN, E_TUN when the device cannot be had,
   * E_SOCKET when the address or port cannot.
   */
  static open(options: DataplaneOptions): Dataplane {
    const { networks, own, listen } = options;
    const result = native.open({
      device: options.device,
      listen: {
        ...(listen.v4 !== undefined && { v4: listen.v4 }),
        ...(listen.v6 !== undefined && { v6: wordsOf(listen.v6) }),
      },
      port: options.port,
      queues: options.queues,
      offload: options.offload,
      inner: innerOf(networks, own),
      reserved: networks.v4 !== undefined && prefixesOverlap(networks.v4, RESERVED_RANGE),
      anyOption: options.sourceCheck === 'off' || options.sourceCheck === 'audit',
      auditOptions: options.sourceCheck === 'audit',
      bufferBytes: SOCKET_BUFFER_BYTES,
      ...(options.adopted && { adopted: options.adopted }),
    });
    if ('errno' in result) throw openError(options, result.errno, result.operation);
    return new Dataplane(options, result);
  }

  /** Of the device, which keeps it when it is renamed. */
  get deviceIndex(): number {
    return this.#engine.deviceIndex;
  }

  /**
   * Starts the workers; they may wait before the device is up. Resolves when all of them do.
   *
   * @throws OverlayError E_TUN when one of them ended, or is not ready within 10 s. What runs is to be closed then.
   */
  async start(): Promise<void> {
    await this.#workers.start(this.#options.queues);
    if (this.#failure !== undefined)
      throw new OverlayError('E_TUN', `The data path failed while it started: ${this.#failure}`);
    this.#isStarted = true;
  }

  /** Lets workers that wait since they adopted descriptors begin. Idempotent. */
  release(): void {
    this.#workers.release();
  }

  /** Whether the workers wait for release(). */
  get isHeld(): boolean {
    return this.#workers.areHeld;
  }

  /** Whether it goes on with the descriptors of an earlier one. */
  get isAdopted(): boolean {
    return this.#options.adopted !== undefined;
  }

  /** What it reads and sends by: to be handed on, and never to be closed. */
  descriptors(): NativeDescriptors {
    return native.descriptors(this.#engine.id);
  }

  /** The same for a data path whose workers wait for those of this one; undefined where that cannot be. */
  descriptorsToLeave(): NativeDescriptors | undefined {
    const turns = native.turns(this.#engine.id);
    return typeof turns === 'number' ? undefined : { ...this.descriptors(), turns };
  }

  /**
   * Finds out which superpackets the device takes, and lets the workers write those. Asks again when the device could
   * not answer (it is down), and notices that it takes them no longer; returns what is new since the last call, in
   * words.
   */
  probe(): readonly string[] {
    const before = this.#merge;
    const now = (this.#merge = native.probe(this.#engine.id));
    const news: string[] = [];
    if (now.result !== 0 && now.result !== before.result)
      news.push(`the device cannot be asked whether it takes superpackets: ${errnoName(now.result)}`);
    for (const kind of ['tcp', 'udp'] as const) {
      if (before[kind] && !now[kind])
        news.push(`the device refuses superpackets of ${kind} now: received packets are written one by one`);
      if (!before[kind] && now[kind] && before.result !== 0)
        news.push(`the device takes superpackets of ${kind}`);
    }
    return news;
  }

  /**
   * Opens the kernel lane beside the workers, once they run and the device has its address; or says why there is none.
   * Called again, it moves to another interface, if it can be had there.
   */
  openLane(options: Pick<LaneOptions, 'uplinkIndex' | 'mode' | 'pinFolder'>): Lane | LaneRefusal {
    const { port, table, ...host } = this.#options;
    const [ownSubnet, listenAddress, publicIp] = [host.own.v4, host.listen.v4, host.publicIp.v4];
    if (ownSubnet === undefined || listenAddress === undefined || publicIp === undefined)
      return { why: 'it carries IPv4 over IPv4, and the network has none' };
    const own = { engine: this.#engine.id, ownSubnet, listenAddress, publicIp, port, table };
    const opened = Lane.open({ ...options, ...own });
    if (!(opened instanceof Lane)) return opened;
    this.#lane?.leave();
    this.#lane = opened;
    return opened;
  }

  granted(): GrantedOffloads {
    const { layout } = native;
    const tun = this.#engine.tunOffloads;
    const { offload } = this.#options;
    const grant = <T>(feature: OffloadFeature, got: T): T | 'off' => (offload[feature] ? got : 'off');
    return {
      tso4: grant('tunTso', (tun & layout.tunTso4) !== 0),
      tso6: grant('tunTso', (tun & layout.tunTso6) !== 0),
      ecn: grant('tunTso', (tun & layout.tunTsoEcn) !== 0),
      uso: grant('tunUso', (tun & layout.tunUso4) !== 0),
      udpSegments: grant('udpSegment', this.#engine.udpSegments),
      udpGro: grant('udpGro', this.#engine.udpGro),
      mergeTcp: grant('mergeTcp', this.#merge.tcp),
      mergeUdp: grant('mergeUdp', this.#merge.udp),
      queueBytes: grant('tunQueueBound', this.#engine.queueBytes),
      checksum: this.#engine.checksum,
      receiveBufferBytes: this.#engine.receiveBufferBytes,
      sendBufferBytes: this.#engine.sendBufferBytes,
    };
  }

  /** Looks at the heartbeats, about once a second; returns the workers that have not moved for HUNG_MS. */
  hungWorkers(nowMs: number): readonly string[] {
    if (this.isHeld) return [];
    const beats = new Uint32Array(DIRECTIONS.length * this.#options.queues);
    native.readBeats(this.#engine.id, beats);
    this.#heartbeats.observe(beats, nowMs);
    return this.#heartbeats
      .hung()
      .map((i) => workerName(DIRECTIONS[i % DIRECTIONS.length], Math.floor(i / DIRECTIONS.length)));
  }

  counters(): CounterSnapshot {
    return {
      outbound: this.#read(true, OUTBOUND_COUNTERS),
      inbound: this.#read(false, INBOUND_COUNTERS),
      socketDrops: native.socketDrops(this.#engine.id),
      ...(this.#lane && { lane: this.#lane.totals(), formerLane: this.#lane.formerTotals() }),
    };
  }

  /**
   * Four values for each of `rows` rows from `first` on: packets and bytes outbound, packets and bytes inbound. A row's
   * counters go on when its lease changes (backend/udp/traffic.ts).
   */
  peerCounters(rows: number): Float64Array {
    return this.readPeers(new Float64Array(4 * Math.min(rows, MAX_ROWS)));
  }

  /** As peerCounters(), for the rows from `first` on that `values` has room for. */
  readPeers(values: Float64Array, first = 0): Float64Array {
    values.fill(0); // the addon adds
    native.readPeers(this.#engine.id, values, first);
    return values;
  }

  /**
   * The largest inner packet that reaches `peer` in one piece, as far as the kernel knows; undefined without a route.
   */
  innerPathMtu(peer: Address): number | undefined {
    const { listen, port } = this.#options;
    const source = typeof peer === 'number' ? listen.v4 : listen.v6;
    if (source === undefined) return undefined;
    const bytes = native.innerPathMtu(plainOf(source), plainOf(peer), port);
    return bytes > 0 ? bytes : undefined;
  }

  /**
   * Stops at once; packets already read are sent first. The last counters. The device stays, without a reader, unless
   * `forgetDevice` is set. Resolves within a second: a worker that does not end by then is told to `onStuck` and left
   * behind with the descriptors, and the process will not wait for it when it exits. Not to be called twice.
   */
  async close(
    options: {
      readonly forgetDevice?: boolean;
      /** Another data path goes on with the descriptors. */
      readonly isHandedOn?: boolean;
      readonly onStuck?: OnStuck;
    } = {},
  ): Promise<LastCounters> {
    this.#isClosing = true;
    native.stop(this.#engine.id);
    // Their counts are final then, long before their threads have ended, which takes a core for some 10 ms.
    if (options.isHandedOn !== true || !(await this.#workers.areQuiet()))
      await this.#workers.stop(options.onStuck);
    if (options.forgetDevice === true) native.forgetDevice(this.#engine.id);
    if (options.isHandedOn === true) native.leaveDevice(this.#engine.id);
    // With somebody to come who reads what waits in the queue, the lane must not overtake that.
    else this.#lane?.takeOver();
    this.#lane?.close();
    const last = { ...this.counters(), peers: this.peerCounters(this.#options.table.rowLimit) };
    native.close(this.#engine.id);
    for (const fd of this.#turns) closeSync(fd);
    return last;
  }

  #read<Name extends string>(outbound: boolean, names: readonly Name[]): DirectionCounters<Name> {
    const values = new Float64Array(names.length);
    const addresses = new Uint32Array(OFFENDER_WORDS * names.length);
    native.readCounters(this.#engine.id, outbound, values, addresses);
    const record: Partial<Record<Name, number>> = {};
    const offenders = new Map<Name, Offender>();
    names.forEach((name, i) => {
      record[name] = values[i]!;
      const offender = offenderOf(addresses.subarray(OFFENDER_WORDS * i, OFFENDER_WORDS * (i + 1)));
      if (isKnown(offender.outer) || isKnown(offender.source)) offenders.set(name, offender);
    });
    return { values: record as Record<Name, number>, offenders };
  }

  #fail(worker: string, error: number): void {
    if (error === -ECANCELED) return;
    this.#failWith(
      error === -EBADFD ? `device ${this.#options.device} was deleted` : `${worker}: ${errnoName(error)}`,
    );
  }

  #failWith(reason: string): void {
    if (this.#isClosing || this.#failure !== undefined) return;
    this.#failure = reason;
    if (this.#isStarted) this.#options.onFailure(reason);
  }
}

/** Addresses of IPv6 in words, as the addon takes them. */
function plainOf(address: Address): number | readonly number[] {
  return typeof address === 'number' ? address : wordsOf(address);
}

function isKnown(address: Address): boolean {
  return address !== 0 && address !== 0n;
}

/** Reads the families, and then four words of each address, of which IPv4 has the first alone. */
function offenderOf(words: Uint32Array): Offender {
  const addressAt = (at: number, isWide: boolean): Address =>
    isWide ? ofWords([words[at], words[at + 1], words[at + 2], words[at + 3]]) : ipv4(words[at]);
  const isInnerWide = (words[0] & 2) !== 0;
  return {
    outer: addressAt(1, (words[0] & 1) !== 0),
    source: addressAt(5, isInnerWide),
    destination: addressAt(9, isInnerWide),
  };
}

function openError(options: DataplaneOptions, errno: number, operation: string): OverlayError {
  const name = errnoName(-errno);
  const endpoint = formatEndpoints(options.listen, options.port);
  if (operation === 'open /dev/net/tun') {
    const why =
      name === 'ENOENT' ? 'the device node does not exist (is the tun module loaded?)' : 'cannot be opened';
    return new OverlayError('E_PRIVILEGE', `Cannot open /dev/net/tun: ${name}: ${why}`);
  }
  if (operation === 'TUNSETIFF' || operation === 'TUNSETVNETHDRSZ' || operation === 'TUNSETPERSIST') {
    const whys: Record<string, string> = {
      EPERM: 'needs CAP_NET_ADMIN',
      EBUSY: 'another process holds it',
      EINVAL: 'a device of that name exists with other flags, or is no TUN device',
    };
    const why = whys[name] ?? 'the kernel refused';
    const code = name === 'EPERM' ? 'E_PRIVILEGE' : 'E_TUN';
    return new OverlayError(
      code,
      `Cannot open TUN device "${options.device}": ${operation}: ${name}: ${why}`,
    );
  }
  if (name === 'ESTALE') {
    const why = `${operation}: it is of another device, address, port or number of queues`;
    return new OverlayError('E_TUN', `Cannot go on with what was kept for ${options.device}: ${why}`);
  }
  const whys: Record<string, string> = {
    EADDRINUSE: 'another process listens there',
    EADDRNOTAVAIL: 'no interface of this host has that address',
  };
  return new OverlayError(
    'E_SOCKET',
    `Cannot open UDP socket ${endpoint}: ${operation}: ${name}: ${whys[name] ?? 'the kernel refused'}`,
  );
}
