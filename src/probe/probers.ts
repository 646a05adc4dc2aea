// Both probers over one socket of each family: the path to a peer's public IP, and the echo inside the overlay. Without
// the capability there are none, and everything else works as it does with them.

import { messageOf } from '../core/errors.js';
import { randomBytes } from 'node:crypto';
import { type Condition, condition, conditionOfMany, NAMED } from '../core/conditions.js';
import type { MetricFamily } from '../core/metric.js';
import type { FamilyName } from '../net/dual.js';
import { type Address, formatAddress } from '../net/prefix.js';
import type { Received } from './icmp-echo.js';
import { type OverlayPeer, OverlayProber, type WayReport } from './overlay-prober.js';
import { pathMetrics, reachMetrics } from './path-metrics.js';
import { PathProber } from './path-prober.js';
import type { PathReport } from './peer-path.js';
import { type Reach, reachOfBoth } from './peer-reach.js';
import type { PeerCounts, PeerPathStatus, ReachabilityStatus } from '../ops/status.js';
import type { RawIcmp } from './raw-icmp.js';

/** What is asked of the peers' leases, which are the caller's own and only given back to it. */
export interface ProbersOptions<Lease> {
  /** Families of the network, and so of all addresses that are asked. */
  readonly families: readonly FamilyName[];
  /** The peers of this moment. */
  readonly peers: () => Iterable<OverlayPeer<Lease>>;
  /** MTU of the external interface, in bytes: the largest packet that is tried. */
  readonly fullBytes: () => number;
  /** The largest packet that reaches a peer was measured. */
  readonly onPathMtu: (publicIp: Address, mtuBytes: number) => void;
  /** The address at a peer's end of the overlay, by the way to a public IP; undefined while nothing is sent there. */
  readonly targetOf: (lease: Lease, way: Address) => Address | undefined;
  /** Packets outbound and inbound of a peer so far; undefined where they are not counted. */
  readonly packetsOf: (lease: Lease) => readonly [number, number] | undefined;
  /** Ids of peers with traffic, each about once a second while it has any; called with each tick. */
  readonly takeBusy: () => readonly string[];
  /** What messages and metrics call a peer. */
  readonly nameOf: (lease: Lease) => string;
}

/** Opens the sockets that both share, one of each family. Rejects with an Error that says what is missing. */
export type OpenIcmp = (
  onReceived: (received: Received) => void,
  families: readonly FamilyName[],
) => Promise<RawIcmp>;

interface Running<Lease> {
  readonly path: PathProber;
  readonly overlay: OverlayProber<Lease>;
  /** Whose socket it is. */
  readonly by: string;
}

/** The probers of one overlay. Until open(), and without a socket, they are off and say why. */
export class Probers<Lease> {
  readonly #options: ProbersOptions<Lease>;
  #running: Running<Lease> | undefined;
  #whyOff = 'path probes are switched off';
  /** Whether it is a fault that they are off. */
  #isFaulty = false;
  /** fullBytes() as of the last interfaceChanged(). */
  #sizedFor: number;
  #isClosed = false;

  constructor(options: ProbersOptions<Lease>) {
    this.#options = options;
    this.#sizedFor = options.fullBytes();
  }

  /** Opens the socket and begins to ask. Never rejects: without a socket there is a condition. */
  async open(openIcmp: OpenIcmp): Promise<void> {
    try {
      const { sender, by } = await openIcmp((received) => {
        this.#running?.path.receive(received);
        this.#running?.overlay.receive(received);
      }, this.#options.families);
      if (this.#isClosed) return sender.close();
      const { fullBytes, onPathMtu, targetOf, packetsOf, takeBusy } = this.#options;
      const now = (): number => performance.now();
      const path = new PathProber({ sender, fullBytes, onPathMtu, now, random: Math.random, randomBytes });
      const hostAnswer = path.hostAnswer.bind(path);
      const asked = { targetOf, packetsOf, takeBusy, hostAnswer };
      const overlay = new OverlayProber<Lease>({ sender, ...asked, now, randomBytes });
      this.#running = { path, overlay, by };
      path.setPeers(publicIps(this.#options.peers()));
      overlay.setPeers(this.#options.peers());
      path.start();
      overlay.start();
    } catch (error) {
      this.#whyOff = `path probes are off: ${messageOf(error)}`;
      this.#isFaulty = true;
    }
  }

  /** Takes what has changed since: peers that went, by id, and those that came or are others now. O(changes). */
  change(gone: Iterable<string>, come: Iterable<OverlayPeer<Lease>>): void {
    if (this.#running === undefined) return;
    const { path, overlay } = this.#running;
    const addresses = overlay.changePeers(gone, come);
    path.changePeers(addresses.left, addresses.come);
  }

  /** "raw-socket", "addon (…)" with the reason, or "off". */
  get by(): string {
    return this.#running?.by ?? 'off';
  }

  /** To be called when the interface's MTU may have changed: the sizes that were found are forgotten then. */
  interfaceChanged(): void {
    const fullBytes = this.#options.fullBytes();
    if (fullBytes === this.#sizedFor) return;
    this.#sizedFor = fullBytes;
    this.#running?.path.restart();
  }

  /** What is wrong with the probes themselves. */
  conditions(): Condition[] {
    return this.#isFaulty ? [condition('probes-off', this.#whyOff)] : [];
  }

  /** Peers that cannot be reached. Never a reason for 503: a host that is off would stop everybody's rolling update. */
  peerConditions(): Condition[] {
    const texts: string[] = [];
    let count = 0;
    // Asked once a second, of thousands after a partition: only those that are named become text.
    for (const { lease, publicIp, state } of this.#running?.overlay.unreached() ?? []) {
      if (count++ < NAMED)
        texts.push(
          `${this.#options.nameOf(lease)} of ${formatAddress(publicIp)}: ${state.replace(' since', '')}`,
        );
    }
    return count === 0 ? [] : [conditionOfMany('peer-unreachable', texts, count)];
  }

  metrics(): MetricFamily[] {
    return [
      ...pathMetrics(this.#running?.path),
      ...reachMetrics(this.#running?.overlay, this.#options.nameOf),
    ];
  }

  /** For /status, of the peer with this id. */
  statusOf(id: string): PeerPathStatus {
    if (this.#running === undefined) return { reachability: { state: 'unknown', reason: this.#whyOff } };
    const { path, overlay } = this.#running;
    const [one, other] = overlay.reportsOf(id);
    if (one === undefined) return { reachability: { state: 'unknown', reason: 'just come' } };
    const pathOf = ({ publicIp }: WayReport<Lease>): PathReport => path.report(publicIp) ?? {};
    if (other === undefined) return { path: pathOf(one), reachability: reachability(one.report) };
    return {
      path: pathOf(one),
      paths: { v4: pathOf(one), v6: pathOf(other) },
      reachability: reachability(reachOfBoth(one.report, other.report)),
      reachabilities: { v4: reachability(one.report), v6: reachability(other.report) },
    };
  }

  /** For /status: peers by reachability; undefined without probes. */
  peerCounts(): PeerCounts | undefined {
    if (this.#running === undefined) return undefined;
    const { overlay } = this.#running;
    const counts = overlay.summary();
    return {
      total: Object.values(counts).reduce((sum, count) => sum + count, 0),
      ok: counts.ok,
      silentSince: counts['silent since'],
      unreachable: counts.unreachable,
      neverHeard: counts['never heard'],
      unknown: counts.unknown,
    };
  }

  /** Idempotent. */
  close(): void {
    this.#isClosed = true;
    this.#running?.overlay.close();
    this.#running?.path.close();
  }
}

function* publicIps<Lease>(peers: Iterable<OverlayPeer<Lease>>): Generator<Address> {
  for (const { ways } of peers) yield* ways;
}

function reachability({ sinceMs, lastHeardMs, ...rest }: Reach): ReachabilityStatus {
  return {
    ...rest,
    ...(sinceMs === undefined ? {} : { since: wallClock(sinceMs) }),
    ...(lastHeardMs === undefined ? {} : { lastHeard: wallClock(lastHeardMs) }),
  };
}

/** RFC 3339 text of a moment by the monotonic clock. */
function wallClock(ms: number): string {
  return new Date(Date.now() - performance.now() + ms).toISOString();
}
