// The data path over its whole life: opened, opened anew when it fails, watched, and counted over all of its lives.
//
//   closed ─ open ─► open ─ close ─► closed          reopen = close, then open with Backoff until it succeeds
//
// open, close and reconcile must not run beside each other: the owner runs them one after the other (`run`).

import { messageOf } from '../../core/errors.js';
import { type Condition, condition, conditionOfMany } from '../../core/conditions.js';
import type { Logger } from '../../core/log.js';
import type { MetricFamily } from '../../core/metric.js';
import { Backoff, type Clock, nap } from '../../core/waiting.js';
import type { CounterSnapshot, Dataplane, DataplaneOptions } from '../../dataplane/dataplane.js';
import type { LaneRefusal } from '../../dataplane/lane.js';
import { sameDual } from '../../net/dual.js';
import { formatEndpoints } from '../../net/endpoint.js';
import type { Address } from '../../net/prefix.js';
import type { ExternalInterface } from '../backend.js';
import { addSnapshots, withLane, withQueueDrops } from './counters.js';
import type { UdpDevice } from './device.js';
import type { OpenLane, UdpLane } from './lane.js';
import { deviceMtuOf } from './outer.js';

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
  readonly open: Opener;
  /** Runs work when all work before it has ended. */
  readonly run: (work: () => Promise<void>) => Promise<void>;
  readonly onPathMtu: (peer: Address, mtuBytes: number) => void;
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
  /** Counters of data paths that are closed. */
  #retired: CounterSnapshot | undefined;
  /** Workers that do not move any more. Only a restart mends that: they hold the device and the socket. */
  #hung: readonly string[] = [];

  constructor(iface: ExternalInterface, options: DataPathOptions) {
    this.#iface = iface;
    this.#options = options;
    this.#log = options.log;
    this.#madeAtMs = options.clock.nowMs();
  }

  /** What the addon was granted; undefined while it is closed. */
  granted(): ReturnType<OpenDataplane['granted']> | undefined {
    return this.#dataplane?.granted();
  }

  /** Counters over all lives; undefined before the first. */
  counters(): CounterSnapshot | undefined {
    const current = this.#dataplane?.counters();
    const both =
      current === undefined || this.#retired === undefined
        ? (current ?? this.#retired)
        : addSnapshots(this.#retired, current);
    return both && withLane(withQueueDrops(both, this.#options.device.queueDrops()));
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
    await this.close();
    await this.open();
  }

  async underlayChanged(iface: ExternalInterface): Promise<void> {
    const before = this.#iface;
    this.#iface = iface;
    if (!sameDual(before.address, iface.address) || !sameDual(before.publicIp, iface.publicIp))
      await this.close();
    if (before.index !== iface.index) await this.#moveLane(iface);
    if (this.#dataplane === undefined) await this.open();
    else await this.#configure(this.#dataplane);
  }

  /** Work on it failed in a way that nobody expects; told until it is opened anew. */
  fail(error: unknown): void {
    this.#failure = messageOf(error);
  }

  async close(options: { readonly forgetDevice?: boolean } = {}): Promise<void> {
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
    this.#retired = this.#retired === undefined ? last : addSnapshots(this.#retired, last);
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
    const { device, port, queues, offload, sourceCheck, networks, own, table } = this.#options;
    const { address: listen, publicIp } = this.#iface;
    const isNew = !(await device.adopt());
    const dataplane: OpenDataplane = this.#options.open({
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
    try {
      await Promise.all([this.#configure(dataplane), dataplane.start()]);
      await device.features.restore(device.name);
      this.#probe(dataplane);
      await this.#options.lane.open(dataplane, this.#iface);
    } catch (error) {
      // Half a device is worse than none; one that was there before is not ours to take away.
      await dataplane.close({ forgetDevice: isNew });
      this.#options.lane.closed();
      throw error;
    }
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

  /** The socket goes by the address, the lane by the interface: where that has none, all is opened anew. */
  async #moveLane(iface: ExternalInterface): Promise<void> {
    const { lane } = this.#options;
    if (this.#dataplane === undefined || !lane.isOpen) return;
    if (!(await lane.open(this.#dataplane, iface))) await this.close();
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
          await this.close(closing);
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
