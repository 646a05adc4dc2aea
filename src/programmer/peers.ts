// The peers of a kernel mode: what each needs, what of it is to be programmed, and how it is shown.

import { type Condition, conditionsOf } from '../core/conditions.js';
import { hostTexts, type Peer } from '../lease/lease.js';
import { groupBy } from '../core/group-by.js';
import { dualOf, type FamilyName } from '../net/dual.js';
import { familyNameOf, formatPrefix } from '../net/prefix.js';
import type { BackendPeerStatus, PeerDetail, PeerRefusalCode, PeerState } from '../ops/status.js';
import { Claims } from './claims.js';
import { type KernelObject, type PeerRefusal, RouteObject } from './objects.js';
import { hasFamily, isRefusal, PeerRecord, recordKey } from './peer.js';

export type PeerStateName = 'programmed' | 'waiting' | 'failed' | PeerRefusalCode;

/** What a peer is to get, or why it gets nothing. */
export type Verdict = readonly KernelObject[] | PeerRefusal;

export class Peers {
  /** By their keys. */
  readonly #records = new Map<string, PeerRecord>();
  readonly #claims = new Claims();
  readonly #changed = new Set<string>();
  /** What the peers that are gone had in the kernel. */
  readonly #left: KernelObject[] = [];
  #hasConflict = false;

  /** Takes note of a peer that came or changed. */
  put(lease: Peer): void {
    for (const family of FAMILIES) {
      const key = recordKey(lease.id, family);
      const record = this.#records.get(key);
      if (!hasFamily(lease, family)) {
        if (record !== undefined) this.#remove(record);
        continue;
      }
      if (record === undefined) this.#records.set(key, new PeerRecord(lease, family));
      else record.change(lease);
      this.#changed.add(key);
    }
  }

  /** Removes the peer of a lease. */
  remove(id: string): void {
    for (const family of FAMILIES) {
      const record = this.#records.get(recordKey(id, family));
      if (record !== undefined) this.#remove(record);
    }
  }

  #remove(record: PeerRecord): void {
    const { key, objects } = record;
    this.#records.delete(key);
    this.#changed.delete(key);
    this.#claims.release(key, objects);
    this.#left.push(...objects);
  }

  get(key: string): PeerRecord | undefined {
    return this.#records.get(key);
  }

  /** Whether the record was not replaced or removed since. */
  has(record: PeerRecord): boolean {
    return this.#records.get(record.key) === record;
  }

  all(): PeerRecord[] {
    return [...this.#records.values()];
  }

  get changes(): number {
    return this.#changed.size + this.#left.length;
  }

  /** Whether two peers claim one object; all peers have to be judged together then. */
  get hasConflict(): boolean {
    return this.#hasConflict;
  }

  /** The peers that changed since the last call, and what is left of those that went. */
  takeChanges(): { readonly records: PeerRecord[]; readonly left: KernelObject[] } {
    const records = [...this.#changed].flatMap((key) => this.#records.get(key) ?? []);
    this.#changed.clear();
    return { records, left: this.#left.splice(0) };
  }

  /** Decides for one peer. False when another has what it needs: then judgeAll() decides. */
  judge(record: PeerRecord, verdict: Verdict): boolean {
    const { key } = record;
    this.#claims.release(key, record.objects);
    if (!isRefusal(verdict) && this.#claims.take(key, verdict) !== undefined) {
      this.#hasConflict = true;
      return false;
    }
    record.judge(verdict);
    return true;
  }

  /** Decides for all, and so what two of them claim. */
  judgeAll(verdicts: ReadonlyMap<PeerRecord, Verdict>): void {
    const claimants = [...verdicts].flatMap(([{ key, lease, subnet }, verdict]) =>
      isRefusal(verdict) ? [] : [{ key, lease, subnet, objects: verdict }],
    );
    const losses = this.#claims.settle(claimants);
    this.#hasConflict = losses.size > 0;
    for (const [record, verdict] of verdicts) {
      const loss = losses.get(record.key);
      if (loss === undefined) {
        record.judge(verdict);
        continue;
      }
      const holder = this.#records.get(loss.holder);
      const by = holder === undefined ? 'another' : formatPrefix(holder.subnet);
      record.judge(loss.object.kind.explainLoss(loss.object, by));
    }
  }

  isClaimed(object: KernelObject): boolean {
    return this.#claims.isClaimed(object);
  }

  /** When the first of the failed peers is tried again; Infinity when none has failed. */
  dueAtMs(): number {
    let earliest = Infinity;
    for (const { retryAtMs } of this.#records.values()) earliest = Math.min(earliest, retryAtMs);
    return earliest;
  }

  /** Marks the peers whose retry is due as changed. */
  retryDue(nowMs: number): void {
    for (const [key, { retryAtMs }] of this.#records) if (retryAtMs <= nowMs + 1) this.#changed.add(key);
  }

  /** `shadows`: peers whose packets, all or some, another route takes. */
  conditions(shadows: readonly string[]): Condition[] {
    const records = this.all();
    const faults = records.flatMap((record) => record.fault() ?? []);
    // When the kernel refuses every peer, the fault is not the peers'.
    const isOurs = records.every(({ done }) => done === undefined);
    return conditionsOf([
      ...shadows.map((text) => ({ code: 'peer-route-conflict' as const, text })),
      ...faults.map(({ code, text }) => ({
        code: isOurs && code === 'peer-unprogrammed' ? ('kernel-unprogrammed' as const) : code,
        text,
      })),
    ]);
  }

  counts(): Record<PeerStateName, number> {
    const counts: Record<PeerStateName, number> = {
      programmed: 0,
      waiting: 0,
      failed: 0,
      off_link: 0,
      other_type: 0,
      invalid: 0,
      conflict: 0,
      route_loop: 0,
    };
    for (const record of this.#records.values()) {
      const state = record.state();
      counts[state.state === 'refused' ? state.code : state.state]++;
    }
    return counts;
  }

  /** One row for each lease. `describe` gives what the mode shows of its own. */
  details(describe: (objects: readonly KernelObject[]) => Partial<BackendPeerStatus>): PeerDetail[] {
    return Array.from(
      groupBy(this.#records.values(), ({ lease }) => lease.id),
      ([id, records]) => ({
        id,
        ...carriedTexts(records),
        ...describe(records.flatMap(({ objects }) => objects)),
        ...worstState(records),
      }),
    );
  }
}

/** Where the routes among a peer's objects lead; nothing without. */
export function showDevices(objects: readonly KernelObject[]): Pick<BackendPeerStatus, 'device' | 'devices'> {
  const devices: { [F in FamilyName]?: string } = {};
  for (const object of objects)
    if (object instanceof RouteObject && object.device !== undefined)
      devices[familyNameOf(object.prefix.address)] = object.device;
  const device = devices.v4 ?? devices.v6;
  return device === undefined ? {} : { device, devices };
}

/** Of the families that the records are about: a lease may have a subnet of one without a public IP. */
function carriedTexts(records: readonly PeerRecord[]): ReturnType<typeof hostTexts> {
  const [{ subnets, host }] = records.map(({ lease }) => lease);
  const has = (family: FamilyName): boolean => records.some((record) => record.family === family);
  const [v4, v6] = [has('v4'), has('v6')];
  return hostTexts(
    dualOf(v4 ? subnets.v4 : undefined, v6 ? subnets.v6 : undefined),
    dualOf(v4 ? host.publicIp.v4 : undefined, v6 ? host.publicIp.v6 : undefined),
  );
}

const FAMILIES: readonly FamilyName[] = ['v4', 'v6'];

const WORST_FIRST: readonly PeerState['state'][] = ['failed', 'refused', 'waiting', 'programmed'];

/** The state of a peer whose families differ is the worse one, with the subnet that it is about. */
function worstState(records: readonly PeerRecord[]): PeerState {
  const states = records.map((record) => ({ record, state: record.state() }));
  const rank = ({ state }: PeerState): number => WORST_FIRST.indexOf(state);
  const worst = states.reduce((a, b) => (rank(b.state) < rank(a.state) ? b : a));
  if (states.length === 1 || !('reason' in worst.state)) return worst.state;
  return { ...worst.state, reason: `${formatPrefix(worst.record.subnet)}: ${worst.state.reason}` };
}
