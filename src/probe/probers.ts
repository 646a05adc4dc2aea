// Both probers over one socket: the path to a peer's public IP, and the echo inside the overlay. Without the capability
// there are none, and everything else works as it does with them.

import { randomBytes } from 'node:crypto';
import { type Condition, condition, conditionOfMany, NAMED } from '../core/conditions.js';
import type { MetricFamily } from '../core/metric.js';
import { formatIpv4, type Ipv4 } from '../net/ipv4.js';
import type { IcmpAddon } from './addon-icmp.js';
import type { Received } from './icmp-echo.js';
import { type OverlayPeer, OverlayProber } from './overlay-prober.js';
import { pathMetrics, reachMetrics } from './path-metrics.js';
import { PathProber } from './path-prober.js';
import type { PathReport } from './peer-path.js';
import type { ReachState } from './peer-reach.js';
import { openRawIcmp, type RawIcmp } from './raw-icmp.js';

/** What is asked of the peers' leases, which are the caller's own and only given back to it. */
export interface ProbersOptions<Lease> {
  /** MTU of the external interface, in bytes: the largest packet that is tried. */
  readonly fullBytes: () => number;
  /** The largest packet that reaches a peer was measured. */
  readonly onPathMtu: (publicIp: Ipv4, mtuBytes: number) => void;
  /** The address at a peer's end of the overlay; undefined while nothing is sent to it. */
  readonly targetOf: (lease: Lease) => Ipv4 | undefined;
  /** Packets outbound and inbound of a peer so far; undefined where they are not counted. */
  readonly packetsOf: (lease: Lease) => readonly [number, number] | undefined;
  /** What messages and metrics call a peer. */
  readonly nameOf: (lease: Lease) => string;
  readonly loadAddon: () => Promise<IcmpAddon>;
  /** @default openRawIcmp */
  readonly open?: (
    onReceived: (received: Received) => void,
    loadAddon: () => Promise<IcmpAddon>,
  ) => Promise<RawIcmp>;
}

interface Running<Lease> {
  readonly path: PathProber;
  readonly overlay: OverlayProber<Lease>;
  /** Whose socket it is. */
  readonly by: string;
}

/** The probers of one overlay, or the reason why there are none. */
export class Probers<Lease> {
  readonly #running: Running<Lease> | undefined;
  readonly #whyOff: string;
  readonly #nameOf: (lease: Lease) => string;
  readonly #isFault: boolean;
  readonly #fullBytes: () => number;
  /** fullBytes() as of the last interfaceChanged(). */
  #sizedFor: number;

  private constructor(
    { nameOf, fullBytes }: Pick<ProbersOptions<Lease>, 'nameOf' | 'fullBytes'>,
    running: Running<Lease> | undefined,
    whyOff = '',
    isFault = false,
  ) {
    this.#running = running;
    this.#nameOf = nameOf;
    this.#fullBytes = fullBytes;
    this.#sizedFor = fullBytes();
    this.#whyOff = whyOff;
    this.#isFault = isFault;
  }

  /**
   * Opens the socket; nothing is asked before start(). Never rejects: without a socket they are off, which is a fault.
   */
  static async open<Lease>(options: ProbersOptions<Lease>): Promise<Probers<Lease>> {
    const { loadAddon, open = openRawIcmp } = options;
    const onReceived = (received: Received): void => {
      running?.path.receive(received);
      running?.overlay.receive(received);
    };
    let running: Running<Lease> | undefined;
    try {
      const { sender, by } = await open(onReceived, loadAddon);
      const now = (): number => performance.now();
      const { fullBytes, onPathMtu, targetOf, packetsOf } = options;
      const path = new PathProber({ sender, fullBytes, onPathMtu, now, random: Math.random, randomBytes });
      const hostAnswer = path.hostAnswer.bind(path);
      const overlay = new OverlayProber<Lease>({ sender, targetOf, packetsOf, hostAnswer, now, randomBytes });
      running = { path, overlay, by };
      return new Probers(options, running);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      return new Probers<Lease>(options, undefined, `path probes are off: ${why}`, true);
    }
  }

  /** Switched off by the operator, which is no fault. */
  static off<Lease>(options: ProbersOptions<Lease>): Probers<Lease> {
    return new Probers<Lease>(options, undefined, 'path probes are switched off');
  }

  /** Whose socket they have, or 'off'. */
  get by(): string {
    return this.#running?.by ?? 'off';
  }

  start(): void {
    this.#running?.path.start();
    this.#running?.overlay.start();
  }

  /** The peers from now on; what is known of those that stay is kept. `peers` is gone through twice. */
  setPeers(peers: () => Iterable<OverlayPeer<Lease>>): void {
    this.#running?.path.setPeers(publicIps(peers()));
    this.#running?.overlay.setPeers(peers());
  }

  /** With another MTU what is known of sizes is void. */
  interfaceChanged(): void {
    const fullBytes = this.#fullBytes();
    if (fullBytes === this.#sizedFor) return;
    this.#sizedFor = fullBytes;
    this.#running?.path.restart();
  }

  /** What holds of the probes themselves. */
  conditions(): Condition[] {
    return this.#isFault ? [condition('probes-off', this.#whyOff)] : [];
  }

  /** Peers that cannot be reached. Never a reason for 503: a host that is off would stop everybody's rolling update. */
  peerConditions(): Condition[] {
    const texts: string[] = [];
    let count = 0;
    // Asked once a second, of thousands after a partition: only those that are named become text.
    for (const { lease, publicIp, state } of this.#running?.overlay.unreached() ?? []) {
      if (count++ < NAMED)
        texts.push(`${this.#nameOf(lease)} of ${formatIpv4(publicIp)}: ${state.replace(' since', '')}`);
    }
    return count === 0 ? [] : [conditionOfMany('peer-unreachable', texts, count)];
  }

  metrics(): MetricFamily[] {
    return [...pathMetrics(this.#running?.path), ...reachMetrics(this.#running?.overlay, this.#nameOf)];
  }

  /** Of a peer's public IP; undefined before anything is known. */
  pathOf(publicIp: Ipv4): PathReport | undefined {
    return this.#running?.path.report(publicIp);
  }

  /** For /status, of the peer with this id. */
  reachabilityOf(id: string): Record<string, unknown> {
    const unknown = { state: 'unknown' } satisfies { state: ReachState };
    if (this.#running === undefined) return { ...unknown, reason: this.#whyOff };
    const report = this.#running.overlay.report(id);
    if (report === undefined) return { ...unknown, reason: 'just come' };
    const { sinceMs, lastHeardMs, ...rest } = report;
    return {
      ...rest,
      ...(sinceMs === undefined ? {} : { since: wallClock(sinceMs) }),
      ...(lastHeardMs === undefined ? {} : { lastHeard: wallClock(lastHeardMs) }),
    };
  }

  /** For /status: peers by reachability; undefined without probes. */
  peerCounts(): Record<string, number> | undefined {
    if (this.#running === undefined) return undefined;
    const { overlay } = this.#running;
    const counts = overlay.summary();
    return {
      total: overlay.peerCount,
      ok: counts.ok,
      silentSince: counts['silent since'],
      unreachable: counts.unreachable,
      neverHeard: counts['never heard'],
      unknown: counts.unknown,
    };
  }

  /** Idempotent. */
  close(): void {
    this.#running?.overlay.close();
    this.#running?.path.close();
  }
}

function* publicIps<Lease>(peers: Iterable<OverlayPeer<Lease>>): Generator<Ipv4> {
  for (const { publicIp } of peers) yield publicIp;
}

/** Of a moment by the monotonic clock, RFC 3339. */
function wallClock(ms: number): string {
  return new Date(Date.now() - performance.now() + ms).toISOString();
}
