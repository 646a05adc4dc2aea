// The data path over its whole life: opened, opened anew when it fails, watched, and counted over all of its lives.
//
//   closed ─ open ─► open ─ close ─► closed          reopen = close, then open with Backoff until it succeeds
//              └──► held ─ release ─► open
//
// One that goes on with the descriptors of another, which may still work with them, is held until the table is whole:
// packets wait in the queues then, and none is refused for want of a route.
//
// open, close and reconcile must not run beside each other: the owner runs them one after the other (`run`).

import { messageOf } from '../../core/errors.js';
import { type Condition, condition, conditionOfMany } from '../../core/conditions.js';
import type { Logger } from '../../core/log.js';
import type { MetricFamily } from '../../core/metric.js';
import { Backoff, type Clock, nap, withinTime } from '../../core/waiting.js';
import type { CounterSnapshot, Dataplane, DataplaneOptions } from '../../dataplane/dataplane.js';
import type { LaneRefusal } from '../../dataplane/lane.js';
import { sameDual } from '../../net/dual.js';
import { formatEndpoints } from '../../net/endpoint.js';
import type { Address } from '../../net/prefix.js';
import type { ExternalInterface } from '../backend.js';
import type { Descriptors } from '../../handover/descriptors.js';
import type { Handover } from '../../handover/handover.js';
import type { UdpDevice } from './device.js';
import type { OpenLane, UdpLane } from './lane.js';
import { type FormerCounters, LifetimeCounters } from './lifetime-counters.js';
import { deviceMtuOf } from './outer.js';

/** How long a daemon that has handed over may take to end. */
const GONE_MS = 2_000;

const REOPEN_MIN_MS = 50;
const REOPEN_MAX_MS = 5_000;

/**
 * How long the first opening may take before it is told as a fault. Its workers are ready after some 50 ms, and on a
 * machine without a free core after about a second.
 */
export const FIRST_OPEN_MS = 5_000;

/** What of a Dataplane is used here. */
export interface OpenDataplane extends Pick<
  Dataplane,
  | 'deviceIndex'
  | 'start'
  | 'release'
  | 'isHeld'
  | 'isAdopted'
  | 'descriptors'
  | 'descriptorsToLeave'
  | 'probe'
  | 'granted'
  | 'hungWorkers'
  | 'counters'
  | 'peerCounters'
  | 'readPeers'
  | 'innerPathMtu'
  | 'close'
> {
  openLane(options: Parameters<Dataplane['openLane']>[0]): OpenLane | LaneRefusal;
}

/** Opens the device and the socket, as Dataplane.open does; throws as that does. */
export type Opener = (options: DataplaneOptions) => OpenDataplane;

export interface DataPathOptions extends Pick<
  DataplaneOptions,
  'port' | 'queues' | 'offload' | 'sourceCheck' | 'networks' | 'own' | 'table'
> {
  readonly device: UdpDevice;
  readonly lane: UdpLane;
  readonly handover: Handover;
  readonly open: Opener;
  /** Runs work when all work before it has ended. */
  readonly run: (work: () => Promise<void>) => Promise<void>;
  readonly onPathMtu: (peer: Address, mtuBytes: number) => void;
  /** What the daemon before this one has counted, as it told it. */
  readonly onFormer: (state: unknown) => void;
  /** A data path was closed; four values for each row of the table, as Dataplane.peerCounters() gives them. */
  readonly onClosed: (lastPeers: Float64Array) => void;
  readonly clock: Clock;
  /** Ends the attempts to open it anew. */
  readonly closing: AbortSignal;
  readonly log: Logger;
}

export class DataPath {
  readonly #options: DataPathOptions;
  readonly #log: Logger;
  readonly #madeAtMs: number;
  /** Ends of workers that a closed data path left behind, with the device and the socket. */
  readonly #stuck = new Set<Promise<void>>();
  readonly #row = new Float64Array(4);
  #iface: ExternalInterface;
  #dataplane: OpenDataplane | undefined;
  #hasOpened = false;
  #failure: string | undefined;
  readonly #counted: LifetimeCounters;
  /** The table is whole, so that nothing needs to be held any more. */
  #mayBegin = false;
  #hasStoppedPredecessor = false;
  /** What the daemon before this one has counted is asked for once. */
  #hasRestored = false;
  /** Workers that do not move any more. Only a restart mends that: they hold the device and the socket. */
  #hung: readonly string[] = [];

  constructor(iface: ExternalInterface, options: DataPathOptions) {
    this.#iface = iface;
    this.#options = options;
    this.#log = options.log;
    this.#counted = new LifetimeCounters(options.device);
    this.#madeAtMs = options.clock.nowMs();
  }

  /** What the addon was granted; undefined while it is closed. */
  granted(): ReturnType<OpenDataplane['granted']> | undefined {
    return this.#dataplane?.granted();
  }

  /** Counters over all lives; undefined before the first. */
  counters(): CounterSnapshot | undefined {
    return this.#counted.total(this.#dataplane?.counters());
  }

  /** The four counters of each row since it was opened; none while it is closed. */
  peerCounters(rows: number): ArrayLike<number> {
    return this.#dataplane?.peerCounters(rows) ?? [];
  }

  /** Those of one row; borrowed until the next call. */
  rowCounters(row: number): ArrayLike<number> {
    return this.#dataplane?.readPeers(this.#row, row) ?? [];
  }

  /** Those of the rows from `first` on that `values` has room for; false while it is closed. */
  readRows(values: Float64Array, first: number): boolean {
    return this.#dataplane?.readPeers(values, first) !== undefined;
  }

  /** See Dataplane.innerPathMtu(). */
  innerPathMtu(peer: Address): number | undefined {
    return this.#dataplane?.innerPathMtu(peer);
  }

  async open(): Promise<void> {
    try {
      await this.#open();
    } catch (error) {
      if (!this.#hasOpened) this.#failure = messageOf(error);
      throw error;
    }
  }

  /** It may be closed because it could not be opened on an interface that had changed. */
  async reconcile(): Promise<void> {
    const dataplane = this.#dataplane;
    if (dataplane === undefined) return await this.open();
    const reason = await this.#options.device.whyLost(dataplane.deviceIndex);
    if (reason !== undefined) return this.#reopen(dataplane, reason, { forgetDevice: true });
    await this.#configure(dataplane, { isRepair: true });
    if (await this.#options.lane.look()) return;
    this.#log.info('IPsec policies came or went: opening the data path anew, for its kernel lane');
    await this.#closeToReopen();
    await this.open();
  }

  async underlayChanged(iface: ExternalInterface): Promise<void> {
    const before = this.#iface;
    this.#iface = iface;
    if (!sameDual(before.address, iface.address) || !sameDual(before.publicIp, iface.publicIp))
      await this.#closeToReopen();
    if (before.index !== iface.index) await this.#moveLane(iface);
    if (this.#dataplane === undefined) await this.open();
    else await this.#configure(this.#dataplane);
  }

  /** Work on it failed in a way that nobody expects; told until it is opened anew. */
  fail(error: unknown): void {
    this.#failure = messageOf(error);
  }

  /**
   * The table is whole: a data path that is held, and every later one, begins to work, once the daemon before this one
   * has ended its own.
   */
  async release(): Promise<void> {
    this.#mayBegin = true;
    const dataplane = this.#dataplane;
    if (dataplane?.isHeld !== true) return;
    const told = this.#stopPredecessor();
    dataplane.release();
    this.#log.info('the data path goes on with the descriptors of the one before');
    await this.#restore(told);
    await this.#options.lane.open(dataplane, this.#iface);
  }

  /** Whether it waits for release(). */
  get isHeld(): boolean {
    return this.#dataplane?.isHeld ?? false;
  }

  /** The descriptors, for another daemon: the data path goes on until close({ isHandedOn: true }). */
  descriptors(): Descriptors | undefined {
    return this.#dataplane?.descriptorsToLeave();
  }

  /** What a daemon before this one has counted. */
  addFormer(former: FormerCounters): void {
    this.#counted.restore(former, this.#dataplane?.isAdopted ?? false);
  }

  /** What addFormer() takes, up to now. */
  former(): FormerCounters | undefined {
    return this.#counted.handOn(this.#dataplane?.counters());
  }

  /** Closes what another data path follows at once, which goes on with its descriptors. */
  async #closeToReopen(closing: { readonly forgetDevice?: boolean } = {}): Promise<void> {
    const descriptors = this.#dataplane?.descriptors();
    const { handover, device } = this.#options;
    if (descriptors !== undefined) {
      if (closing.forgetDevice === true) handover.forget(device.name, descriptors);
      else handover.retain(device.name, descriptors);
    }
    await this.close(closing);
  }

  async close(
    options: { readonly forgetDevice?: boolean; readonly isHandedOn?: boolean } = {},
  ): Promise<void> {
    const dataplane = this.#dataplane;
    if (dataplane === undefined) return;
    const onStuck = (worker: string, ended: Promise<void>): void => {
      this.#stuck.add(ended);
      void ended.then(() => this.#stuck.delete(ended));
      this.#log.error(`${worker} does not end: it is left behind, with the device and the socket`);
    };
    const last = await dataplane.close({ ...options, onStuck });
    this.#options.lane.closed();
    this.#hung = [];
    this.#counted.retire(last);
    this.#options.onClosed(last.peers);
    this.#dataplane = undefined;
  }

  /** Once a second. */
  keepHouse(nowMs: number): void {
    if (this.#dataplane === undefined) return;
    this.#probe(this.#dataplane);
    const before = this.#hung;
    this.#hung = this.#dataplane.hungWorkers(nowMs);
    for (const worker of this.#hung)
      if (!before.includes(worker))
        this.#log.error(`${worker} does not move: nothing flows in its direction`);
    for (const worker of before) if (!this.#hung.includes(worker)) this.#log.info(`${worker} moves again`);
    this.#options.lane.keepHouse(this.#hung);
  }

  isAlive(): boolean {
    return this.#hung.length === 0 && this.#stuck.size === 0;
  }

  conditions(): readonly Condition[] {
    const found: Condition[] = [];
    const down = this.#failure ?? this.#whyClosed();
    if (down !== undefined) found.push(condition('data-path-down', down));
    const hung = this.#hung.map((worker) => `${worker} does not move: restart if it lasts`);
    if (hung.length > 0) found.push(conditionOfMany('worker-hung', hung));
    return found;
  }

  metrics(snapshot: CounterSnapshot): readonly MetricFamily[] {
    const { mergeTcp = false, mergeUdp = false } = this.granted() ?? {};
    return [
      {
        name: 'socket_drops_total',
        help: 'Datagrams the kernel dropped because the receive buffer of the socket was full.',
        type: 'counter',
        values: [{ labels: {}, value: snapshot.socketDrops }],
      },
      {
        name: 'merging',
        help: 'Whether received packets of one flow are written to the device as one, by protocol.',
        type: 'gauge',
        values: [
          { labels: { protocol: 'tcp' }, value: Number(mergeTcp === true) },
          { labels: { protocol: 'udp' }, value: Number(mergeUdp === true) },
        ],
      },
    ];
  }

  /** One that was never open is not down yet: it is being opened. */
  #whyClosed(): string | undefined {
    if (this.#dataplane !== undefined) return undefined;
    if (this.#hasOpened) return 'the data path is closed';
    if (this.#options.clock.nowMs() - this.#madeAtMs < FIRST_OPEN_MS) return undefined;
    return `the data path did not open within ${FIRST_OPEN_MS / 1000} s`;
  }

  async #open(): Promise<void> {
    const { device, handover, port, queues, offload, sourceCheck, networks, own, table } = this.#options;
    const { address: listen, publicIp } = this.#iface;
    let isNew = !(await device.adopt());
    const found = handover.take(device.name);
    const open = (adopted: Descriptors | undefined): OpenDataplane =>
      this.#options.open({
        adopted,
        device: device.name,
        port,
        queues,
        offload,
        sourceCheck,
        networks,
        own,
        table,
        listen,
        publicIp,
        onPathMtu: ({ peer, mtuBytes }) => this.#options.onPathMtu(peer, mtuBytes),
        onFailure: (reason) => this.#reopen(dataplane, reason),
      });
    const adopted = found && (await this.#adopt(open, found));
    // One that was in use has been left as it was.
    if (found !== undefined && adopted === undefined) isNew = !(await device.adopt());
    const dataplane = adopted ?? open(undefined);
    try {
      await Promise.all([this.#configure(dataplane), dataplane.start()]);
      await device.features.restore(device.name);
      this.#probe(dataplane);
      if (dataplane.isHeld && this.#mayBegin) dataplane.release();
      if (!dataplane.isHeld) await this.#options.lane.open(dataplane, this.#iface);
    } catch (error) {
      // Half a device is worse than none; one that was there before is not ours to take away.
      if (dataplane.isAdopted) handover.forget(device.name, dataplane.descriptors());
      await dataplane.close({ forgetDevice: isNew });
      this.#options.lane.closed();
      throw error;
    }
    handover.keep(device.name, dataplane.descriptors());
    this.#dataplane = dataplane;
    this.#hasOpened = true;
    this.#failure = undefined;
    this.#log.info(
      {
        device: device.name,
        mtuBytes: this.#mtuBytes,
        ...dataplane.granted(),
        ...this.#options.lane.words(),
      },
      `data path open on ${device.name} and UDP ${formatEndpoints(listen, port)}`,
    );
  }

  /** A data path with these descriptors; undefined when they are not what is wanted now, and nobody has them then. */
  async #adopt(
    open: (adopted: Descriptors) => OpenDataplane,
    found: Descriptors,
  ): Promise<OpenDataplane | undefined> {
    const { handover, device } = this.#options;
    try {
      const dataplane = open(found);
      handover.discard(found);
      this.#counted.adopt();
      return dataplane;
    } catch (error) {
      this.#log.warn(`opening the data path anew, without what an earlier one left: ${messageOf(error)}`);
      await this.#restore(this.#stopPredecessor());
      handover.discard(found);
      handover.forget(device.name, found);
      // Its descriptors keep the device and the port taken until it has ended.
      if (handover.predecessor !== undefined) await withinTime(handover.predecessor.gone, GONE_MS);
      return undefined;
    }
  }

  /** The daemon before this one reads no more, and what it has counted is ours. */
  /** What the daemon before this one has counted, as it says or had saved. */
  async #restore(told: Promise<unknown> | undefined): Promise<void> {
    if (this.#hasRestored) return;
    this.#hasRestored = true;
    const { handover, device, onFormer } = this.#options;
    onFormer((await told) ?? handover.saved(device.name));
  }

  #stopPredecessor(): Promise<unknown> | undefined {
    const { predecessor } = this.#options.handover;
    if (predecessor === undefined || this.#hasStoppedPredecessor) return undefined;
    this.#hasStoppedPredecessor = true;
    return predecessor.stop();
  }

  /** The socket goes by the address, the lane by the interface: where that has none, all is opened anew. */
  async #moveLane(iface: ExternalInterface): Promise<void> {
    const { lane } = this.#options;
    if (this.#dataplane === undefined || !lane.isOpen) return;
    if (!(await lane.open(this.#dataplane, iface))) await this.#closeToReopen();
  }

  async #configure(dataplane: OpenDataplane, options?: { readonly isRepair: boolean }): Promise<void> {
    const { device, own } = this.#options;
    const { deviceIndex: index } = dataplane;
    await device.configure({ index, own, mtuBytes: this.#mtuBytes }, options);
  }

  /** Closes a data path that failed and opens a new one, unless that has happened meanwhile. */
  #reopen(failed: OpenDataplane, reason: string, closing: { readonly forgetDevice?: boolean } = {}): void {
    if (failed === this.#dataplane) this.#failure = reason;
    const { run, closing: signal, clock } = this.#options;
    void run(async () => {
      if (failed !== this.#dataplane) return;
      this.#failure = reason;
      this.#log.warn(`data path failed: ${reason}; opening it again`);
      const backoff = new Backoff(REOPEN_MIN_MS, REOPEN_MAX_MS, Math.random);
      while (!signal.aborted) {
        try {
          await this.#closeToReopen(closing);
          await this.#open();
          return;
        } catch (error) {
          this.#failure = `${reason}; ${messageOf(error)}`;
          const delayMs = backoff.next();
          this.#log.warn({ err: error, retryMs: Math.round(delayMs) }, 'cannot open the data path');
          await nap(delayMs, signal, clock);
        }
      }
    });
  }

  /** What it says about merging changes when the device was down at first, or stops to take superpackets. */
  #probe(dataplane: OpenDataplane): void {
    for (const news of dataplane.probe()) this.#log.warn({ device: this.#options.device.name }, news);
  }

  get #mtuBytes(): number {
    return deviceMtuOf(this.#iface, this.#options.own.v6 !== undefined);
  }
}
