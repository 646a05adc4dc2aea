// The kernel lane: two BPF programs that carry packets of known peers between the TUN device and the network card by
// themselves, from a copy of the route table (docs/lane.md). What they do not take, the workers get as before.
//
//   open ─► filled ─► attached ─► closed        the engine closes it with itself, or leaves it to the next by its pins
//
// It follows every publication of the table (lane-table.ts), some thousand records in a turn of the event loop. It is
// attached once it holds a whole table: another run's lane that is pinned goes on with its own until then.
//
// A map that could not be written is behind the table. Then nothing is given to the lane any more, and the same records
// are tried again with each look (once a second).

import { errnoName } from '../core/errno.js';
import { LANE_RECORD_WORDS, LANE_TOTALS, type LaneTotal } from '../native/counters.js';
import { native } from '../native/native.js';
import type { Ipv4 } from '../net/ipv4.js';
import { maskOf, type Prefix } from '../net/prefix.js';
import { LaneTable } from './lane-table.js';
import type { RouteTable } from './route-table.js';
import type { TableChanges } from './table-changes.js';

/** Which packets the lane takes of those it may: none, those of flows that are quiet, all. */
export type LaneMode = 'off' | 'sparse' | 'all';

const MODE_NUMBERS = { off: 0, sparse: 1, all: 2, alone: 3 } as const;

/** Records in one turn of the event loop: some 4 ms of it. */
export const RECORDS_A_TURN = 4_096;

/**
 * A peer is sent TCP and UDP by the lane while its own lane was heard within this time: three echoes of the probes, and
 * twice the time in which two may be lost. The programs hold the same number (addon/lane/layout.h).
 */
export const PROVEN_MS = 15_000;

// How long a flow must have been quiet, and how many packets a millisecond all flows together may be, to count as
// sparse: docs/adr/0011-kernel-lane.md. One exchange of requests and answers is up to 60 packets a millisecond.
const QUIET_MS = 50;
const PACKETS_PER_MS = 100;

const EPERM = 1;
const EACCES = 13;

export interface LaneOptions {
  /** Id of the engine whose packets it takes. */
  readonly engine: number;
  /** The interface that datagrams of peers come in by. */
  readonly uplinkIndex: number;
  readonly ownSubnet: Prefix;
  readonly listenAddress: Ipv4;
  readonly publicIp: Ipv4;
  readonly port: number;
  readonly mode: LaneMode;
  /** Folder of a BPF file system that keeps it over a restart; "" for none. */
  readonly pinFolder: string;
  readonly table: RouteTable;
}

/** Why there is no lane, in words. */
export interface LaneRefusal {
  readonly why: string;
}

/** Packets and bytes of the lane, and why it left packets to the workers, since it was opened. */
export type LaneTotals = Readonly<Record<LaneTotal, number>>;

export class Lane {
  readonly #engine: number;
  readonly #table: RouteTable;
  readonly #changes: LaneTable;
  readonly #unfollow: () => void;
  /** Whether it outlives this process. */
  readonly isPinned: boolean;
  #mode: LaneMode;
  /** Records that are to be done, and how many words of the first entry are. */
  #behind: Int32Array[] = [];
  #done = 0;
  #turn: NodeJS.Immediate | undefined;
  #isAttached = false;
  #fault: string | undefined;

  private constructor({ engine, table, mode }: LaneOptions, isPinned: boolean) {
    this.#engine = engine;
    this.#table = table;
    this.#mode = mode;
    this.isPinned = isPinned;
    this.#changes = new LaneTable(table);
    this.#changes.insertAll();
    this.#unfollow = table.follow((changes) => this.#published(changes));
    this.#published();
  }

  /** Loads the programs and begins to fill their map. What the kernel refuses is no error: there is no lane then. */
  static open(options: LaneOptions): Lane | LaneRefusal {
    const { engine, uplinkIndex, ownSubnet, listenAddress, publicIp, port, mode, pinFolder } = options;
    const probed = native.probeLane();
    if ('errno' in probed) return { why: refusalOf(probed.operation, probed.errno) };
    if (!probed.tcx) return { why: 'the kernel attaches no program to both devices (tcx, Linux 6.6)' };
    const opened = native.openLane(engine, {
      uplinkIndex,
      ownNetwork: ownSubnet.address,
      ownMask: maskOf(ownSubnet.length),
      listenAddress,
      publicIp,
      port,
      mode: MODE_NUMBERS[mode],
      quietMs: QUIET_MS,
      packetsPerMs: PACKETS_PER_MS,
      pinFolder,
    });
    if ('errno' in opened) return { why: refusalOf(opened.operation, opened.errno) };
    return new Lane(options, opened.pinned);
  }

  /** What it takes at present. */
  get mode(): LaneMode {
    return this.#isAttached && this.#fault === undefined ? this.#mode : 'off';
  }

  /** Why it takes nothing though its mode says so; undefined when it does. */
  get fault(): string | undefined {
    if (this.#fault !== undefined) return this.#fault;
    return this.#isAttached ? undefined : 'it waits for the leases';
  }

  /** Its map is not yet what the table is. */
  get isBehind(): boolean {
    return this.#behind.length > 0;
  }

  /** Changes what it takes. Packets of peers are taken in every mode: theirs may not know. */
  setMode(mode: LaneMode): void {
    if (mode === this.#mode) return;
    this.#mode = mode;
    if (this.#fault === undefined) this.#tell(mode);
  }

  /** Tries again what failed; about once a second. */
  retry(): void {
    if (this.#fault !== undefined && this.#turn === undefined) this.#work();
  }

  totals(): LaneTotals {
    return this.#readTotals(false);
  }

  /** Those of the lane of an earlier process that went on until this one took its place; zeros without one. */
  formerTotals(): LaneTotals {
    return this.#readTotals(true);
  }

  #readTotals(isFormer: boolean): LaneTotals {
    const values = new Float64Array(LANE_TOTALS.length);
    native.readLaneTotals(this.#engine, values, isFormer);
    return Object.fromEntries(LANE_TOTALS.map((name, i) => [name, values[i]])) as LaneTotals;
  }

  /** For rows from `first` to below `end`: whether the peer has a lane, and so is sent everything by this one. */
  provenRows(end: number, first = 0): (row: number) => boolean {
    const agesMs = new Float64Array(end - first);
    native.readLaneHeard(this.#engine, agesMs, first);
    return (row) => agesMs[row - first] >= 0 && agesMs[row - first] < PROVEN_MS;
  }

  /**
   * The workers are gone: while the next daemon is awaited, a lane that is pinned takes what would wait for them too.
   */
  takeOver(): void {
    if (this.isPinned && this.mode !== 'off') this.#tell('alone');
  }

  /** It carries nothing any more, unless it is pinned; totals() is what it did. */
  close(): void {
    native.endLane(this.#engine);
    this.leave();
  }

  /** Follows the table no more: another lane of its engine does. */
  leave(): void {
    this.#unfollow();
    clearImmediate(this.#turn);
    this.#turn = undefined;
    this.#behind = [];
  }

  #published(changes?: TableChanges): void {
    changes?.applyTo(this.#changes);
    const records = this.#changes.take();
    if (records.length > 0) this.#behind.push(records);
    if (this.#turn === undefined && this.#fault === undefined) this.#work();
  }

  /** As many records as a turn may have; the rest, and attaching it, when they are done. */
  #work(): void {
    let words = RECORDS_A_TURN * LANE_RECORD_WORDS;
    while (this.#behind.length > 0 && words > 0) {
      const [first] = this.#behind;
      const end = Math.min(first.length, this.#done + words);
      const result = native.updateLane(this.#engine, first.subarray(this.#done, end));
      if (result < 0) return this.#fail('its copy of the table cannot be written', result);
      words -= end - this.#done;
      this.#done = end;
      if (end < first.length) break;
      this.#behind.shift();
      this.#done = 0;
    }
    if (this.#behind.length > 0) {
      this.#turn = setImmediate(() => {
        this.#turn = undefined;
        this.#work();
      });
      return;
    }
    this.#caughtUp();
  }

  #caughtUp(): void {
    if (!this.#isAttached) {
      // With half a table it would take over from a lane that has a whole one.
      if (this.#table.isPartial) return;
      const result = native.attachLane(this.#engine);
      if (result < 0) return this.#fail('it cannot be attached', result);
      this.#isAttached = true;
    }
    if (this.#fault === undefined) return;
    this.#fault = undefined;
    this.#tell(this.#mode);
  }

  #fail(what: string, result: number): void {
    this.#fault = `${what}: ${errnoName(result)}`;
    this.#tell('off');
  }

  #tell(mode: keyof typeof MODE_NUMBERS): void {
    const result = native.setLaneMode(this.#engine, MODE_NUMBERS[mode]);
    if (result < 0) this.#fault = `its mode cannot be set: ${errnoName(result)}`;
  }
}

function refusalOf(operation: string, errno: number): string {
  const needs = [EPERM, EACCES].includes(errno) ? ': needs CAP_BPF and CAP_NET_ADMIN' : '';
  return `${operation}: ${errnoName(-errno)}${needs}`;
}
