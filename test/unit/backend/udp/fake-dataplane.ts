// A data path that carries nothing: it makes and keeps its device in a fake kernel, counts what a test says, and has
// the heartbeats of the real one.

import type { Descriptors } from '../../../../src/handover/descriptors.js';
import type { OpenDataplane, Opener } from '../../../../src/backend/udp/data-path.js';
import type { OpenLane } from '../../../../src/backend/udp/lane.js';
import type {
  CounterSnapshot,
  DataplaneOptions,
  DirectionCounters,
  LastCounters,
} from '../../../../src/dataplane/dataplane.js';
import type { LaneMode, LaneRefusal, LaneTotals } from '../../../../src/dataplane/lane.js';
import { Heartbeats } from '../../../../src/dataplane/heartbeats.js';
import { INBOUND_COUNTERS, LANE_TOTALS, OUTBOUND_COUNTERS } from '../../../../src/native/counters.js';
import type { Ipv4 } from '../../../../src/net/ipv4.js';
import type { FakeKernel } from '../../../support/fake-kernel.js';

type LaneOptions = Parameters<OpenDataplane['openLane']>[0];

/** A lane of which a test says what it carried and from whom it heard. */
export class FakeLane implements OpenLane {
  readonly options: LaneOptions;
  readonly carried: Partial<Record<keyof LaneTotals, number>> = {};
  readonly proven = new Set<number>();
  mode: LaneMode;
  fault: string | undefined;
  isBehind = false;

  constructor(options: LaneOptions) {
    this.options = options;
    this.mode = options.mode;
  }

  get isPinned(): boolean {
    return this.options.pinFolder !== '';
  }

  setMode(mode: LaneMode): void {
    this.mode = mode;
  }

  retry(): void {
    this.fault = undefined;
  }

  totals(): LaneTotals {
    return Object.fromEntries(LANE_TOTALS.map((name) => [name, this.carried[name] ?? 0])) as LaneTotals;
  }

  provenRows(): (row: number) => boolean {
    return (row) => this.proven.has(row);
  }
}

export class FakeDataplane implements OpenDataplane {
  readonly deviceIndex: number;
  readonly options: DataplaneOptions;
  readonly #kernel: FakeKernel;
  /** The name may go to another device meanwhile. */
  readonly #name: string;
  readonly #heartbeats = new Heartbeats(2);
  /** Of both workers; one that does not change is hung. */
  readonly beats = new Uint32Array(2);
  /** start() resolves when this does. */
  ready: Promise<void> = Promise.resolve();
  packetsIn = 0;
  rows = new Float64Array(64);
  pathMtus = new Map<Ipv4, number>();
  closings = 0;
  isBeating = true;
  isHeld: boolean;
  /** Every lane that was opened. */
  readonly lanes: FakeLane[] = [];
  /** Why there is none. */
  laneRefusal: string | undefined;

  constructor(kernel: FakeKernel, options: DataplaneOptions) {
    this.options = options;
    this.isHeld = options.adopted !== undefined;
    this.#kernel = kernel;
    this.#name = options.device;
    const data = { type: 'tun', persist: true, multi_queue: options.queues > 1 };
    const link =
      kernel.link(this.#name) ?? kernel.addLink(this.#name, undefined, { kind: 'tun', data, isUp: false });
    kernel.readers.add(this.#name);
    this.deviceIndex = link.index;
  }

  start(): Promise<void> {
    return this.ready;
  }

  get isAdopted(): boolean {
    return this.options.adopted !== undefined;
  }

  release(): void {
    this.isHeld = false;
  }

  descriptors(): Descriptors {
    return { tun: [this.deviceIndex], udp4: [this.deviceIndex + 1000], udp6: [], turns: [] };
  }

  descriptorsToLeave(): ReturnType<OpenDataplane['descriptors']> {
    return this.descriptors();
  }

  probe(): readonly string[] {
    return [];
  }

  openLane(options: LaneOptions): FakeLane | LaneRefusal {
    if (this.laneRefusal !== undefined) return { why: this.laneRefusal };
    const lane = new FakeLane(options);
    this.lanes.push(lane);
    return lane;
  }

  granted(): ReturnType<OpenDataplane['granted']> {
    const off = { tso4: 'off', tso6: 'off', ecn: 'off', uso: 'off', mergeUdp: 'off' } as const;
    const sizes = { receiveBufferBytes: 1, sendBufferBytes: 1 };
    return {
      ...off,
      ...sizes,
      udpSegments: 1,
      udpGro: true,
      mergeTcp: true,
      queueBytes: 0,
      checksum: 'scalar',
    };
  }

  hungWorkers(nowMs: number): readonly string[] {
    if (this.isBeating) this.beats.forEach((beat, i) => (this.beats[i] = beat + 1));
    this.#heartbeats.observe(this.beats, nowMs);
    return this.#heartbeats.hung().map((i) => `worker ${i}`);
  }

  counters(): CounterSnapshot {
    const outbound = zeros(OUTBOUND_COUNTERS);
    const values = { ...outbound.values, packets_in: this.packetsIn };
    return {
      outbound: { ...outbound, values },
      inbound: zeros(INBOUND_COUNTERS),
      socketDrops: 0,
      ...this.#lane(),
    };
  }

  #lane(): { lane?: LaneTotals } {
    const lane = this.lanes.at(-1);
    return lane === undefined ? {} : { lane: lane.totals() };
  }

  peerCounters(): Float64Array {
    return this.rows;
  }

  readPeers(values: Float64Array, first = 0): Float64Array {
    values.set(this.rows.subarray(4 * first, 4 * first + values.length));
    return values;
  }

  innerPathMtu(peer: Ipv4): number | undefined {
    return this.pathMtus.get(peer);
  }

  close({ forgetDevice = false } = {}): Promise<LastCounters> {
    this.closings++;
    this.#kernel.readers.delete(this.#name);
    if (forgetDevice && this.#kernel.link(this.#name)?.index === this.deviceIndex)
      this.#kernel.removeLink(this.#name);
    return Promise.resolve({ ...this.counters(), peers: this.rows });
  }
}

/** Opens fake data paths: `opened` has all of them; while `refusal` is set, opening throws it. */
export class FakeOpener {
  readonly opened: FakeDataplane[] = [];
  refusal: Error | undefined;
  /** Given to each that is opened. */
  ready: Promise<void> = Promise.resolve();
  laneRefusal: string | undefined;
  readonly #kernel: FakeKernel;

  constructor(kernel: FakeKernel) {
    this.#kernel = kernel;
  }

  readonly open: Opener = (options) => {
    if (this.refusal !== undefined) throw this.refusal;
    const dataplane = new FakeDataplane(this.#kernel, options);
    dataplane.ready = this.ready;
    dataplane.laneRefusal = this.laneRefusal;
    this.opened.push(dataplane);
    return dataplane;
  };

  /** The one opened last. */
  get current(): FakeDataplane {
    const last = this.opened.at(-1);
    if (last === undefined) throw new Error('no data path was opened');
    return last;
  }
}

function zeros<Name extends string>(names: readonly Name[]): DirectionCounters<Name> {
  const values = Object.fromEntries(names.map((name) => [name, 0])) as Record<Name, number>;
  return { values, offenders: new Map() };
}
