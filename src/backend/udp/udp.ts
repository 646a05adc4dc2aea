// The udp backend: packets of the overlay travel one in each UDP datagram, encapsulated by our own data path.
//
// Kernel state, all of it on one device: the persistent TUN "flannel0" (or the next number, beside another network)
// with the address <subnet>.0/32, MTU 28 below the external interface's, and the route of the whole Network. The same
// of IPv6 where the network has it, else IPv6 is off; the MTU is 48 below where only IPv6 leads to the other hosts. It
// stays when the process ends, so that a restart breaks no connection and nothing leaks to the default route meanwhile.
//
// The data path is one piece: when the device is deleted or a worker fails, it is closed and opened anew, with backoff,
// while the route table lives on. So it is when the device is renamed or moved to another network namespace: its file
// stays open and looks healthy, but nothing that is addressed to the overlay reaches it. We made that device, and
// without a reader it is of no use, yet it would keep our address and route: it goes with the data path. A new one
// cannot be made first, because both need the same UDP port. Peers are looked up in the kernel's routes before they
// enter the table, because a public IP that is reached through our own device would encapsulate itself without end.
//
//   data-path.ts  opened, watched, opened anew      device.ts  the device, features.ts and routes.ts what hangs on it
//   peers.ts      rows, refusals, path MTUs         traffic.ts and counters.ts  what was carried
//
// Whatever touches the kernel or the data path runs one after the other, in the order in which it was asked for.

import type { Condition } from '../../core/conditions.js';
import type { MetricFamily } from '../../core/metric.js';
import { Serial } from '../../core/serial.js';
import { type Clock, MONOTONIC_CLOCK } from '../../core/waiting.js';
import { Dataplane } from '../../dataplane/dataplane.js';
import { DropLog } from './drop-log.js';
import { laneFamilies, type PinPlace, UdpLane } from './lane.js';
import { LanePaths } from './lane-paths.js';
import { RouteTable } from '../../dataplane/route-table.js';
import { lanePinFolder, removeLanePins } from '../../kernel/lane-pins.js';
import { checkUplinkNetwork } from '../../kernel/network-route.js';
import { checkPortIsFree } from '../../kernel/udp-port.js';
import { leaseBackend, type LeaseBackend, type Peer, type PeerDiff } from '../../lease/lease.js';
import type { LeftDataPath } from '../../handover/handover.js';
import { familiesOf, firstOf, mapDual } from '../../net/dual.js';
import type { Address, DualPrefix, Prefix } from '../../net/prefix.js';
import type { PeerDetail, UdpStatus } from '../../ops/status.js';
import { backendMode } from '../backend.js';
import type { Backend, BackendContext, ExternalInterface } from '../backend.js';
import { parseUdpBackend } from './config.js';
import { allCounters, counterFamilies } from './counters.js';
import { DataPath, type Opener } from './data-path.js';
import { UdpDevice } from './device.js';
import { handedState, readHandedState } from './handed-state.js';
import { deviceMtuOf, outerOf, overheadTo } from './outer.js';
import { UdpPeers } from './peers.js';
import { OverlayRoutes } from './routes.js';

const HOUSEKEEPING_MS = 1_000;

/** The pause after counters were saved, as a multiple of the time that it took: there may be 65,000 peers. */
const SAVE_REST = 200;

/** How long packets wait in the queues for the leases after a start with descriptors of an earlier run. */
const HELD_MS = 2_000;

/** The udp mode. */
export const UDP = backendMode({
  families: ['v4', 'v6'],
  parseConfig: parseUdpBackend,
  open: (context, { port }) => new UdpBackend(context, port),
});

/** What of the host is used beside its kernel; a test has its own. */
export interface UdpHost {
  readonly openDataplane: Opener;
  readonly checkPortIsFree: typeof checkPortIsFree;
  readonly lanePins: PinPlace;
  readonly clock: Clock;
}

const HOST: UdpHost = {
  openDataplane: (options) => Dataplane.open(options),
  checkPortIsFree,
  lanePins: { folderOf: lanePinFolder, remove: removeLanePins },
  clock: MONOTONIC_CLOCK,
};

export class UdpBackend implements Backend {
  readonly type = 'udp' as const;
  readonly #context: BackendContext;
  readonly #host: UdpHost;
  readonly #port: number;
  readonly #networks: DualPrefix;
  readonly #table: RouteTable;
  readonly #routes: OverlayRoutes;
  readonly #device: UdpDevice;
  readonly #lane: UdpLane;
  readonly #peers: UdpPeers;
  readonly #lanePaths: LanePaths;
  readonly #dropLog = new DropLog();
  readonly #work = new Serial();
  readonly #closing = new AbortController();
  #iface: ExternalInterface;
  /** From start() on. */
  #path: DataPath | undefined;
  /** Nothing of another mode is left in the kernel. */
  #isAlone = false;
  #stopHousekeeping: () => void = () => undefined;
  #nextSaveMs = 0;
  /** Another daemon goes on with the data path. */
  #isLeft = false;

  constructor(context: BackendContext, port: number, host = HOST) {
    const { kernel, log } = context;
    this.#context = context;
    this.#host = host;
    this.#port = port;
    this.#iface = context.iface;
    this.#networks = mapDual(context.config.networks, ({ network }) => network) as DualPrefix;
    this.#table = new RouteTable(this.#networks);
    this.#routes = new OverlayRoutes(kernel, this.#networks, log);
    this.#device = new UdpDevice(context, this.#routes);
    const deviceName = (): string => this.#device.name;
    this.#lane = new UdpLane({ asked: context.lane, kernel, pins: host.lanePins, deviceName, log });
    this.#lanePaths = new LanePaths(this.#table, this.#lane);
    this.#peers = new UdpPeers({
      table: this.#table,
      port,
      outerOf: ({ host: { publicIp } }) => outerOf(this.#iface.address, publicIp),
      widestTo: (outer) => this.#widestTo(outer),
      deviceName,
      lane: this.#lane,
      counters: {
        rowCounters: (row) => this.#path?.rowCounters(row) ?? [],
        peerCounters: (rows) => this.#path?.peerCounters(rows) ?? [],
        readRows: (values, first) => this.#path?.readRows(values, first) ?? false,
      },
      areReachable: (outers) =>
        this.#routes.areReachable(outers, this.#device.name, { address: this.#iface.address, port }),
      nowMs: () => host.clock.nowMs(),
      log,
    });
  }

  get device(): string {
    return this.#device.name;
  }

  async publish(): Promise<LeaseBackend> {
    const uplink = await this.#context.kernel.links.find(this.#iface.name);
    const { address } = this.#iface;
    for (const family of familiesOf(this.#networks))
      if (uplink !== undefined) checkUplinkNetwork(this.#networks[family]!, uplink);
    await this.#device.choose();
    // Where descriptors are taken over, our own socket has the port.
    if (!this.#context.handover.has(this.#device.name))
      for (const family of familiesOf(address))
        await this.#host.checkPortIsFree(address[family]!, this.#port);
    return leaseBackend('');
  }

  async start(own: DualPrefix): Promise<{ mtuBytes: number }> {
    const { queues, offload, sourceCheck, log } = this.#context;
    const path = new DataPath(this.#iface, {
      device: this.#device,
      lane: this.#lane,
      handover: this.#context.handover,
      port: this.#port,
      queues,
      offload,
      sourceCheck,
      networks: this.#networks,
      own,
      table: this.#table,
      open: this.#host.openDataplane,
      run: (work) => this.#work.run(work),
      onPathMtu: (peer, mtuBytes) => this.#peers.narrowPath(peer, mtuBytes),
      onFormer: (told) => this.#goOnCounting(told),
      onClosed: (last) => this.#peers.dataPathClosed(last),
      clock: this.#host.clock,
      closing: this.#closing.signal,
      log,
    });
    this.#path = path;
    this.#device.startCounting();
    await this.#work.run(() => path.open());
    this.#scheduleHousekeeping(path);
    this.#boundHold(path);
    return { mtuBytes: this.#mtuBytes };
  }

  apply(diff: PeerDiff): void {
    void this.#work
      .run(async () => {
        await this.#peers.apply(diff);
        await this.#path?.release();
      })
      .catch((error: unknown) => {
        this.#context.log.error({ err: error }, 'udp backend');
        this.#path?.fail(error);
      });
  }

  async reconcile(): Promise<void> {
    await this.#work.run(async () => {
      if (this.#closing.signal.aborted) return;
      await this.#path?.reconcile();
      await this.#peers.recheck();
      // Most often it was a route that changed.
      if (this.#path !== undefined) this.#askPaths(this.#path);
      this.#routes.findShadows(this.#peers.list());
      if (this.#peers.hasSnapshot && !this.#isAlone) await this.#removeLeftovers();
    });
  }

  async underlayChanged(iface: ExternalInterface): Promise<{ mtuBytes: number }> {
    this.#iface = iface;
    await this.#work.run(async () => {
      if (this.#closing.signal.aborted) return;
      await this.#path?.underlayChanged(iface);
      this.#peers.underlayChanged();
    });
    return { mtuBytes: this.#mtuBytes };
  }

  pathMtuChanged(peer: Address, mtuBytes: number): void {
    // A probe goes out whatever the kernel has learned about the path; a datagram of the socket does not.
    const widest = this.#widestTo(peer);
    const known = this.#path?.innerPathMtu(peer) ?? widest;
    const inner = Math.min(mtuBytes - overheadTo(peer), known);
    if (inner < widest) this.#peers.narrowPath(peer, inner);
    else this.#peers.widenPath(peer);
  }

  /** One, whichever families its subnets have. */
  waysTo({ host: { publicIp } }: Peer): readonly Address[] {
    return [outerOf(this.#iface.address, publicIp) ?? firstOf<Address, Address>(publicIp)];
  }

  /** flannel0 of each host, flanneld's too, has the lowest address of its subnets; one way leads to both. */
  echoTarget(peer: Peer): Address | undefined {
    return this.#peers.hasRow(peer)
      ? firstOf<Prefix<Address>, Prefix<Address>>(peer.subnets).address
      : undefined;
  }

  peerPackets(peer: Peer): readonly [number, number] {
    const [packetsOut, , packetsIn] = this.#peers.trafficOf(peer);
    return [packetsOut, packetsIn];
  }

  takeBusyPeers(): readonly string[] {
    return this.#peers.takeBusy();
  }

  conditions(): readonly Condition[] {
    return [...(this.#path?.conditions() ?? []), ...this.#routes.conditions(), ...this.#peers.conditions()];
  }

  isAlive(): boolean {
    return this.#path?.isAlive() ?? true;
  }

  status(): UdpStatus {
    const offloads = this.#path?.granted();
    const counters = this.#path?.counters();
    return {
      type: 'udp',
      device: this.#device.name,
      port: this.#port,
      mtuBytes: this.#mtuBytes,
      sourceCheck: this.#context.sourceCheck,
      queues: this.#context.queues,
      ...(offloads && { offloads: { ...offloads } }),
      lane: this.#lane.status(),
      ...(counters && {
        counters: {
          outbound: counters.outbound.values,
          inbound: counters.inbound.values,
          socketDrops: counters.socketDrops,
        },
      }),
    };
  }

  showAll(): () => void {
    return this.#lane.pauseForCapture();
  }

  peerStatus(): readonly PeerDetail[] {
    return this.#peers.status();
  }

  metrics(): readonly MetricFamily[] {
    const snapshot = this.#path?.counters();
    if (this.#path === undefined || snapshot === undefined) return [];
    // What was told once must not be less the next time.
    this.#saveState(this.#path);
    return [
      ...counterFamilies(snapshot),
      ...this.#device.repairs.list(),
      ...this.#path.metrics(snapshot),
      ...laneFamilies(this.#lane.status(), snapshot.lane),
      {
        name: 'peers',
        help: 'Leases of other hosts in the route table.',
        type: 'gauge',
        values: [{ labels: {}, value: this.#table.size }],
      },
    ];
  }

  leave(): LeftDataPath | undefined {
    const path = this.#path;
    const descriptors = path?.descriptors();
    if (path === undefined || descriptors === undefined || path.isHeld) return undefined;
    this.#isLeft = true;
    this.#closing.abort();
    this.#stopHousekeeping();
    const stop = async (): Promise<unknown> => {
      await path.close({ isHandedOn: true });
      return this.#handedState(path);
    };
    return { device: this.#device.name, descriptors, stop };
  }

  #handedState(path: DataPath): object | undefined {
    const former = path.former();
    return former && handedState({ ...former, ...this.#peers.handedState() });
  }

  /** In case that this process is killed. */
  #saveState(path: DataPath): void {
    if (path.isHeld) return;
    this.#context.handover.save(this.#device.name, () => this.#handedState(path) ?? {});
  }

  async close(): Promise<void> {
    if (this.#isLeft) return;
    this.#closing.abort();
    this.#stopHousekeeping();
    await this.#work.run(async () => {
      await this.#path?.close();
      if (this.#path !== undefined) this.#saveState(this.#path);
    });
  }

  get #mtuBytes(): number {
    return deviceMtuOf(this.#iface, this.#networks.v6 !== undefined);
  }

  /** The largest inner packet that our interface takes to a peer in one piece. */
  #widestTo(outer: Address): number {
    return this.#iface.mtuBytes - overheadTo(outer);
  }

  async #removeLeftovers(): Promise<void> {
    const { networks, services, log } = this.#context;
    await services.removeLeftovers({ networks, devices: [this.#device.name], ownsRoutes: false, log });
    this.#isAlone = true;
  }

  #scheduleHousekeeping(path: DataPath): void {
    if (this.#closing.signal.aborted) return;
    this.#stopHousekeeping = this.#host.clock.after(HOUSEKEEPING_MS, () => {
      this.#scheduleHousekeeping(path);
      this.#keepHouse(path, this.#host.clock.nowMs());
    });
  }

  /** Held without end, packets would wait for a store that does not answer. A daemon that still forwards may wait. */
  #boundHold(path: DataPath): void {
    if (!path.isHeld) return;
    const release = (): void => {
      if (!this.#closing.signal.aborted) void this.#work.run(() => path.release());
    };
    const { predecessor } = this.#context.handover;
    if (predecessor === undefined) this.#host.clock.after(HELD_MS, release);
    else void predecessor.gone.then(release);
  }

  #goOnCounting(told: unknown): void {
    const state = readHandedState(told);
    if (state === undefined) return;
    this.#path?.addFormer(state);
    this.#dropLog.addFormer(allCounters(state.counters, state.queueDrops));
    this.#peers.restore(state);
  }

  #askPaths(path: DataPath): void {
    for (const { address, mtuBytes } of this.#lanePaths.take()) {
      const known = path.innerPathMtu(address);
      if (known !== undefined && known < mtuBytes) this.#peers.narrowPath(address, known);
    }
  }

  #keepHouse(path: DataPath, nowMs: number): void {
    for (const peer of this.#peers.expiredPaths(nowMs)) this.pathMtuChanged(peer, this.#iface.mtuBytes);
    this.#askPaths(path);
    this.#peers.publish();
    this.#table.settle();
    path.keepHouse(nowMs);
    if (nowMs >= this.#nextSaveMs) {
      const startedMs = this.#host.clock.nowMs();
      this.#saveState(path);
      this.#nextSaveMs = nowMs + SAVE_REST * (this.#host.clock.nowMs() - startedMs);
    }
    const snapshot = path.counters();
    if (snapshot === undefined) return;
    for (const { direction, reason, packets, text } of this.#dropLog.take(snapshot, nowMs))
      this.#context.log.warn({ direction, reason, packets }, `packets dropped: ${text}`);
  }
}
