// Keeps the kernel's routes, neighbours and FDB equal to what the peers' leases ask for; shared by vxlan and host-gw.
//
// Desired state is a map of leases. A change marks its peer and is programmed at once, touching nothing else (cost: at
// most five processes for any number of changes, O(1) for each). A full run lists what the kernel holds, programs the
// difference and removes what earlier runs left; it comes with the first snapshot, with reconcile(), and whenever the
// kernel's answer cannot be trusted. Runs never overlap.
//
// A peer the kernel refuses is retried alone, with a delay that doubles from 200 ms to 30 s; the others do not wait.
//
// State of a peer:   waiting → programmed | failed (retried) | refused (looked at again in every full run)

import { condition, conditionOfMany, isPermission } from '../core/conditions.js';
import type { Condition, ConditionCode } from '../core/conditions.js';
import { ROUTE_PROTOCOL } from '../kernel/ip.js';
import { lookupExactRoutes, lookupRoutes } from '../kernel/route.js';
import { formatIpv4 } from '../net/ipv4.js';
import { formatPrefix, type Prefix, prefixKey, prefixOf } from '../net/prefix.js';
import { describeShadow } from '../kernel/network-route.js';
import { addPeerSteps, diffKernel, emptyPhases, findConflict, groupBy, removePeerSteps } from './diff.js';
import { PeerCounters } from './metrics.js';
import { performPhases, readKernelState } from './batches.js';
import type { RouteLookup, Route } from '../kernel/route.js';
import { compareRecency, type Ipv4Lease, type PeerDiff } from '../lease/lease.js';
import type { Logger } from '../core/log.js';
import type { PeerPlan, PeerRefusal, Phases, Step } from './diff.js';
import type { MetricFamily } from '../core/metric.js';

export interface PeerProgrammerOptions {
  readonly network: Prefix;
  /** The network of this host's last run, when it was another. */
  readonly former: Prefix | undefined;
  /** Device that is ours alone, with neighbours and FDB; undefined in host-gw mode. */
  readonly tunnelDevice: string | undefined;
  /** Whether planPeer() looks at how the peer's public IP is reached. */
  needsLookup(): boolean;
  /** Device by which public IPs have to be reached; without it any will do. */
  lookupThrough?(): string;
  /** What `lease` needs, or why it gets nothing. `lookup` is undefined when there is no route, or needsLookup() is false. */
  planPeer(lease: Ipv4Lease, lookup: RouteLookup | undefined): PeerPlan | PeerRefusal;
  /** Runs before a full run; makes the device. A rejection ends the run and is retried. */
  prepare?(): Promise<void>;
  /** Runs once, after the first full run with a snapshot: the peers are reachable now. */
  afterFirstRun?(): Promise<void>;
  /** Runs beside each run, once the desired state changed. A rejection is retried with the next run. */
  beside?(): Promise<void>;
  readonly log: Logger;
}

interface Peer {
  lease: Ipv4Lease;
  /** What was last programmed, successfully or not; undefined before that and for refused peers. */
  plan: PeerPlan | undefined;
  refusal: PeerRefusal | undefined;
  failure: { readonly message: string; readonly attempts: number; readonly retryAt: number } | undefined;
  /** The plan that the kernel took entirely; equal to `plan` unless something failed or is waiting. */
  done: PeerPlan | undefined;
  /** The lease that `plan` and `refusal` were made from. */
  judged: Ipv4Lease | undefined;
  /** Reason of the refusal that was logged last. */
  said: string | undefined;
}

const RETRY_MIN_MS = 200;
const RETRY_MAX_MS = 30_000;

/** Above this many changes one full run is cheaper than looking up each route. */
const FULL_RUN_CHANGES = 256;

const REFUSALS = {
  other_type: 'peer-other-type',
  off_link: 'peer-off-link',
  invalid: 'peer-invalid',
  conflict: 'peer-route-conflict',
} as const satisfies Record<PeerRefusal['code'], ConditionCode>;

export class PeerProgrammer {
  readonly #options: PeerProgrammerOptions;
  readonly #log: Logger;
  readonly #counters = new PeerCounters();
  /** By the id of their leases. */
  readonly #peers = new Map<string, Peer>();
  /** FDB owner by MAC, so that two leases with one MAC do not take turns. */
  readonly #macOwners = new Map<string, string>();
  readonly #changed = new Set<string>();
  readonly #left: PeerPlan[] = [];
  #hasMacConflict = false;
  /** Peers whose packets, all or some, another route takes. */
  #shadows: readonly string[] = [];
  #hasSnapshot = false;
  #isOpen = false;
  #isClosed = false;
  #wantsFullRun = false;
  #hasFullRun = false;
  /** Attempts of the run as a whole, such as "ip" missing or the device refused. */
  #runFailure: { readonly message: string; readonly attempts: number } | undefined;
  #running: Promise<void> | undefined;
  #retryTimer: NodeJS.Timeout | undefined;

  constructor(options: PeerProgrammerOptions) {
    this.#options = options;
    this.#log = options.log;
  }

  /** Programming begins; what apply() was told before is done now. */
  async open(): Promise<void> {
    this.#isOpen = true;
    await this.reconcile();
  }

  /** Takes note of a change and returns; O(changes). The first call is the first snapshot, even when empty. */
  apply(diff: PeerDiff): void {
    for (const { id } of diff.removed) this.#remove(id);
    for (const lease of diff.added) this.#put(lease);
    for (const lease of diff.changed) this.#put(lease);
    if (!this.#hasSnapshot) {
      this.#hasSnapshot = true;
      this.#wantsFullRun = true;
    }
    void this.#run();
  }

  /** A full run, after the one going on now. Never rejects: what fails is shown by conditions() and retried. */
  async reconcile(): Promise<void> {
    this.#wantsFullRun = true;
    await this.#run();
  }

  /** Ends after the batch that is running; leaves the kernel as it is. Idempotent. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#retryTimer);
    await this.#running;
  }

  conditions(): Condition[] {
    const found: Condition[] = [];
    if (this.#runFailure !== undefined) {
      const { message, attempts } = this.#runFailure;
      const isRefused = attempts > 1 && isPermission(message);
      found.push(condition(isRefused ? 'no-permission' : 'kernel-unprogrammed', message));
    }
    const texts = new Map<ConditionCode, string[]>();
    if (this.#shadows.length > 0) texts.set('peer-route-conflict', [...this.#shadows]);
    let hasDone = false;
    for (const peer of this.#peers.values()) {
      hasDone ||= peer.done !== undefined;
      const { failure, refusal, lease } = peer;
      if (failure === undefined && refusal === undefined) continue;
      const code = failure === undefined ? REFUSALS[refusal!.code] : 'peer-unprogrammed';
      const why = failure === undefined ? refusal!.reason : `cannot be programmed: ${failure.message}`;
      const text = `peer ${formatPrefix(lease.subnets.v4)} ${why}`;
      const known = texts.get(code);
      if (known === undefined) texts.set(code, [text]);
      else known.push(text);
    }
    for (const [code, list] of texts) {
      // When the kernel takes no peer at all, it is not the peers.
      const isOurs = code === 'peer-unprogrammed' && !hasDone;
      found.push(conditionOfMany(isOurs ? 'kernel-unprogrammed' : code, list));
    }
    return found;
  }

  metrics(): MetricFamily[] {
    const states = {
      programmed: 0,
      waiting: 0,
      failed: 0,
      off_link: 0,
      other_type: 0,
      invalid: 0,
      conflict: 0,
    };
    for (const peer of this.#peers.values()) states[stateOf(peer)]++;
    return [...this.#counters.list(), this.#counters.peers(states)];
  }

  peers(): { readonly id: string; readonly [field: string]: unknown }[] {
    return Array.from(this.#peers.values(), (peer) => ({
      id: peer.lease.id,
      subnet: formatPrefix(peer.lease.subnets.v4),
      publicIp: formatIpv4(peer.lease.host.publicIp.v4),
      state: stateOf(peer),
      device: peer.plan?.route.device,
      isDirect: peer.plan === undefined ? undefined : peer.plan.vtep === undefined,
      vtepMac: peer.plan?.vtep?.mac,
      reason: peer.failure?.message ?? peer.refusal?.reason,
    }));
  }

  /** Whether the kernel holds what packets to the peer of this lease need. */
  carries(id: string): boolean {
    const peer = this.#peers.get(id);
    return peer?.done !== undefined && peer.failure === undefined && peer.refusal === undefined;
  }

  /** Counts a repair that the owner made outside peers: the device, its address. */
  countRepair(object: 'device' | 'address'): void {
    this.#counters.repaired(object, 1);
  }

  #put(lease: Ipv4Lease): void {
    const peer = this.#peers.get(lease.id);
    if (peer === undefined) {
      this.#peers.set(lease.id, {
        lease,
        plan: undefined,
        refusal: undefined,
        failure: undefined,
        done: undefined,
        judged: undefined,
        said: undefined,
      });
    } else {
      peer.lease = lease;
      peer.failure = undefined;
    }
    this.#changed.add(lease.id);
  }

  #remove(id: string): void {
    const peer = this.#peers.get(id);
    if (peer === undefined) return;
    this.#peers.delete(id);
    this.#changed.delete(id);
    this.#disown(peer.plan, id);
    if (peer.plan !== undefined) this.#left.push(peer.plan);
  }

  #run(): Promise<void> {
    if (this.#running !== undefined) return this.#running;
    if (!this.#isOpen || this.#isClosed) return Promise.resolve();
    this.#running = this.#runAll().finally(() => {
      this.#running = undefined;
      this.#armRetry();
    });
    return this.#running;
  }

  async #runAll(): Promise<void> {
    // Let the caller's tick end, so that several apply() calls become one batch.
    await Promise.resolve();
    while (!this.#isClosed && (this.#wantsFullRun || this.#changed.size > 0 || this.#left.length > 0)) {
      if (this.#hasMacConflict || !this.#hasFullRun || this.#changed.size > FULL_RUN_CHANGES)
        this.#wantsFullRun = true;
      const isFull = this.#wantsFullRun;
      // What changes from here on, beside's part of it included, is for the next round.
      if (isFull) {
        this.#changed.clear();
        this.#left.length = 0;
      }
      try {
        const beside = this.#options.beside?.() ?? Promise.resolve();
        const [own, other] = await Promise.allSettled([
          isFull ? this.#runFull() : this.#runChanges(),
          beside,
        ]);
        if (own.status === 'rejected') throw own.reason;
        if (other.status === 'rejected') throw other.reason;
        this.#runFailure = undefined;
      } catch (error) {
        const message = error instanceof Error ? error.message : String(error);
        if (this.#runFailure?.message !== message)
          this.#log.error({ err: error }, 'cannot program the kernel, retrying');
        this.#runFailure = { message, attempts: (this.#runFailure?.attempts ?? 0) + 1 };
        this.#counters.failed('run', 1);
        return;
      }
    }
  }

  /** Programs the changed peers only. */
  async #runChanges(): Promise<void> {
    const keys = [...this.#changed];
    const peers = keys.map((key) => this.#peers.get(key)).filter((peer) => peer !== undefined);
    const left = this.#left.splice(0);
    this.#changed.clear();
    try {
      const leases = peers.map((peer) => peer.lease);
      // A peer that is in place has its route already; whether another one took that is for the next full run to see.
      const unknown = peers.filter((peer) => peer.done === undefined);
      const [lookups, found] = await Promise.all([
        this.#lookup(leases),
        lookupExactRoutes(unknown.map((peer) => peer.lease.subnets.v4)),
      ]);
      const current = new Map(unknown.map((peer, index) => [peer, found[index]]));
      const phases = emptyPhases();
      const isMacWanted = (mac: string) => this.#macOwners.has(mac);
      const olds = peers.map((peer, index) => {
        const old = peer.plan;
        const route = current.get(peer);
        this.#plan(peer, lookups[index], route === undefined ? [] : [route]);
        if (peer.plan !== undefined) addPeerSteps(phases, peer.plan, peer.done);
        return old;
      });
      if (this.#hasMacConflict) {
        this.#wantsFullRun = true; // which knows whose it is, and sees what was not removed here
        return;
      }
      for (const peer of peers) this.#sayRefusal(peer);
      olds.forEach((old, index) => {
        if (old !== undefined) removePeerSteps(phases, old, peers[index].plan, isMacWanted);
      });
      // Whoever has a subnet after another lease came with the same change or a later one.
      const successors = new Map(peers.map(({ lease, plan }) => [prefixKey(lease.subnets.v4), plan]));
      for (const plan of left) {
        const successor = successors.get(prefixKey(plan.subnet));
        removePeerSteps(phases, plan, successor, isMacWanted);
      }
      await this.#perform(phases, peers);
    } catch (error) {
      // Nothing is known about how far it came.
      this.#wantsFullRun = true;
      throw error;
    }
  }

  /** Compares everything with the kernel. */
  async #runFull(): Promise<void> {
    this.#wantsFullRun = false;
    try {
      await this.#options.prepare?.();
      // The lease that was written last comes first and so owns a MAC that two claim: the other is one that its host has
      // left, with an address it had before, and that stands until it expires.
      const peers = [...this.#peers.values()].sort(
        ({ lease: a }, { lease: b }) => compareRecency(a, b) || a.subnets.v4.address - b.subnets.v4.address,
      );
      const { network, former, tunnelDevice } = this.#options;
      const [state, lookups] = await Promise.all([
        readKernelState({ network, former, tunnelDevice, withElsewhere: !this.#hasFullRun }),
        this.#lookup(peers.map((peer) => peer.lease)),
      ]);
      const current = groupBy(state.routes, (route) => prefixKey(route.prefix));
      const hasSnapshot = this.#hasSnapshot;
      this.#macOwners.clear();
      this.#hasMacConflict = false;
      const plans: PeerPlan[] = [];
      peers.forEach((peer, index) => {
        if (this.#peers.get(peer.lease.id) !== peer) return; // left while we were listing
        this.#plan(peer, lookups[index], current.get(prefixKey(peer.lease.subnets.v4)) ?? []);
        this.#sayRefusal(peer);
        if (peer.plan !== undefined) plans.push(peer.plan);
      });
      const { phases, replaced } = diffKernel(plans, state, { tunnelDevice, removeStale: hasSnapshot });
      for (const route of replaced) {
        const { prefix, gateway, device, protocol } = route;
        const was = {
          subnet: formatPrefix(prefix),
          gateway: gateway && formatIpv4(gateway),
          device,
          protocol,
        };
        this.#log.warn(was, "replacing a foreign route to a peer's subnet");
      }
      this.#shadows = this.#findShadows(state.routes);
      if (this.#hasFullRun) this.#countDrift(phases);
      await this.#perform(phases, peers);
      if (hasSnapshot && !this.#hasFullRun) {
        await this.#options.afterFirstRun?.();
        this.#hasFullRun = true;
      }
    } catch (error) {
      this.#wantsFullRun = true;
      throw error;
    }
  }

  async #lookup(leases: readonly Ipv4Lease[]): Promise<(RouteLookup | undefined)[]> {
    if (!this.#options.needsLookup() || leases.length === 0) return [];
    return await lookupRoutes(
      leases.map(({ host }) => host.publicIp.v4),
      { through: this.#options.lookupThrough?.() },
    );
  }

  /** Decides what `peer` gets now. */
  #plan(peer: Peer, lookup: RouteLookup | undefined, current: readonly Route[]): void {
    const { id } = peer.lease;
    peer.judged = peer.lease;
    this.#disown(peer.plan, id);
    let result = findConflict(current) ?? this.#options.planPeer(peer.lease, lookup);
    if (!('code' in result) && result.vtep !== undefined) {
      const owner = this.#macOwners.get(result.vtep.mac);
      if (owner !== undefined && owner !== id) {
        this.#hasMacConflict = true;
        const other = this.#peers.get(owner);
        const by = other === undefined ? '' : ` by ${formatPrefix(other.lease.subnets.v4)}`;
        result = {
          code: 'invalid',
          reason: `publishes VtepMAC ${result.vtep.mac}, which was published later${by}`,
        };
      } else {
        this.#macOwners.set(result.vtep.mac, id);
      }
    }
    const isRefused = 'code' in result;
    peer.plan = 'code' in result ? undefined : result;
    peer.refusal = 'code' in result ? result : undefined;
    if (isRefused) peer.failure = peer.done = undefined;
  }

  /** A subnet is asked for by the routes inside it: those of the pods here are many, those inside a peer's none. */
  #findShadows(routes: readonly Route[]): string[] {
    const found = new Map<number, string>();
    const subnets = new Map<number, Prefix>();
    for (const { plan } of this.#peers.values())
      if (plan !== undefined) subnets.set(prefixKey(plan.subnet), plan.subnet);
    for (const route of routes) {
      if (route.protocol === ROUTE_PROTOCOL) continue;
      for (let length = this.#options.network.length + 1; length < route.prefix.length; length++) {
        const key = prefixKey(prefixOf(route.prefix.address, length));
        const subnet = subnets.get(key);
        const shadow = subnet === undefined ? undefined : describeShadow(subnet, [route], length);
        if (shadow !== undefined) found.set(key, `peer ${formatPrefix(subnet!)} ${shadow}`);
      }
    }
    return [...found.values()];
  }

  #sayRefusal(peer: Peer): void {
    const reason = peer.refusal?.reason;
    if (reason !== undefined && reason !== peer.said)
      this.#log.warn({ subnet: formatPrefix(peer.lease.subnets.v4), reason }, 'peer left out');
    peer.said = reason;
  }

  #disown(plan: PeerPlan | undefined, id: string): void {
    const mac = plan?.vtep?.mac;
    if (mac !== undefined && this.#macOwners.get(mac) === id) this.#macOwners.delete(mac);
  }

  /** Runs the batches and notes for each planned peer whether it is done, or when it is tried again. */
  async #perform(phases: Phases, planned: readonly Peer[]): Promise<void> {
    const plans = planned.map((peer) => peer.plan);
    const failed = new Map<string, string>();
    for (const { step, message } of await performPhases(phases)) {
      this.#counters.failed(step.object, 1);
      if (step.id !== undefined) failed.set(step.id, message);
      else this.#log.warn({ line: step.line, reason: message }, 'stale entry not removed, tried again later');
    }
    planned.forEach((peer, index) => {
      // A lease that changed while the batches ran is waiting again.
      const isCurrent = peer.plan === plans[index] && peer.judged === peer.lease;
      if (peer.plan === undefined || !isCurrent || failed.has(peer.lease.id)) return;
      peer.failure = undefined;
      peer.done = peer.plan;
    });
    const now = performance.now();
    for (const [id, message] of failed) {
      const peer = this.#peers.get(id);
      if (peer === undefined) continue;
      const attempts = (peer.failure?.attempts ?? 0) + 1;
      peer.failure = { message, attempts, retryAt: now + retryDelayMs(attempts) };
      peer.done = undefined;
      const subnet = formatPrefix(peer.lease.subnets.v4);
      if (attempts === 1) this.#log.warn({ subnet, reason: message }, 'peer not programmed, retrying');
    }
  }

  #countDrift(phases: Phases): void {
    for (const steps of Object.values(phases) as Step[][]) {
      for (const step of steps) {
        const peer = step.id === undefined ? undefined : this.#peers.get(step.id);
        if (step.isRemoval) this.#counters.removedStale(step.object, 1);
        else if (peer?.failure === undefined) this.#counters.repaired(step.object, 1);
      }
    }
  }

  #armRetry(): void {
    clearTimeout(this.#retryTimer);
    if (this.#isClosed) return;
    if (this.#runFailure !== undefined) {
      this.#retryTimer = setTimeout(() => void this.reconcile(), retryDelayMs(this.#runFailure.attempts));
      return;
    }
    if (this.#wantsFullRun || this.#changed.size > 0 || this.#left.length > 0) {
      void this.#run(); // asked for while the last run was ending
      return;
    }
    let earliest = Infinity;
    for (const peer of this.#peers.values()) earliest = Math.min(earliest, peer.failure?.retryAt ?? Infinity);
    if (earliest === Infinity) return;
    this.#retryTimer = setTimeout(() => this.#retryDue(), Math.max(0, earliest - performance.now()));
  }

  #retryDue(): void {
    const now = performance.now();
    for (const [id, peer] of this.#peers) {
      if (peer.failure !== undefined && peer.failure.retryAt <= now + 1) this.#changed.add(id);
    }
    void this.#run();
  }
}

function retryDelayMs(attempts: number): number {
  return Math.min(RETRY_MIN_MS * 2 ** (attempts - 1), RETRY_MAX_MS);
}

function stateOf(peer: Peer): 'programmed' | 'waiting' | 'failed' | PeerRefusal['code'] {
  if (peer.judged !== peer.lease) return 'waiting';
  if (peer.failure !== undefined) return 'failed';
  if (peer.refusal !== undefined) return peer.refusal.code;
  return peer.done !== undefined && peer.done === peer.plan ? 'programmed' : 'waiting';
}
