// The own lease after it was acquired: renewed in time, watched, made again when it disappears.
//
// | what stands under the own key            | reaction                                                              |
// |------------------------------------------|-----------------------------------------------------------------------|
// | what we wrote                            | renew: new etcd lease, put if unmodified, revoke the old etcd lease    |
// | our public IP, no etcd lease             | a reservation: adopted, never renewed; the rest published if other     |
// | our public IP, another etcd lease        | a second daemon with our address: alarm; taken over at renewal        |
// | another value                            | alarm at once, looked at every minute, never overwritten              |
// | another value, key made anew since       | lost: the subnet belongs to somebody else                             |
// | nothing                                  | created again at once; lost if another lease overlaps it by now       |
//
// publish() changes what we write: the next write, due at once, carries it, and until then what stands is ours too.
//
// One loop does all writing, so no two writes of ours race. What the watch shows only wakes it, except that an alarm is
// raised at once. The loop reads the key itself before it acts on a deletion: an event may be older than our own write.

import { type Condition, condition } from '../../core/conditions.js';
import { OverlayError } from '../../core/errors.js';
import type { Logger } from '../../core/log.js';
import type { Clock } from '../../core/waiting.js';
import { blockedRanges } from '../../lease/lease-codec.js';
import type { LeaseHost } from '../../lease/lease.js';
import { familiesOf, sameDual } from '../../net/dual.js';
import {
  type Address,
  type DualPrefix,
  formatPrefix,
  formatPrefixes,
  type Prefix,
  prefixCovers,
  prefixesOverlap,
} from '../../net/prefix.js';
import type { EtcdLeaseStatus } from '../../ops/status.js';
import { newLeaseId } from './etcd-kv.js';
import type { KvEntry, LeaseKv } from './etcd-kv.js';
import { leaseKeyName } from './keys.js';
import type { KeyLayout } from './keys.js';
import { holderOf, OwnAlarm } from './own-alarm.js';
import { writeOwnKey } from './own-key.js';
import type { OwnKey } from './own-key.js';
import { OwnPublication, publicIpOf } from './own-publication.js';
import { OwnSchedule, TwinPatience } from './own-schedule.js';

export interface OwnLeaseOptions {
  readonly kv: LeaseKv;
  readonly layout: KeyLayout;
  readonly log: Logger;
  readonly clock: Clock;
  readonly random: () => number;
  readonly leaseTtlSeconds: number;
  readonly renewMarginMs: number;
  readonly networks: DualPrefix;
  readonly subnets: DualPrefix;
  /** What is published. */
  readonly host: LeaseHost;
  readonly own: OwnKey;
  /** The key was written: its etcd lease is another one now. */
  onWritten(): void;
  /** The subnet is somebody else's now. Called once; nothing is done afterwards. */
  onLost(reason: string): void;
}

export interface OwnLeaseCounters {
  readonly renewals: number;
  readonly renewalFailures: number;
  readonly recreated: number;
  readonly overwritten: number;
  readonly twins: number;
}

/** Less of its life left, or less than a tenth: time to act. */
const EXPIRING_MS = 600_000;

/** See the head of this file. Runs from construction until close() or onLost(). */
export class OwnLease {
  readonly #counters = { renewals: 0, renewalFailures: 0, recreated: 0 };
  readonly #options: OwnLeaseOptions;
  readonly #closing = new AbortController();
  readonly #schedule: OwnSchedule;
  readonly #published: OwnPublication;
  readonly #patience = new TwinPatience();
  readonly #alarm: OwnAlarm;
  readonly #done: Promise<void>;
  #own: OwnKey;
  /** The write under way: its event may come before the answer. */
  #pending: { readonly leaseId: bigint; readonly value: string } | undefined;
  #problem: string | undefined;
  #lostReason: string | undefined;

  constructor(options: OwnLeaseOptions) {
    this.#options = options;
    this.#own = options.own;
    this.#published = new OwnPublication(options.host);
    this.#schedule = new OwnSchedule(options, options.own);
    this.#alarm = new OwnAlarm(options.subnets, options.log);
    this.#done = this.#run();
  }

  get counters(): OwnLeaseCounters {
    return { ...this.#counters, ...this.#alarm.counters };
  }

  get key(): string {
    return this.#own.key;
  }

  /** Id of the etcd lease that keeps the key; 0n for a reservation. */
  get etcdLease(): bigint {
    return this.#own.leaseId;
  }

  /** What the watch shows under the own key; undefined: nothing. */
  observe(entry: KvEntry | undefined): void {
    if (this.#lostReason !== undefined) return;
    if (entry !== undefined) {
      if (this.#isOurs(entry)) return this.#accept(entry);
      // Older than our last write, it is a late event, or the store was restored: the loop looks for itself.
      const isLate = entry.modRevision < this.#own.modRevision;
      if (!isLate && this.#classify(entry) === 'foreign') this.#alarm.overwritten(entry);
    }
    this.#schedule.lookNow();
    this.#schedule.wake();
  }

  /**
   * Publishes another host under the own key, in place. Resolves when it stands there, which may take as long as
   * etcd is away; rejects with OverlayError E_LEASE for a reservation, which is the operator's word, and when the lease
   * is lost or closed first.
   */
  publish(host: LeaseHost): Promise<void> {
    if (this.#own.leaseId === 0n) return Promise.reject(reservationError(this.#options.subnets));
    const standing = this.#published.change(host);
    if (this.#isOver()) this.#published.fail(new OverlayError('E_LEASE', 'the own lease is not held'));
    this.#schedule.renewAt(0);
    this.#schedule.wake();
    return standing;
  }

  conditions(): Condition[] {
    const found = [...this.#alarm.conditions()];
    if (this.#problem !== undefined) {
      const { clock, leaseTtlSeconds } = this.#options;
      const leftMs = this.#own.expiresAtMs - clock.bootMs();
      const isSoon = leftMs < Math.max(EXPIRING_MS, 100 * leaseTtlSeconds); // a tenth of its life
      found.push(condition(isSoon ? 'lease-expiring' : 'lease-not-renewed', this.#problem));
    }
    return found;
  }

  status(): EtcdLeaseStatus {
    const nowMs = this.#options.clock.bootMs();
    const seconds = (ms: number): number | null => (Number.isFinite(ms) ? Math.round(ms / 1000) : null);
    return {
      subnet: formatPrefixes(this.#options.subnets),
      isReservation: this.#own.leaseId === 0n,
      etcdLease: this.#own.leaseId === 0n ? null : this.#own.leaseId.toString(16),
      expiresInSeconds: seconds(this.#own.expiresAtMs - nowMs),
      renewsInSeconds: seconds(Math.max(0, this.#schedule.renewAtMs - nowMs)),
      lost: this.#lostReason ?? null,
    };
  }

  async close(): Promise<void> {
    this.#closing.abort(new Error('own lease closed'));
    this.#schedule.wake();
    await this.#done;
    this.#published.fail(new OverlayError('E_LEASE', 'the own lease is not held any more'));
  }

  async #run(): Promise<void> {
    const isOver = (): boolean => this.#isOver();
    while (!isOver()) {
      await this.#schedule.due(isOver);
      if (isOver()) return;
      try {
        if (this.#schedule.isLookDue) await this.#look();
        else await this.#renew();
        this.#problem = undefined;
        this.#schedule.succeeded();
      } catch (error) {
        if (this.#closing.signal.aborted) return;
        this.#noteFailure(error as Error);
      }
    }
  }

  #isOver(): boolean {
    return this.#closing.signal.aborted || this.#lostReason !== undefined;
  }

  #noteFailure(error: Error): void {
    const retryMs = Math.round(this.#schedule.failed());
    this.#counters.renewalFailures++;
    const leftS = Math.round((this.#own.expiresAtMs - this.#options.clock.bootMs()) / 1000);
    const text = `own lease ${formatPrefixes(this.#options.subnets)} not renewed: ${error.message}`;
    if (text !== this.#problem) this.#options.log.error({ expiresInSeconds: leftS, retryMs }, text);
    this.#problem = text;
  }

  async #renew(): Promise<void> {
    const written = await this.#write(this.#own);
    if (written === undefined) return this.#look();
    this.#counters.renewals++;
    const what = this.#adopt(written) ? `lease now published with ${holderOf(written)}` : 'lease renewed';
    this.#options.log.info({ subnet: formatPrefixes(this.#options.subnets) }, what);
  }

  /** Looks at the key itself and does what the table above says. */
  async #look(): Promise<void> {
    const entry = await this.#options.kv.get(this.#own.key, this.#closing.signal);
    this.#schedule.lookNoMore();
    if (entry === undefined) return this.#recreate();
    if (this.#isOurs(entry)) return this.#accept(entry);
    switch (this.#classify(entry)) {
      case 'reservation':
        return this.#adoptReservation(entry);
      case 'twin':
        return this.#acceptTwin(entry);
      case 'foreign':
        return this.#meetForeign(entry);
    }
  }

  #meetForeign(entry: KvEntry): void {
    if (entry.createRevision !== this.#own.createRevision) {
      const own = `own lease ${formatPrefixes(this.#options.subnets)}`;
      const holder = holderOf(entry);
      return this.#lose(`${own} was deleted or expired, and is held by another host now: ${holder}`);
    }
    this.#alarm.overwritten(entry);
    this.#schedule.lookLater();
    // Renewing would overwrite it: nothing to do until the key changes.
    this.#schedule.renewAt(Infinity);
  }

  async #recreate(): Promise<void> {
    const { subnets, log } = this.#options;
    this.#schedule.lookNow(); // until it is there again
    const other = await findOverlapping(this.#options, this.#own.key, this.#closing.signal);
    if (other !== undefined) {
      const own = `own lease ${formatPrefixes(subnets)}`;
      return this.#lose(`${own} is gone and ${formatPrefix(other.range)} overlaps it now: ${other.holder}`);
    }
    const written = await this.#write(undefined);
    if (written === undefined) return; // somebody made it this moment: look again
    this.#counters.recreated++;
    this.#adopt(written);
    this.#schedule.lookNoMore();
    log.warn(
      { subnet: formatPrefixes(subnets) },
      'own lease was deleted or had expired: acquired the same subnet again',
    );
  }

  async #adoptReservation(entry: KvEntry): Promise<void> {
    const { kv, subnets, log } = this.#options;
    const abandoned = this.#own.leaseId;
    const publicIp = publicIpOf(entry.value);
    if (publicIp !== undefined && !sameDual(publicIp, this.#published.publicIp)) {
      // It names the address that we had: whose subnet it is was decided by somebody else.
      this.#published.keepPublicIp(publicIp);
      this.#published.fail(reservationError(subnets));
    }
    const asStored: OwnKey = { ...this.#ownFrom(entry), expiresAtMs: Infinity, grantedMs: Infinity };
    const isCurrent = this.#published.saysTheSame(entry.value);
    const written = isCurrent ? asStored : await this.#write(asStored);
    if (written === undefined) return this.#schedule.lookNow();
    this.#adopt(written);
    log.info({ subnet: formatPrefixes(subnets) }, 'own lease was made a reservation: it no longer expires');
    if (abandoned !== 0n && (await kv.attachedKeys(abandoned, this.#closing.signal)) === 0)
      await kv.revoke(abandoned, this.#closing.signal);
  }

  #acceptTwin(entry: KvEntry): void {
    this.#alarm.twin(this.#published.publicIp, entry);
    // Its etcd lease keeps the key alive as ours did; ours has lost its key and is left to expire. A minute later the
    // key becomes ours again: if the other is gone, the alarm goes with that.
    const { expiresAtMs, grantedMs } = this.#own;
    this.#own = { ...this.#ownFrom(entry), expiresAtMs, grantedMs };
    const nowMs = this.#options.clock.bootMs();
    this.#schedule.renewAt(this.#patience.seen(nowMs, this.#schedule.renewAtMs));
  }

  async #write(over: OwnKey | undefined): Promise<OwnKey | undefined> {
    const isReservation = over?.leaseId === 0n;
    const pending = { leaseId: isReservation ? 0n : newLeaseId(), value: this.#published.value };
    this.#pending = pending;
    try {
      const write = { key: this.#own.key, value: pending.value, over, newLeaseId: pending.leaseId };
      return await writeOwnKey(this.#options, write, this.#closing.signal);
    } finally {
      this.#pending = undefined;
    }
  }

  /** Whether it says something else than the write before. */
  #adopt(own: OwnKey): boolean {
    this.#own = own;
    this.#alarm.clear();
    const isNew = this.#published.wrote(own.value);
    this.#options.onWritten();
    this.#scheduleNextWrite();
    return isNew;
  }

  /** The key holds what we wrote, perhaps at a later revision than we know. */
  #accept({ leaseId, modRevision, createRevision }: KvEntry): void {
    if (leaseId !== this.#own.leaseId) return; // the write is under way; its answer brings the rest
    this.#own = { ...this.#own, modRevision, createRevision };
    if (!Number.isFinite(this.#schedule.renewAtMs)) this.#scheduleNextWrite();
    this.#alarm.clear();
  }

  #scheduleNextWrite(): void {
    if (this.#published.isAwaited) this.#schedule.renewAt(0);
    else this.#schedule.renewInTime(this.#own);
  }

  #ownFrom({ createRevision, modRevision, leaseId }: KvEntry): Omit<OwnKey, 'expiresAtMs' | 'grantedMs'> {
    return { key: this.#own.key, value: this.#published.value, createRevision, modRevision, leaseId };
  }

  #isOurs({ leaseId, value }: KvEntry): boolean {
    if (leaseId === this.#own.leaseId && this.#published.isOurs(value)) return true;
    return leaseId === this.#pending?.leaseId && value === this.#pending.value;
  }

  #classify({ value, leaseId }: KvEntry): 'reservation' | 'twin' | 'foreign' {
    if (!this.#published.namesUs(value)) return 'foreign';
    return leaseId === 0n ? 'reservation' : 'twin';
  }

  #lose(reason: string): void {
    this.#lostReason = reason;
    this.#published.fail(new OverlayError('E_LEASE', reason));
    this.#options.log.error({ code: 'E_LEASE_LOST' }, reason);
    this.#options.onLost(reason);
  }
}

/** A lease of another host that has addresses of the own subnet. */
async function findOverlapping(
  { kv, layout, networks, subnets }: OwnLeaseOptions,
  ownKey: string,
  signal: AbortSignal,
): Promise<{ readonly range: Prefix<Address>; readonly holder: string } | undefined> {
  const { entries } = await kv.list(layout.leaseRange, signal, (entry) => {
    const name = leaseKeyName(layout, entry.key);
    const ranges = name === undefined || entry.key === ownKey ? undefined : blockedRanges(name);
    if (ranges === undefined) return;
    for (const family of familiesOf(ranges)) {
      const [range, network, subnet] = [ranges[family]!, networks[family], subnets[family]];
      if (network === undefined || subnet === undefined) continue;
      if (range.length <= network.length || !prefixCovers(network, range)) continue;
      if (prefixesOverlap(range, subnet)) return { range, holder: holderOf(entry) };
    }
    return;
  });
  return entries.at(0);
}

function reservationError(subnets: DualPrefix): OverlayError {
  return new OverlayError(
    'E_LEASE',
    `the lease ${formatPrefixes(subnets)} is a reservation, which only an operator changes`,
  );
}
