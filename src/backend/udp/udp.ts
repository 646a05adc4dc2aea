// The udp backend: packets of the overlay travel one in each UDP datagram, encapsulated by our own data path.
//
// Kernel state, all of it on one device: the persistent TUN "flannel0" (or the next number, beside another network)
// with the address <subnet>.0/32, MTU 28 below the external interface's, IPv6 off, and the route of the whole Network.
// It stays when the process ends, so that a restart breaks no connection and nothing leaks to the default route
// meanwhile.
//
// The data path is one piece: when the device is deleted or a worker fails, it is closed and opened anew, with backoff,
// while the route table lives on. So it is when the device is renamed or moved to another network namespace: its file
// stays open and looks healthy, but nothing that is addressed to the overlay reaches it. We made that device, and
// without a reader it is of no use, yet it would keep our address and route: it goes with the data path. A new one
// cannot be made first, because both need the same UDP port. Peers are looked up in the kernel's routes before they
// enter the table, because a public IP that is reached through our own device would encapsulate itself without end.

import { performance } from 'node:perf_hooks';
import type { PathMtuEvent } from '../../native/arena.js';
import { QUEUE_DROP } from '../../native/counters.js';
import { Dataplane, type CounterSnapshot, type DirectionCounters } from '../../dataplane/dataplane.js';
import { DropLog } from '../../dataplane/drop-log.js';
import { RouteTable } from '../../dataplane/route-table.js';
import { Backoff, nap } from '../../core/waiting.js';
import { OverlayError } from '../../core/errors.js';
import { parseUdpBackend } from './config.js';
import { type Condition, condition, type ConditionCode, conditionOfMany } from '../../core/conditions.js';
import { PEER_REFUSALS, type PeerRefusalCode, type UdpStatus } from '../../ops/status.js';
import {
  addAddress,
  deleteAddress,
  deleteLink,
  findLink,
  hasCarrier,
  type Link,
  listLinks,
  setLink,
} from '../../kernel/link.js';
import { differingFeatures, type Features, readFeatures, setFeatures } from '../../kernel/ethtool.js';
import { QueueDrops } from '../../kernel/queue-drops.js';
import { listRoutes, lookupRoutes, type Route } from '../../kernel/route.js';
import { checkPortIsFree } from '../../kernel/udp-port.js';
import { readInterfaceSysctl, writeInterfaceSysctl } from '../../kernel/sysctl.js';
import { leaseBackend, type LeaseBackend, type Peer, type PeerDiff } from '../../lease/lease.js';
import { formatIpv4, type Ipv4, ipv4 } from '../../net/ipv4.js';
import { formatPrefix, type Prefix, prefixContains, prefixCovers, prefixEquals } from '../../net/prefix.js';
import { UDP_OVERHEAD_BYTES } from '../../net/mtu.js';
import type { Logger } from '../../core/log.js';
import { backendMode } from '../backend.js';
import type { Backend, BackendContext, ExternalInterface, PeerDetail } from '../backend.js';
import {
  formatMark,
  isDeviceOf,
  isPersistentTun,
  parseMark,
  UDP_DEVICES,
  udpDeviceName,
} from '../../kernel/ours.js';
import {
  checkUplinkNetwork,
  describeShadow,
  removeNetworkRoute,
  syncNetworkRoute,
} from '../../kernel/network-route.js';
import { PeerCounters } from '../../programmer/metrics.js';
import { PeerTraffic } from './traffic.js';
import type { MetricFamily } from '../../core/metric.js';

// Packets or superpackets that wait for the worker. The device drops what does not fit (it never pushes back), and a
// worker that waits for its core misses some thousand single packets: with 1000, four TCP streams without segmentation
// offload lose 3 to 6 % of theirs, with 2000 nothing (docs/performance.md). 2000 are 24 ms at 1 Gbit/s; a deeper queue
// only adds delay under overload.
const TX_QUEUE_LENGTH = 2000;

const REOPEN_MIN_MS = 50;
const REOPEN_MAX_MS = 5_000;

// How long the kernel remembers a path MTU (net.ipv4.route.mtu_expires); afterwards the full size is tried again.
const PATH_MTU_TTL_MS = 600_000;

const HOUSEKEEPING_MS = 1_000;

/**
 * Features of a TUN device that whoever opens it sets by TUNSETOFFLOAD, which overrules ethtool (set_offload() of
 * drivers/net/tun.c). What another run left of them comes from its --offload and its kin, not from an administrator.
 */
const OPENER_FEATURES: ReadonlySet<string> = new Set([
  'tx-checksum-ip-generic',
  'tx-tcp-segmentation',
  'tx-tcp-ecn-segmentation',
  'tx-tcp6-segmentation',
  'tx-udp-segmentation',
]);

/** The udp mode. */
export const UDP = backendMode({
  parseConfig: parseUdpBackend,
  open: (context, { port }) => new UdpBackend(context, port),
});

interface PeerRefusal {
  readonly peer: Peer;
  readonly code: PeerRefusalCode;
  readonly reason: string;
}

class UdpBackend implements Backend {
  readonly type = 'udp' as const;
  readonly #context: BackendContext;
  readonly #log: Logger;
  readonly #port: number;
  readonly #table: RouteTable;
  readonly #dropLog = new DropLog();
  /** Repairs of the device and of what hangs on it. */
  readonly #kernel = new PeerCounters();
  /** The first flannelN that is ours or free; chosen once. */
  #device = udpDeviceName(0);
  #queueDrops = new QueueDrops(this.#device);
  readonly #rowCounters = new Float64Array(4);
  readonly #traffic = new PeerTraffic((row) => this.#dataplane?.readPeers(this.#rowCounters, row) ?? []);
  readonly #pathMtus = new Map<Ipv4, { mtuBytes: number; expiresAtMs: number }>();
  /** Peers that must not be sent to, with the reason, by the id of their lease. */
  readonly #refused = new Map<string, PeerRefusal>();
  readonly #peers = new Map<string, Peer>();
  /** Counters of data paths that are closed. */
  #retired: CounterSnapshot | undefined;
  #iface: ExternalInterface;
  #ownSubnet: Prefix | undefined;
  /** Prefixes that may be reached through our own device. A peer outside of them needs no look into the kernel. */
  #tunnelled: readonly Prefix[] = [];
  #dataplane: Dataplane | undefined;
  #failure: string | undefined;
  /** Whose route stands where ours should. */
  #routeConflict: string | undefined;
  /** Routes of others inside the Network that no peer should be behind, and what they do to which. */
  #foreign: readonly Route[] = [];
  #shadows: readonly string[] = [];
  /** Workers that do not move any more. Only a restart mends that: they hold the device and the socket. */
  #hung: readonly string[] = [];
  /** Ends of workers that a closed data path left behind, with the device and the socket. */
  readonly #stuck = new Set<Promise<void>>();
  #hasSnapshot = false;
  /** Settings of the device that the kernel does not have, or does not let us make. */
  #unset: readonly string[] = [];
  /** Of the device when it was last seen; undefined without ethtool. */
  #features: Features | undefined;
  /** Nothing of another mode is left in the kernel. */
  #isAlone = false;
  #housekeeping: NodeJS.Timeout | undefined;
  /** Serialises everything that touches the kernel or the data path. */
  #queue: Promise<void> = Promise.resolve();
  readonly #closing = new AbortController();

  constructor(context: BackendContext, port: number) {
    this.#context = context;
    this.#log = context.log;
    this.#iface = context.iface;
    this.#port = port;
    this.#table = new RouteTable(context.config.network);
    this.#table.setPartial();
  }

  async publish(): Promise<LeaseBackend> {
    const uplink = await findLink(this.#iface.name);
    if (uplink !== undefined) checkUplinkNetwork(this.#context.config.network, uplink);
    await checkPortIsFree(this.#iface.address, this.#port);
    await this.#chooseDevice();
    return leaseBackend('');
  }

  async start(ownSubnet: Prefix): Promise<{ mtuBytes: number }> {
    this.#ownSubnet = ownSubnet;
    this.#queueDrops.start();
    await this.#enqueue(() => this.#openDataplane());
    this.#housekeeping = setInterval(() => this.#keepHouse(), HOUSEKEEPING_MS);
    return { mtuBytes: this.#mtuBytes };
  }

  apply(diff: PeerDiff): void {
    void this.#enqueue(() => this.#applyDiff(diff)).catch((error: unknown) => this.#fail(error));
  }

  async reconcile(): Promise<void> {
    await this.#enqueue(async () => {
      if (this.#closing.signal.aborted) return;
      // It may be closed because it could not be opened on an interface that had changed.
      if (this.#dataplane === undefined) await this.#openDataplane();
      else if (!(await this.#hasLostDevice(this.#dataplane)))
        await this.#configureDevice(this.#dataplane, { isRepair: true });
      await this.#recheckPeers();
      if (this.#hasSnapshot && !this.#isAlone) {
        const { networks } = this.#context;
        await this.#context.services.removeLeftovers({
          networks,
          device: this.#device,
          ownsRoutes: false,
          log: this.#log,
        });
        for (const former of networks.slice(1)) await removeNetworkRoute(former, this.#device);
        this.#isAlone = true;
      }
    });
  }

  async underlayChanged(iface: ExternalInterface): Promise<{ mtuBytes: number }> {
    const before = this.#iface;
    this.#iface = iface;
    await this.#enqueue(async () => {
      if (this.#closing.signal.aborted) return;
      if (before.address !== iface.address || before.publicIp !== iface.publicIp) {
        await this.#closeDataplane();
        await this.#openDataplane();
      } else if (this.#dataplane !== undefined) {
        await this.#configureDevice(this.#dataplane);
      } else {
        await this.#openDataplane();
      }
      this.#pathMtus.clear();
      for (const peer of this.#peers.values()) this.#setRow(peer);
      this.#publish();
    });
    return { mtuBytes: this.#mtuBytes };
  }

  pathMtuChanged(peer: Ipv4, mtuBytes: number): void {
    // A probe goes out whatever the kernel has learned about the path; a datagram of the socket does not.
    const known = this.#dataplane?.innerPathMtu(peer) ?? this.#mtuBytes;
    const inner = Math.min(mtuBytes - UDP_OVERHEAD_BYTES, known);
    if (inner < this.#mtuBytes) {
      this.#notePathMtu(peer, inner);
    } else if (this.#pathMtus.delete(peer) && this.#table.setPeerMtu(peer, this.#mtuBytes)) {
      this.#log.info({ peer: formatIpv4(peer), mtuBytes: this.#mtuBytes }, 'path to a peer is wide again');
      this.#publish();
    }
  }

  /** flannel0 of each host, flanneld's too, has the lowest address of its subnet. */
  echoTarget({ subnets }: Peer): Ipv4 | undefined {
    return this.#table.rowOf(subnets.v4) === undefined ? undefined : subnets.v4.address;
  }

  peerPackets({ id }: Peer): readonly [number, number] {
    const [packetsOut, , packetsIn] = this.#traffic.current(id);
    return [packetsOut, packetsIn];
  }

  conditions(): readonly Condition[] {
    const found: Condition[] = [];
    if (this.#failure !== undefined) found.push(condition('data-path-down', this.#failure));
    else if (this.#dataplane === undefined && this.#ownSubnet !== undefined)
      found.push(condition('data-path-down', 'the data path is closed'));
    if (this.#routeConflict !== undefined) found.push(condition('network-route', this.#routeConflict));
    if (this.#shadows.length > 0) found.push(conditionOfMany('peer-route-conflict', this.#shadows));
    const hung = this.#hung.map((worker) => `${worker} does not move: restart if it lasts`);
    if (hung.length > 0) found.push(conditionOfMany('worker-hung', hung));
    const refusals = new Map<ConditionCode, string[]>();
    for (const { peer, code, reason } of this.#refused.values()) {
      const text = `lease ${formatPrefix(peer.subnets.v4)}: ${reason}`;
      const { condition: is } = PEER_REFUSALS[code];
      refusals.set(is, [...(refusals.get(is) ?? []), text]);
    }
    for (const [code, texts] of refusals) found.push(conditionOfMany(code, texts));
    return found;
  }

  isAlive(): boolean {
    return this.#hung.length === 0 && this.#stuck.size === 0;
  }

  status(): UdpStatus {
    const counters = this.#counterSnapshot();
    const offloads = this.#dataplane?.granted();
    return {
      type: 'udp',
      device: this.#device,
      port: this.#port,
      mtuBytes: this.#mtuBytes,
      sourceCheck: this.#context.sourceCheck,
      queues: this.#context.queues,
      ...(offloads === undefined ? {} : { offloads: { ...offloads } }),
      ...(counters === undefined
        ? {}
        : {
            counters: {
              outbound: counters.outbound.values,
              inbound: counters.inbound.values,
              socketDrops: counters.socketDrops,
            },
          }),
    };
  }

  metrics(): readonly MetricFamily[] {
    const snapshot = this.#counterSnapshot();
    if (snapshot === undefined) return [];
    return [
      ...countersOf('outbound', snapshot.outbound),
      ...countersOf('inbound', snapshot.inbound),
      ...this.#kernel.list(),
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
        values: this.#mergingValues(),
      },
      {
        name: 'peers',
        help: 'Leases of other hosts in the route table.',
        type: 'gauge',
        values: [{ labels: {}, value: this.#table.size }],
      },
    ];
  }

  async close(): Promise<void> {
    this.#closing.abort();
    clearInterval(this.#housekeeping);
    await this.#enqueue(() => this.#closeDataplane());
  }

  get #mtuBytes(): number {
    return this.#iface.mtuBytes - UDP_OVERHEAD_BYTES;
  }

  #enqueue<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(work);
    this.#queue = result.then(
      () => undefined,
      () => undefined,
    );
    return result;
  }

  #fail(error: unknown): void {
    this.#log.error({ err: error }, 'udp backend');
    this.#failure = error instanceof Error ? error.message : String(error);
  }

  // --- the data path -------------------------------------------------------------------------------------------

  async #openDataplane(): Promise<void> {
    const ownSubnet = this.#ownSubnet!;
    const options = {
      device: this.#device,
      listenAddress: this.#iface.address,
      publicIp: this.#iface.publicIp,
      port: this.#port,
      queues: this.#context.queues,
      offload: this.#context.offload,
      sourceCheck: this.#context.sourceCheck,
      network: this.#context.config.network,
      ownSubnet,
      table: this.#table,
      onPathMtu: ({ peer, mtuBytes }: PathMtuEvent) => this.#notePathMtu(ipv4(peer), mtuBytes),
      onFailure: (reason: string) => this.#reopen(dataplane, reason),
    };
    const isNew = !(await this.#adoptDevice());
    const dataplane: Dataplane = Dataplane.open(options);
    try {
      await Promise.all([this.#configureDevice(dataplane), dataplane.start()]);
      await this.#restoreFeatures();
      this.#probe(dataplane);
    } catch (error) {
      // Half a device is worse than none; one that was there before is not ours to take away.
      await dataplane.close({ forgetDevice: isNew });
      throw error;
    }
    this.#dataplane = dataplane;
    this.#failure = undefined;
    this.#log.info(
      { device: this.#device, mtuBytes: this.#mtuBytes, ...dataplane.granted() },
      `data path open on ${this.#device} and UDP ${formatIpv4(this.#iface.address)}:${this.#port}`,
    );
  }

  #watchWorkers(dataplane: Dataplane, nowMs: number): void {
    const before = this.#hung;
    this.#hung = dataplane.hungWorkers(nowMs);
    for (const worker of this.#hung)
      if (!before.includes(worker))
        this.#log.error(`${worker} does not move: nothing flows in its direction`);
    for (const worker of before) if (!this.#hung.includes(worker)) this.#log.info(`${worker} moves again`);
  }

  /** What it says about merging changes when the device was down at first, or stops to take superpackets. */
  #probe(dataplane: Dataplane): void {
    for (const news of dataplane.probe()) this.#log.warn({ device: this.#device }, news);
  }

  async #closeDataplane(options: { readonly forgetDevice?: boolean } = {}): Promise<void> {
    const dataplane = this.#dataplane;
    if (dataplane === undefined) return;
    const onStuck = (worker: string, ended: Promise<void>): void => {
      this.#stuck.add(ended);
      void ended.then(() => this.#stuck.delete(ended));
      this.#log.error(`${worker} does not end: it is left behind, with the device and the socket`);
    };
    const last = await dataplane.close({ ...options, onStuck });
    this.#hung = [];
    this.#retired = this.#retired === undefined ? last : addSnapshots(this.#retired, last);
    this.#traffic.closed(last.peers);
    this.#dataplane = undefined;
  }

  /**
   * The device of an earlier run of ours, or the first name that nobody has. A device that somebody else made, and one
   * that carries another network, stays whosever it is, also while its daemon is away.
   *
   * @throws OverlayError E_TUN when there is no name left.
   */
  async #chooseDevice(): Promise<void> {
    const { networks, holdDevice } = this.#context;
    const links = await listLinks();
    const names = links
      .filter((link) => isPersistentTun(link) && isDeviceOf(link, networks))
      .map(({ name }) => name);
    for (let n = 0; n < UDP_DEVICES; n++) {
      const name = udpDeviceName(n);
      const link = links.find((known) => known.name === name);
      if (link === undefined || (await isUnclaimed(link))) names.push(name);
    }
    for (const name of names) {
      if (!(await holdDevice(name))) continue;
      this.#device = name;
      this.#queueDrops = new QueueDrops(name);
      return;
    }
    throw new OverlayError(
      'E_TUN',
      `No TUN device can be had: flannel0 to flannel${UDP_DEVICES - 1} are all taken`,
    );
  }

  /**
   * Whether there is a device of an earlier run to go on with. One that does not fit, because it cannot change between
   * one queue and several, is removed when nobody reads it.
   */
  async #adoptDevice(): Promise<boolean> {
    const link = await findLink(this.#device);
    if (link === undefined) return false;
    const isTun = link.kind === 'tun' && link.data['type'] === 'tun';
    if (isTun && !isDeviceOf(link, this.#context.networks) && !(await isUnclaimed(link)))
      throw new OverlayError(
        'E_TUN',
        `Cannot use "${this.#device}": a device of that name was made by somebody else`,
      );
    if (!isTun)
      throw new OverlayError(
        'E_TUN',
        `Cannot use "${this.#device}": a device of that name exists and is no TUN device`,
      );
    const isMultiQueue = link.data['multi_queue'] === true;
    if (isMultiQueue === this.#context.queues > 1 || (await hasCarrier(this.#device))) return true;
    const features = await readFeatures(this.#device);
    this.#features ??= features && new Map([...features].filter(([name]) => !OPENER_FEATURES.has(name)));
    await deleteLink(this.#device);
    return false;
  }

  /** What an administrator has set by ethtool outlives the device, and a data path that is opened anew. */
  async #restoreFeatures(): Promise<void> {
    const wanted = this.#features;
    const current = wanted && (await readFeatures(this.#device));
    if (wanted === undefined || current === undefined) return;
    const features = differingFeatures(wanted, current);
    if (features.size === 0) return;
    const device = this.#device;
    try {
      await setFeatures(device, features);
      this.#log.info({ device, features: Object.fromEntries(features) }, 'set features by ethtool');
    } catch (error) {
      if (!(error instanceof OverlayError)) throw error;
      this.#log.warn({ device }, `features are not as before: ${error.message}`);
    }
  }

  /**
   * Whether our device is no longer the one of its name; the data path is opened anew then.
   *
   * @throws OverlayError E_TUN when the name belongs to something that is no TUN device: that is for an operator to
   * mend.
   */
  async #hasLostDevice(dataplane: Dataplane): Promise<boolean> {
    const link = await findLink(this.#device);
    if (link?.index === dataplane.deviceIndex) return false;
    if (link !== undefined) await this.#adoptDevice();
    const what =
      link === undefined
        ? 'is gone: deleted, renamed or moved to another network namespace'
        : `is another device now, with index ${link.index} instead of ${dataplane.deviceIndex}`;
    this.#reopen(dataplane, `device ${this.#device} ${what}`, { forgetDevice: true });
    return true;
  }

  /** Closes a data path that failed and opens a new one, unless that has happened meanwhile. */
  #reopen(failed: Dataplane, reason: string, closing: { readonly forgetDevice?: boolean } = {}): void {
    if (failed === this.#dataplane) this.#failure = reason;
    void this.#enqueue(async () => {
      if (failed !== this.#dataplane) return;
      this.#failure = reason;
      this.#log.warn(`data path failed: ${reason}; opening it again`);
      const backoff = new Backoff(REOPEN_MIN_MS, REOPEN_MAX_MS, Math.random);
      while (!this.#closing.signal.aborted) {
        try {
          await this.#closeDataplane(closing);
          await this.#openDataplane();
          return;
        } catch (error) {
          this.#failure = `${reason}; ${error instanceof Error ? error.message : String(error)}`;
          const delayMs = backoff.next();
          this.#log.warn({ err: error, retryMs: Math.round(delayMs) }, 'cannot open the data path');
          await nap(delayMs, this.#closing.signal);
        }
      }
    });
  }

  // --- the device ----------------------------------------------------------------------------------------------

  /** Makes the device what it must be; changes, and says, only what differs. */
  async #configureDevice(dataplane: Dataplane, { isRepair = false } = {}): Promise<void> {
    const link = await findLink(this.#device);
    // Deleted, or not ours: the data path is opened anew and comes back here.
    if (link?.index !== dataplane.deviceIndex) return;
    if (isRepair) this.#features = (await readFeatures(this.#device)) ?? this.#features;
    const own = { address: this.#ownSubnet!.address, length: 32 };
    const repaired = (object: 'device' | 'address' | 'route' | 'setting', what: string): void => {
      if (!isRepair) return;
      this.#kernel.repaired(object, 1);
      this.#log.warn({ device: this.#device, object }, `repaired: ${what}`);
    };
    const settings = {
      disable_ipv6: 'ipv6',
      accept_ra: 'ipv6',
      rp_filter: 'ipv4',
      accept_redirects: 'ipv4',
      send_redirects: 'ipv4',
    } as const;
    const unset: string[] = [];
    for (const [key, family] of Object.entries(settings)) {
      // 2 (loose): the way back to a host's public IP is the underlay's. Strict would discard what admission lets in by
      // that source; the kernel takes the larger of this value and that of "all" (ip-sysctl), so 0 would not do.
      const value = key === 'rp_filter' ? '2' : key === 'disable_ipv6' ? '1' : '0';
      const before = await readInterfaceSysctl(family, this.#device, key);
      if (!(await writeInterfaceSysctl(family, this.#device, key, value))) unset.push(key);
      else if (before !== value) repaired('setting', `${key} was ${before}`);
    }
    if (unset.join() !== this.#unset.join()) {
      this.#log.warn({ settings: unset.join(' ') }, `settings of ${this.#device} that cannot be made here`);
    }
    this.#unset = unset;
    // The alias says which address is ours: it lives as long as the device, over restarts with another subnet.
    // Addresses that somebody else has put there stay.
    const former = parseMark(link.alias)?.address;
    if (former !== undefined && !prefixEquals(former, own)) await deleteAddress(this.#device, former);
    const alias = formatMark(this.#context.config.network, own);
    if (link.alias !== alias) await setLink(this.#device, { alias });
    if (!link.addresses.some((known) => prefixEquals(known, own))) {
      await addAddress(this.#device, own);
      repaired('address', `the address ${formatPrefix(own)} was missing`);
    }
    if (!link.isUp || link.mtuBytes !== this.#mtuBytes || link.txQueueLength !== TX_QUEUE_LENGTH) {
      await setLink(this.#device, { mtuBytes: this.#mtuBytes, txQueueLength: TX_QUEUE_LENGTH, isUp: true });
      const { isUp, mtuBytes, txQueueLength } = link;
      repaired('device', `it was ${isUp ? 'up' : 'down'}, MTU ${mtuBytes}, queue ${txQueueLength}`);
    }
    const { network } = this.#context.config;
    const [routes, within, conflict] = await Promise.all([
      listRoutes({ device: this.#device, inAllTables: true }),
      listRoutes({ within: network }),
      syncNetworkRoute(network, this.#device, () =>
        repaired('route', `the route of ${formatPrefix(network)} was missing`),
      ),
    ]);
    // Ours may be being made beside the listing.
    this.#tunnelled = [network, ...routes.map((route) => route.prefix)];
    if (conflict !== undefined && conflict !== this.#routeConflict) this.#log.error(conflict);
    this.#routeConflict = conflict;
    // Those of our own pods are many, and in nobody's way.
    this.#foreign = within.filter(
      ({ device, prefix }) => device !== this.#device && !prefixCovers(this.#ownSubnet!, prefix),
    );
  }

  // --- peers ---------------------------------------------------------------------------------------------------

  async #applyDiff(diff: PeerDiff): Promise<void> {
    this.#hasSnapshot = true;
    for (const { id, subnets } of diff.removed) {
      this.#peers.delete(id);
      this.#refused.delete(id);
      this.#table.delete(subnets.v4);
      this.#traffic.forget(id);
    }
    const wanted = [...diff.added, ...diff.changed];
    const routable = await this.#areRoutable(wanted);
    wanted.forEach((peer, i) => {
      this.#peers.set(peer.id, peer);
      this.#judgePeer(peer, routable[i]);
    });
    this.#table.setComplete();
    this.#publish();
  }

  async #recheckPeers(): Promise<void> {
    const peers = [...this.#peers.values()];
    const routable = await this.#areRoutable(peers);
    peers.forEach((peer, i) => this.#judgePeer(peer, routable[i]));
    this.#shadows = this.#foreign.length === 0 ? [] : peers.flatMap((peer) => this.#shadowOf(peer) ?? []);
    this.#publish();
  }

  #shadowOf({ subnets }: Peer): string | undefined {
    const shadow = describeShadow(subnets.v4, this.#foreign, this.#context.config.network.length);
    return shadow === undefined ? undefined : `peer ${formatPrefix(subnets.v4)} ${shadow}`;
  }

  #judgePeer(peer: Peer, isRoutable: boolean): void {
    const { id, subnets, host } = peer;
    let code: PeerRefusalCode = 'other_type';
    let reason: string | undefined;
    if (host.backend.type !== '' && host.backend.type !== 'udp') {
      reason = `its host runs backend ${host.backend.type}, not udp`;
    } else if (!isRoutable) {
      code = 'route_loop';
      reason = `public IP ${formatIpv4(host.publicIp.v4)} is reached through ${this.#device} itself`;
    }
    if (reason === undefined) {
      this.#refused.delete(id);
      this.#setRow(peer);
      return;
    }
    if (this.#refused.get(id)?.reason !== reason)
      this.#log.warn(`lease ${formatPrefix(subnets.v4)} is not used: ${reason}`);
    this.#refused.set(id, { peer, code, reason });
    this.#table.delete(subnets.v4);
    this.#traffic.release(id);
  }

  /** Whether each peer's public IP is reached by another way than the overlay. */
  async #areRoutable(peers: readonly Peer[]): Promise<boolean[]> {
    const doubtful = [...new Set(peers.map(({ host }) => host.publicIp.v4))].filter((address) =>
      this.#tunnelled.some((prefix) => prefixContains(prefix, address)),
    );
    // As the socket sends: its address may have a table of its own, by `ip rule`.
    const socket = { address: this.#iface.address, port: this.#port };
    const found = doubtful.length === 0 ? [] : await lookupRoutes(doubtful, { socket });
    const inTunnel = new Set(doubtful.filter((_, i) => found[i]?.device === this.#device));
    return peers.map(({ host }) => !inTunnel.has(host.publicIp.v4));
  }

  #setRow({ id, subnets, host }: Peer): void {
    if (this.#refused.has(id)) return;
    const address = host.publicIp.v4;
    const mtuBytes = Math.min(this.#pathMtus.get(address)?.mtuBytes ?? this.#mtuBytes, this.#mtuBytes);
    const row = this.#table.set(subnets.v4, { address, port: this.#port, mtuBytes });
    this.#traffic.assign(id, address, row);
  }

  #publish(): void {
    // A reader stopped in the middle of a lookup holds it up; housekeeping tries again.
    if (this.#table.publish()) this.#traffic.published();
  }

  #notePathMtu(peer: Ipv4, mtuBytes: number): void {
    if (mtuBytes >= this.#mtuBytes) return;
    const known = this.#pathMtus.get(peer);
    this.#pathMtus.set(peer, { mtuBytes, expiresAtMs: performance.now() + PATH_MTU_TTL_MS });
    if (known?.mtuBytes === mtuBytes || !this.#table.setPeerMtu(peer, mtuBytes)) return;
    this.#log.info({ peer: formatIpv4(peer), mtuBytes }, 'path to a peer became narrower');
    this.#publish();
  }

  #keepHouse(): void {
    const nowMs = performance.now();
    for (const [peer, { expiresAtMs }] of this.#pathMtus) {
      if (expiresAtMs <= nowMs) this.pathMtuChanged(peer, this.#iface.mtuBytes);
    }
    this.#publish();
    this.#table.settle();
    if (this.#dataplane !== undefined) {
      this.#probe(this.#dataplane);
      this.#watchWorkers(this.#dataplane, nowMs);
    }
    const snapshot = this.#counterSnapshot();
    if (snapshot === undefined) return;
    for (const { direction, reason, packets, text } of this.#dropLog.take(snapshot, nowMs)) {
      this.#log.warn({ direction, reason, packets }, `packets dropped: ${text}`);
    }
  }

  // --- what operators see --------------------------------------------------------------------------------------

  #counterSnapshot() {
    const current = this.#dataplane?.counters();
    if (current === undefined || this.#retired === undefined) {
      const only = current ?? this.#retired;
      return only && withQueueDrops(only, this.#queueDrops.total());
    }
    return withQueueDrops(addSnapshots(this.#retired, current), this.#queueDrops.total());
  }

  #mergingValues(): MetricFamily['values'] {
    const { mergeTcp = false, mergeUdp = false } = this.#dataplane?.granted() ?? {};
    return [
      { labels: { protocol: 'tcp' }, value: Number(mergeTcp === true) },
      { labels: { protocol: 'udp' }, value: Number(mergeUdp === true) },
    ];
  }

  peerStatus(): readonly PeerDetail[] {
    const rows = [...this.#peers.values()].map((peer) => ({ peer, row: this.#table.rowOf(peer.subnets.v4) }));
    const counts = this.#dataplane?.peerCounters(this.#table.rowLimit) ?? [];
    return rows.map(({ peer: { id, subnets, host }, row }) => {
      const entry = { id, subnet: formatPrefix(subnets.v4), publicIp: formatIpv4(host.publicIp.v4) };
      const refusal = this.#refused.get(id);
      if (refusal !== undefined)
        return { ...entry, state: 'refused', code: refusal.code, reason: refusal.reason };
      const held = row === undefined ? undefined : this.#table.row(row)?.peer;
      if (row === undefined || held === undefined) return { ...entry, state: 'waiting' };
      const [packetsOut, bytesOut, packetsIn, bytesIn] = this.#traffic.of(id, counts);
      const { port, mtuBytes } = held;
      const traffic = { packetsOut, bytesOut, packetsIn, bytesIn };
      return { ...entry, state: 'programmed', row, port, mtuBytes, ...traffic };
    });
  }
}

/** A device that an earlier release made, and that was left before it got an address. */
async function isUnclaimed(link: Link): Promise<boolean> {
  return (
    isPersistentTun(link) &&
    link.alias === '' &&
    link.addresses.length === 0 &&
    !(await hasCarrier(link.name))
  );
}

function addDirections<Name extends string>(
  a: DirectionCounters<Name>,
  b: DirectionCounters<Name>,
): DirectionCounters<Name> {
  const values: Record<Name, number> = { ...a.values };
  for (const name of Object.keys(values) as Name[]) values[name] += b.values[name];
  return { values, offenders: new Map([...a.offenders, ...b.offenders]) };
}

function addSnapshots(a: CounterSnapshot, b: CounterSnapshot): CounterSnapshot {
  return {
    outbound: addDirections(a.outbound, b.outbound),
    inbound: addDirections(a.inbound, b.inbound),
    socketDrops: a.socketDrops + b.socketDrops,
  };
}

/** What the device dropped was on its way in too: so packets_in still equals packets_out plus all drops. */
function withQueueDrops({ outbound, ...others }: CounterSnapshot, packets: number) {
  const values = { ...outbound.values, [QUEUE_DROP]: packets };
  values.packets_in += packets;
  return { ...others, outbound: { ...outbound, values } };
}

/** packets_in → dataplane_packets_in_total{direction}; drop_x → dropped_packets_total{direction, reason="x"}. */
function countersOf(direction: string, counters: DirectionCounters<string>): MetricFamily[] {
  const families: MetricFamily[] = [];
  const drops: { labels: Record<string, string>; value: number }[] = [];
  for (const [name, value] of Object.entries(counters.values)) {
    if (name.startsWith('drop_'))
      drops.push({ labels: { direction, reason: name.slice('drop_'.length) }, value });
    else {
      families.push({
        name: `dataplane_${name}_total`,
        help: `Data path: ${name.replaceAll('_', ' ')}, by direction.`,
        type: 'counter',
        values: [{ labels: { direction }, value }],
      });
    }
  }
  families.push({
    name: 'dropped_packets_total',
    help: 'Inner packets dropped, by direction and reason.',
    type: 'counter',
    values: drops,
  });
  return families;
}
