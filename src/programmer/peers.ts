// The peers of a kernel mode: what each needs, what of it is to be programmed, and how it is shown.

import { type Condition, conditionsOf } from '../core/conditions.js';
import type { Peer } from '../lease/lease.js';
import { formatIpv4 } from '../net/ipv4.js';
import { formatPrefix } from '../net/prefix.js';
import type { BackendPeerStatus, PeerDetail, PeerRefusalCode } from '../ops/status.js';
import { Claims } from './claims.js';
import type { KernelObject, PeerRefusal } from './objects.js';
import { isRefusal, PeerRecord } from './peer.js';

export type PeerStateName = 'programmed' | 'waiting' | 'failed' | PeerRefusalCode;

/** What a peer is to get, or why it gets nothing. */
export type Verdict = readonly KernelObject[] | PeerRefusal;

export class Peers {
  /** By the id of their leases. */
  readonly #records = new Map<string, PeerRecord>();
  readonly #claims = new Claims();
  readonly #changed = new Set<string>();
  /** What the peers that are gone had in the kernel. */
  readonly #left: KernelObject[] = [];
  #hasConflict = false;

  /** Takes note of a peer that came or changed. */
  put(lease: Peer): void {
    const record = this.#records.get(lease.id);
    if (record === undefined) this.#records.set(lease.id, new PeerRecord(lease));
    else record.change(lease);
    this.#changed.add(lease.id);
  }

  remove(id: string): void {
    const record = this.#records.get(id);
    if (record === undefined) return;
    this.#records.delete(id);
    this.#changed.delete(id);
    this.#claims.release(id, record.objects);
    this.#left.push(...record.objects);
  }

  get(id: string): PeerRecord | undefined {
    return this.#records.get(id);
  }

  /** Whether the peer was not replaced or removed since. */
  has(record: PeerRecord): boolean {
    return this.#records.get(record.lease.id) === record;
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
    const records = [...this.#changed].flatMap((id) => this.#records.get(id) ?? []);
    this.#changed.clear();
    return { records, left: this.#left.splice(0) };
  }

  /** Decides for one peer. False when another has what it needs: then judgeAll() decides. */
  judge(record: PeerRecord, verdict: Verdict): boolean {
    const { id } = record.lease;
    this.#claims.release(id, record.objects);
    if (!isRefusal(verdict) && this.#claims.take(id, verdict) !== undefined) {
      this.#hasConflict = true;
      return false;
    }
    record.judge(verdict);
    return true;
  }

  /** Decides for all, and so what two of them claim. */
  judgeAll(verdicts: ReadonlyMap<PeerRecord, Verdict>): void {
    const claimants = [...verdicts].flatMap(([{ lease }, verdict]) =>
      isRefusal(verdict) ? [] : [{ lease, objects: verdict }],
    );
    const losses = this.#claims.settle(claimants);
    this.#hasConflict = losses.size > 0;
    for (const [record, verdict] of verdicts) {
      const loss = losses.get(record.lease.id);
      if (loss === undefined) {
        record.judge(verdict);
        continue;
      }
      const holder = this.#records.get(loss.holder);
      const by = holder === undefined ? 'another' : formatPrefix(holder.lease.subnets.v4!);
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
    for (const [id, { retryAtMs }] of this.#records) if (retryAtMs <= nowMs + 1) this.#changed.add(id);
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

  /** `describe` gives what the mode shows of its own. */
  details(describe: (objects: readonly KernelObject[]) => Partial<BackendPeerStatus>): PeerDetail[] {
    return Array.from(this.#records.values(), (record) => ({
      id: record.lease.id,
      subnet: formatPrefix(record.lease.subnets.v4!),
      publicIp: formatIpv4(record.lease.host.publicIp.v4!),
      ...describe(record.objects),
      ...record.state(),
    }));
  }
}
