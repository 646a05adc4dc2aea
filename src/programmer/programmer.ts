// Keeps the kernel's objects equal to what the peers' leases ask for; shared by the kernel modes.
//
// Desired state is a map of leases. A change marks its peer and is programmed at once, touching nothing else (cost: at
// most five processes for any number of changes, O(1) for each). A full run lists what the kernel holds, programs the
// difference and removes what earlier runs left; it comes with the first snapshot, with reconcile(), and whenever the
// kernel's answer cannot be trusted. Runs never overlap.
//
// A peer the kernel refuses is retried alone, with a delay that doubles from 200 ms to 30 s; the others do not wait.

import { type Condition, condition, isPermission } from '../core/conditions.js';
import { messageOf, OverlayError } from '../core/errors.js';
import { groupBy } from '../core/group-by.js';
import type { Logger } from '../core/log.js';
import type { MetricFamily } from '../core/metric.js';
import { type Clock, MONOTONIC_CLOCK } from '../core/waiting.js';
import type { Kernel } from '../kernel/kernel.js';
import type { Route, RouteLookup } from '../kernel/route.js';
import type { Peer, PeerDiff } from '../lease/lease.js';
import type { FamilyName } from '../net/dual.js';
import { type Address, formatPrefix, type Prefix, prefixKey } from '../net/prefix.js';
import type { BackendPeerStatus, PeerDetail } from '../ops/status.js';
import { performSteps } from './batches.js';
import { diffKernel, diffPeer, dropObjects, type Step } from './diff.js';
import { PeerCounters } from './metrics.js';
import {
  findConflict,
  heldRoute,
  type HeldRoute,
  type KernelObject,
  type ObjectKind,
  ROUTE,
  type TunnelDevices,
} from './objects.js';
import { type PeerRecord, recordKey } from './peer.js';
import { Peers, type Verdict } from './peers.js';
import { type Runner, Runs } from './runs.js';
import { findShadows } from './shadows.js';

export interface PeerProgrammerOptions {
  readonly kernel: Kernel;
  /** What the mode has in the kernel for its peers beside routes. */
  readonly kinds: readonly ObjectKind[];
  /** Of each family one at most. */
  readonly networks: readonly Prefix<Address>[];
  /** The networks of this host's last run, when they were others. */
  readonly former: readonly Prefix<Address>[];
  /** For each family the device that is ours alone, with neighbours and FDB; none in host-gw mode. */
  readonly tunnelDevices: TunnelDevices;
  /** Whether planPeer() looks at how the peer's public IP is reached. */
  needsLookup(): boolean;
  /** Device by which public IPs have to be reached; without it any will do. */
  lookupThrough?(): string;
  /**
   * What `peer` needs for a family that it has a subnet and a public IP of, or why it gets nothing. `lookup` is
   * undefined when there is no route, or needsLookup() is false.
   */
  planPeer(peer: Peer, lookup: RouteLookup | undefined, family: FamilyName): Verdict;
  /** Runs before a full run; makes the device. A rejection ends the run and is retried. */
  prepare?(): Promise<void>;
  /**
   * Whether what prepare() found is still so. Asked when public IPs are not reached: the device that leads to them
   * may have got another name meanwhile, and no route is removed for that.
   */
  isStillSo?(): Promise<boolean>;
  /** Runs once, after the first full run with a snapshot: the peers are reachable now. */
  afterFirstRun?(): Promise<void>;
  /** Runs beside each run, once the desired state changed. A rejection is retried with the next run. */
  beside?(): Promise<void>;
  readonly log: Logger;
  /** @default MONOTONIC_CLOCK */
  readonly clock?: Clock;
  /** @default Math.random */
  readonly random?: () => number;
}

/** Looks at the kernel in one full run, when names of devices change meanwhile. */
const MAX_LOOKS = 3;

/** Above this many changes one full run is cheaper than looking up each route. */
const FULL_RUN_CHANGES = 256;

export class PeerProgrammer implements Runner {
  readonly #options: PeerProgrammerOptions;
  readonly #log: Logger;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #counters = new PeerCounters();
  readonly #peers = new Peers();
  readonly #runs: Runs;
  #shadows: readonly string[] = [];
  #hasSnapshot = false;
  #hasFullRun = false;
  /** A failure of the run as a whole, such as "ip" missing or the device refused. */
  #runFailure: { readonly message: string; readonly attempts: number } | undefined;

  constructor(options: PeerProgrammerOptions) {
    this.#options = options;
    this.#log = options.log;
    this.#clock = options.clock ?? MONOTONIC_CLOCK;
    this.#random = options.random ?? Math.random;
    this.#runs = new Runs(this, this.#clock, this.#random);
  }

  /** Begins to program, with the changes that apply() was given before. */
  open(): Promise<void> {
    return this.#runs.open();
  }

  /** Takes note of a change and returns; O(changes). The first call is the first snapshot, even when empty. */
  apply({ added, changed, removed }: PeerDiff): void {
    for (const { id } of removed) this.#peers.remove(id);
    for (const lease of [...added, ...changed]) this.#peers.put(lease);
    if (!this.#hasSnapshot) {
      this.#hasSnapshot = true;
      this.#runs.wantFull();
    }
    void this.#runs.run();
  }

  /** A full run, after the one going on now. Never rejects: what fails is shown by conditions() and retried. */
  reconcile(): Promise<void> {
    return this.#runs.runFull();
  }

  /** Ends after the batch that is running; leaves the kernel as it is. Idempotent. */
  close(): Promise<void> {
    return this.#runs.close();
  }

  conditions(): Condition[] {
    const found: Condition[] = [];
    if (this.#runFailure !== undefined) {
      const { message, attempts } = this.#runFailure;
      const isRefused = attempts > 1 && isPermission(message);
      found.push(condition(isRefused ? 'no-permission' : 'kernel-unprogrammed', message));
    }
    return [...found, ...this.#peers.conditions(this.#shadows)];
  }

  metrics(): MetricFamily[] {
    return [...this.#counters.list(), this.#counters.peers(this.#peers.counts())];
  }

  /** `describe` gives what the mode shows of a peer's objects. */
  peers(describe: (objects: readonly KernelObject[]) => Partial<BackendPeerStatus>): PeerDetail[] {
    return this.#peers.details(describe);
  }

  /** Whether the kernel holds what packets of this family to the peer of this lease need. */
  carries(id: string, family: FamilyName): boolean {
    return this.#peers.get(recordKey(id, family))?.isCarried ?? false;
  }

  /** Counts a repair that the owner made outside peers: the device, its address. */
  countRepair(object: 'device' | 'address'): void {
    this.#counters.repaired(object, 1);
  }

  // --- as Runs asks it -----------------------------------------------------------------------------------------

  hasChanges(): boolean {
    return this.#peers.changes > 0;
  }

  needsFullRun(): boolean {
    return this.#peers.hasConflict || !this.#hasFullRun || this.#peers.changes > FULL_RUN_CHANGES;
  }

  async run(kind: 'full' | 'changes'): Promise<void> {
    // Changes from here on, those of `beside` included, are for the next round.
    const changes = this.#peers.takeChanges();
    const beside = this.#options.beside?.() ?? Promise.resolve();
    const own = kind === 'full' ? this.#runFull() : this.#runChanges(changes.records, changes.left);
    for (const end of await Promise.allSettled([own, beside]))
      if (end.status === 'rejected') throw end.reason;
  }

  succeeded(): void {
    this.#runFailure = undefined;
  }

  failed(error: unknown, attempts: number): void {
    const message = messageOf(error);
    if (this.#runFailure?.message !== message)
      this.#log.error({ err: error }, 'cannot program the kernel, retrying');
    this.#runFailure = { message, attempts };
    this.#counters.failed('run', 1);
  }

  dueAtMs(): number {
    return this.#peers.dueAtMs();
  }

  retryDue(nowMs: number): void {
    this.#peers.retryDue(nowMs);
  }

  // --- runs ----------------------------------------------------------------------------------------------------

  /** Programs the changed peers only. */
  async #runChanges(records: readonly PeerRecord[], left: readonly KernelObject[]): Promise<void> {
    // A peer that is in place has its route already; whether another one took that is for the next full run to see.
    const unknown = records.filter(({ done }) => done === undefined);
    const { lookup } = this.#options.kernel;
    const [lookups, found] = await Promise.all([
      this.#lookup(records),
      lookup.exactRoutes(unknown.map(({ subnet }) => subnet)),
    ]);
    if (await this.#isOutdated(lookups)) return this.#runs.wantFull(); // which sees what was not removed here
    const current = new Map(unknown.map((record, index) => [record, found[index]]));
    const olds = records.map(({ objects }) => objects);
    const isDecided = records.map((record, index) => {
      const route = current.get(record);
      return this.#peers.judge(
        record,
        this.#verdict(record, lookups[index], route === undefined ? [] : [route]),
      );
    });
    // A full run knows whose it is, and sees what was not removed here.
    if (isDecided.includes(false)) return this.#runs.wantFull();
    const isClaimed = (object: KernelObject): boolean => this.#peers.isClaimed(object);
    const { tunnelDevices } = this.#options;
    const steps = records.flatMap((record) => {
      const route = current.get(record);
      const inPlace = route === undefined ? [] : [heldRoute(route, tunnelDevices).object];
      return diffPeer(record.key, record.objects, record.done, inPlace);
    });
    for (const gone of [...olds, left]) steps.push(...dropObjects(gone, isClaimed));
    this.#sayRefusals(records);
    await this.#perform(steps, records);
  }

  /** Compares everything with the kernel. */
  async #runFull(): Promise<void> {
    const { listed, routes, others, lookups } = await this.#look();
    const hasSnapshot = this.#hasSnapshot;
    const verdicts = this.#judgeAll(listed, lookups, routes);
    const { steps, replaced } = diffKernel(verdicts, [...routes, ...others.flat()], hasSnapshot);
    for (const was of replaced) this.#log.warn(was, "replacing a foreign route to a peer's subnet");
    const wanted = verdicts.filter(({ objects }) => objects.length > 0);
    this.#shadows = findShadows(
      wanted.map(({ subnet }) => subnet),
      routes.map(({ route }) => route),
    );
    if (this.#hasFullRun) this.#countDrift(steps);
    await this.#perform(steps, verdicts);
    if (hasSnapshot && !this.#hasFullRun) {
      await this.#options.afterFirstRun?.();
      this.#hasFullRun = true;
    }
  }

  /** What the kernel has, and how the public IPs of the peers are reached. */
  async #look() {
    const { kernel, kinds, networks, former, tunnelDevices } = this.#options;
    const scope = { networks, former, tunnelDevices, withElsewhere: !this.#hasFullRun };
    for (let look = 1; ; look++) {
      await this.#options.prepare?.();
      const listed = this.#peers.all();
      const [routes, others, lookups] = await Promise.all([
        ROUTE.list(kernel, scope),
        Promise.all(kinds.map((kind) => kind.list(kernel, scope))),
        this.#lookup(listed),
      ]);
      if (!(await this.#isOutdated(lookups))) return { listed, routes, others, lookups };
      if (look === MAX_LOOKS)
        throw new OverlayError('E_KERNEL', 'Cannot look up peers: the interface is renamed again and again');
    }
  }

  async #isOutdated(lookups: readonly (RouteLookup | undefined)[]): Promise<boolean> {
    return lookups.includes(undefined) && (await this.#options.isStillSo?.()) === false;
  }

  /** Decides for those of `listed` that are still there. */
  #judgeAll(
    listed: readonly PeerRecord[],
    lookups: readonly (RouteLookup | undefined)[],
    routes: readonly HeldRoute[],
  ): PeerRecord[] {
    const current = groupBy(
      routes.map(({ route }) => route),
      ({ prefix }) => prefixKey(prefix),
    );
    const verdicts = new Map<PeerRecord, Verdict>();
    listed.forEach((record, index) => {
      if (!this.#peers.has(record)) return;
      const there = current.get(prefixKey(record.subnet)) ?? [];
      verdicts.set(record, this.#verdict(record, lookups[index], there));
    });
    this.#peers.judgeAll(verdicts);
    const records = [...verdicts.keys()];
    this.#sayRefusals(records);
    return records;
  }

  #verdict(
    { lease, family }: PeerRecord,
    lookup: RouteLookup | undefined,
    current: readonly Route[],
  ): Verdict {
    return findConflict(current) ?? this.#options.planPeer(lease, lookup, family);
  }

  async #lookup(records: readonly PeerRecord[]): Promise<readonly (RouteLookup | undefined)[]> {
    if (!this.#options.needsLookup() || records.length === 0) return [];
    return await this.#options.kernel.lookup.routes(
      records.map(({ publicIp }) => publicIp),
      { through: this.#options.lookupThrough?.() },
    );
  }

  #sayRefusals(records: readonly PeerRecord[]): void {
    for (const record of records) {
      const reason = record.takeNews();
      if (reason !== undefined)
        this.#log.warn({ subnet: formatPrefix(record.subnet), reason }, 'peer left out');
    }
  }

  /** Runs the batches and notes for each of `records` whether it is done, or when it is tried again. */
  async #perform(steps: readonly Step[], records: readonly PeerRecord[]): Promise<void> {
    const planned = records.map(({ objects }) => objects);
    const failed = new Map<string, string>();
    for (const { step, message } of await performSteps(this.#options.kernel, steps)) {
      this.#counters.failed(step.object.kind.name, 1);
      if (step.peer !== undefined) failed.set(step.peer, message);
      else {
        const line = step.object.remove();
        this.#log.warn({ line, reason: message }, 'stale entry not removed, tried again later');
      }
    }
    records.forEach((record, index) => {
      if (!record.isRefused && !failed.has(record.key)) record.succeed(planned[index]);
    });
    for (const [key, message] of failed) {
      const record = this.#peers.get(key);
      if (record?.fail(message, this.#clock.nowMs(), this.#random) !== true) continue;
      const subnet = formatPrefix(record.subnet);
      this.#log.warn({ subnet, reason: message }, 'peer not programmed, retrying');
    }
  }

  #countDrift(steps: readonly Step[]): void {
    for (const { object, action, peer, isAid } of steps) {
      if (isAid) continue;
      const { name } = object.kind;
      if (action !== 'add') this.#counters.removedStale(name, 1);
      else if (peer === undefined || this.#peers.get(peer)?.hasFailed !== true)
        this.#counters.repaired(name, 1);
    }
  }
}
