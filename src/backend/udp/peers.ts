// The peers of the udp mode: who has a row in the route table, who is refused and why, how large a packet may be on the
// way to each, and what each has sent and received.

import { type Condition, conditionsOf } from '../../core/conditions.js';
import type { Logger } from '../../core/log.js';
import type { RouteTable } from '../../dataplane/route-table.js';
import { hostTexts, type Peer, type PeerDiff } from '../../lease/lease.js';
import { type FamilyName, familiesOf, firstOf } from '../../net/dual.js';
import { parseIpv4 } from '../../net/ipv4.js';
import { parseIpv6 } from '../../net/ipv6.js';
import {
  type Address,
  formatAddress,
  formatAddresses,
  formatPrefixes,
  type Prefix,
} from '../../net/prefix.js';
import { PEER_REFUSALS, type PeerDetail, type PeerRefusalCode } from '../../ops/status.js';
import { BusyRows } from './busy-rows.js';
import type { HandedState, PathState, PeerState } from './handed-state.js';
import type { UdpLane } from './lane.js';
import { PathMtus } from './path-mtus.js';
import { PeerTraffic, type Traffic } from './traffic.js';

/** The counters of the data path that is open, all 0 or none when there is none. */
export interface RowCounters {
  /** Of one row; borrowed until the next call. */
  rowCounters(row: number): ArrayLike<number>;
  /** Of every row below `rows`, four each. */
  peerCounters(rows: number): ArrayLike<number>;
  /** Of the rows from `first` on that `values` has room for; false when there is no data path. */
  readRows(values: Float64Array, first: number): boolean;
}

interface PeerRefusal {
  readonly peer: Peer;
  readonly code: PeerRefusalCode;
  readonly reason: string;
}

export interface UdpPeersOptions {
  readonly table: RouteTable;
  /** Where every peer listens: all hosts of a Network have one config. */
  readonly port: number;
  /** Where a peer is sent to, whichever family its subnets have; undefined when there is no way. */
  readonly outerOf: (peer: Peer) => Address | undefined;
  /** The largest packet that the interface takes to this address, at present. */
  readonly widestTo: (outer: Address) => number;
  readonly deviceName: () => string;
  readonly counters: RowCounters;
  /** The kernel lane, which follows the table. */
  readonly lane: Pick<UdpLane, 'isBehind' | 'provenRows'>;
  /** Whether each address is reached by another way than our own device. */
  readonly areReachable: (outers: readonly Address[]) => Promise<readonly boolean[]>;
  readonly nowMs: () => number;
  readonly log: Logger;
}

export class UdpPeers {
  readonly #options: UdpPeersOptions;
  readonly #table: RouteTable;
  readonly #log: Logger;
  readonly #peers = new Map<string, Peer>();
  /** Peers that must not be sent to, with the reason, by the id of their lease. */
  readonly #refused = new Map<string, PeerRefusal>();
  readonly #pathMtus = new PathMtus();
  /** A peer has a row for each family, and rows of IPv6 are told apart from those of IPv4. */
  readonly #traffic: Readonly<Record<FamilyName, PeerTraffic<string>>>;
  readonly #busyRows: BusyRows;
  #hasSnapshot = false;
  /** The table has been told that these are all. */
  #isComplete = false;

  constructor(options: UdpPeersOptions) {
    this.#options = options;
    this.#table = options.table;
    this.#log = options.log;
    const readRow = (row: number): ArrayLike<number> => options.counters.rowCounters(row);
    this.#traffic = { v4: new PeerTraffic(readRow), v6: new PeerTraffic(readRow) };
    this.#busyRows = new BusyRows((values, first) => options.counters.readRows(values, first));
    this.#table.setPartial();
  }

  /** Whether apply() was called, so that all leases are known. */
  get hasSnapshot(): boolean {
    return this.#hasSnapshot;
  }

  list(): readonly Peer[] {
    return [...this.#peers.values()];
  }

  async apply(diff: PeerDiff): Promise<void> {
    this.#hasSnapshot = true;
    for (const { id, subnets } of diff.removed) {
      this.#peers.delete(id);
      this.#refused.delete(id);
      for (const family of familiesOf(subnets)) {
        this.#table.delete(subnets[family]!);
        this.#traffic[family].forget(id);
      }
    }
    const wanted = [...diff.added, ...diff.changed];
    // What cannot be judged now is wanted all the same: recheck() comes back to it.
    for (const peer of wanted) this.#peers.set(peer.id, peer);
    await this.#judgeAll(wanted);
  }

  /** Judges all of them again: routes of the host may have changed. */
  async recheck(): Promise<void> {
    await this.#judgeAll(this.list());
  }

  /** The interface is another one, and with it every path. */
  underlayChanged(): void {
    this.#pathMtus.clear();
    for (const peer of this.#peers.values()) this.#setRow(peer);
    this.publish();
  }

  /** The path to `peer` takes inner packets of `mtuBytes` at most. */
  narrowPath(peer: Address, mtuBytes: number): void {
    if (mtuBytes >= this.#options.widestTo(peer)) return;
    const isNews = this.#pathMtus.note(peer, mtuBytes, this.#options.nowMs());
    if (!isNews || !this.#table.setPeerMtu(peer, mtuBytes)) return;
    this.#log.info({ peer: formatAddress(peer), mtuBytes }, 'path to a peer became narrower');
    this.publish();
  }

  /** The path to `peer` takes whatever the interface does. */
  widenPath(peer: Address): void {
    const mtuBytes = this.#options.widestTo(peer);
    if (!this.#pathMtus.forget(peer) || !this.#table.setPeerMtu(peer, mtuBytes)) return;
    this.#log.info({ peer: formatAddress(peer), mtuBytes }, 'path to a peer is wide again');
    this.publish();
  }

  /** Paths whose full size is to be tried again. */
  expiredPaths(nowMs: number): readonly Address[] {
    return this.#pathMtus.expired(nowMs);
  }

  publish(): void {
    // A reader stopped in the middle of a lookup holds it up, or a lane that has much to do; housekeeping tries again.
    if (!this.#table.publish() || this.#options.lane.isBehind) return;
    for (const traffic of this.#traffics()) traffic.published();
  }

  /** A data path was closed; `last` has the counters of every row. */
  dataPathClosed(last: ArrayLike<number>): void {
    for (const traffic of this.#traffics()) traffic.closed(last);
  }

  /** What another daemon has counted for the same leases, and the paths that it found to be narrow. */
  restore({ peers, paths }: Pick<HandedState, 'peers' | 'paths'>): void {
    for (const [family, id, publicIp, traffic] of peers) {
      const address = addressOf(publicIp);
      if (address !== undefined) this.#traffic[family].restore(id, address, traffic);
    }
    for (const [peer, mtuBytes] of paths) {
      const address = addressOf(peer);
      if (address !== undefined) this.narrowPath(address, mtuBytes);
    }
  }

  /** What restore() takes. */
  handedState(): Pick<HandedState, 'peers' | 'paths'> {
    const peers = this.list().flatMap((peer) => {
      const outer = this.#options.outerOf(peer);
      if (outer === undefined) return [];
      return familiesOf(peer.subnets).map((family): PeerState => {
        return [family, peer.id, formatAddress(outer), this.#traffic[family].current(peer.id)];
      });
    });
    const paths = this.#pathMtus.list().map(([peer, bytes]): PathState => [formatAddress(peer), bytes]);
    return { peers, paths };
  }

  hasRow({ subnets }: Peer): boolean {
    return this.#table.rowOf(firstOf<Prefix<Address>, Prefix<Address>>(subnets)) !== undefined;
  }

  /** Of both families together. */
  trafficOf({ id }: Peer): Traffic {
    return sumOf(this.#traffic.v4.current(id), this.#traffic.v6.current(id));
  }

  /** Ids of the next peers with traffic; each is looked at with every tenth call. */
  takeBusy(): readonly string[] {
    const rows = this.#busyRows.take(this.#table.rowLimit);
    const { v4, v6 } = this.#traffic;
    const ids = rows.map((row) => v4.keyOf(row) ?? v6.keyOf(row)).filter((id) => id !== undefined);
    return rows.length > 1 ? [...new Set(ids)] : ids;
  }

  conditions(): readonly Condition[] {
    const refusals = Array.from(this.#refused.values(), ({ peer, code, reason }) => ({
      code: PEER_REFUSALS[code].condition,
      text: `lease ${formatPrefixes(peer.subnets)}: ${reason}`,
    }));
    return conditionsOf(refusals);
  }

  status(): readonly PeerDetail[] {
    const { counters, lane } = this.#options;
    const counts = counters.peerCounters(this.#table.rowLimit);
    const isProven = lane.provenRows(this.#table.rowLimit);
    return Array.from(this.#peers.values(), (peer) => this.#statusOf(peer, counts, isProven));
  }

  #statusOf(
    { id, subnets, host }: Peer,
    counts: ArrayLike<number>,
    isProven: ((row: number) => boolean) | undefined,
  ): PeerDetail {
    const entry = { id, ...hostTexts(subnets, host.publicIp) };
    const refusal = this.#refused.get(id);
    if (refusal !== undefined)
      return { ...entry, state: 'refused', code: refusal.code, reason: refusal.reason };
    const row = this.#table.rowOf(firstOf<Prefix<Address>, Prefix<Address>>(subnets));
    const held = row === undefined ? undefined : this.#table.row(row)?.peer;
    if (row === undefined || held === undefined) return { ...entry, state: 'waiting' };
    const { v4, v6 } = this.#traffic;
    const [packetsOut, bytesOut, packetsIn, bytesIn] = sumOf(v4.of(id, counts), v6.of(id, counts));
    const { port, mtuBytes } = held;
    const traffic = { packetsOut, bytesOut, packetsIn, bytesIn };
    const lane = isProven && { lane: isProven(row) };
    return { ...entry, state: 'programmed', row, port, mtuBytes, ...traffic, ...lane };
  }

  async #judgeAll(peers: readonly Peer[]): Promise<void> {
    const outers = peers.map((peer) => this.#options.outerOf(peer));
    const asked = outers.filter((outer) => outer !== undefined);
    const reachable = await this.#options.areReachable(asked);
    const looped = new Set(asked.filter((_, i) => !reachable[i]));
    peers.forEach((peer, i) => this.#judge(peer, outers[i], looped));
    if (this.#hasSnapshot && !this.#isComplete) this.#table.setComplete();
    this.#isComplete = this.#hasSnapshot;
    this.publish();
  }

  #judge(peer: Peer, outer: Address | undefined, looped: ReadonlySet<Address>): void {
    const { id, subnets } = peer;
    const refusal = this.#refusalOf(peer, outer, looped);
    if (refusal === undefined) {
      this.#refused.delete(id);
      this.#setRow(peer);
      return;
    }
    if (this.#refused.get(id)?.reason !== refusal.reason)
      this.#log.warn(`lease ${formatPrefixes(subnets)} is not used: ${refusal.reason}`);
    this.#refused.set(id, refusal);
    for (const family of familiesOf(subnets)) {
      this.#table.delete(subnets[family]!);
      this.#traffic[family].release(id);
    }
  }

  #refusalOf(peer: Peer, outer: Address | undefined, looped: ReadonlySet<Address>): PeerRefusal | undefined {
    const { backend, publicIp } = peer.host;
    if (backend.type !== '' && backend.type !== 'udp')
      return { peer, code: 'other_type', reason: `its host runs backend ${backend.type}, not udp` };
    if (outer === undefined) {
      const reason = `public IP ${formatAddresses(publicIp)} is of a family that this host has no address of`;
      return { peer, code: 'invalid', reason };
    }
    if (!looped.has(outer)) return undefined;
    const reason = `public IP ${formatAddress(outer)} is reached through ${this.#options.deviceName()} itself`;
    return { peer, code: 'route_loop', reason };
  }

  #setRow(peer: Peer): void {
    const { id, subnets } = peer;
    const address = this.#options.outerOf(peer);
    if (address === undefined || this.#refused.has(id)) return;
    const { port } = this.#options;
    const widest = this.#options.widestTo(address);
    const mtuBytes = Math.min(this.#pathMtus.of(address) ?? widest, widest);
    for (const family of familiesOf(subnets)) {
      const row = this.#table.set(subnets[family]!, { address, port, mtuBytes });
      this.#traffic[family].assign(id, address, row);
    }
  }

  #traffics(): readonly PeerTraffic<string>[] {
    return [this.#traffic.v4, this.#traffic.v6];
  }
}

function addressOf(text: string): Address | undefined {
  return parseIpv4(text) ?? parseIpv6(text);
}

function sumOf(a: Traffic, b: Traffic): Traffic {
  return [a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]];
}
