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
// The life of a lease is counted in boot time, which goes on while the machine is suspended; waits are monotonic.
//
// One loop does all writing, so no two writes of ours race. What the watch shows only wakes it, except that an alarm is
// raised at once. The loop reads the key itself before it acts on a deletion: an event may be older than our own write.

import { type Condition, condition } from '../../core/conditions.js';
import { OverlayError } from '../../core/errors.js';
import { type Ipv4LeaseHost, sameHost } from '../../lease/lease.js';
import { blockedRange, formatLeaseValue, parseLeaseValue } from '../../lease/lease-codec.js';
import { formatIpv4, type Ipv4 } from '../../net/ipv4.js';
import { formatPrefix, type Prefix, prefixCovers, prefixesOverlap } from '../../net/prefix.js';
import type { Logger } from '../../core/log.js';
import type { EtcdLeaseStatus } from '../../ops/status.js';
import { newLeaseId } from './etcd-kv.js';
import type { KvEntry, LeaseKv } from './etcd-kv.js';
import { leaseKeyName } from './keys.js';
import type { KeyLayout } from './keys.js';
import { writeOwnKey } from './own-key.js';
import type { OwnKey } from './own-key.js';
import { Backoff } from '../../core/waiting.js';
import type { Clock } from '../../core/waiting.js';

export interface OwnLeaseOptions {
  readonly kv: LeaseKv;
  readonly layout: KeyLayout;
  readonly log: Logger;
  readonly clock: Clock;
  readonly random: () => number;
  readonly leaseTtlSeconds: number;
  readonly renewMarginMs: number;
  readonly network: Prefix;
  readonly subnet: Prefix;
  /** What is published. */
  readonly host: Ipv4LeaseHost;
  readonly own: OwnKey;
  /** The key was written: its etcd lease is another one now. */
  onWritten(): void;
  /** The subnet is somebody else's now. Called once; nothing is done afterwards. */
  onLost(reason: string): void;
}

export interface OwnLeaseCounters {
  renewals: number;
  renewalFailures: number;
  recreated: number;
  overwritten: number;
  twins: number;
}

const MIN_RETRY_MS = 1000; // at most one try a second while etcd refuses writes
const MAX_RETRY_MS = 30_000; // renewed within a minute after etcd takes writes again
const RECHECK_MS = 60_000;
// Timers stand still while the machine is suspended: how late a renewal may be that fell due meanwhile.
const SLICE_MS = 30_000;
const EXPIRING_MS = 600_000; // less of its life left, or less than a tenth: time to act

type Alarm = { readonly kind: 'overwritten' | 'twin'; readonly text: string };

/** See the head of this file. Runs from construction until close() or onLost(). */
export class OwnLease {
  readonly counters: OwnLeaseCounters = {
    renewals: 0,
    renewalFailures: 0,
    recreated: 0,
    overwritten: 0,
    twins: 0,
  };
  readonly #options: OwnLeaseOptions;
  readonly #closing = new AbortController();
  readonly #backoff: Backoff;
  readonly #done: Promise<void>;
  #host: Ipv4LeaseHost;
  /** What the next write writes. */
  #value: string;
  /** What our last write wrote; another text while something is to be published. */
  #standing: string;
  #publishing: { readonly done: () => void; readonly fail: (error: Error) => void }[] = [];
  #own: OwnKey;
  /** The write under way: its event may come before the answer. */
  #pending: { readonly leaseId: bigint; readonly value: string } | undefined;
  #renewAtMs: number;
  /** How long a twin is left alone the next time, and when it counts as gone. */
  #twinWaitMs = RECHECK_MS;
  #twinQuietAtMs = 0;
  #hasSaidMargin = false;
  #checkAtMs = Infinity;
  #retryAtMs = 0;
  #alarm: Alarm | undefined;
  #problem: string | undefined;
  #lostReason: string | undefined;
  #wake: () => void = () => undefined;

  constructor(options: OwnLeaseOptions) {
    this.#options = options;
    this.#own = options.own;
    this.#host = options.host;
    this.#value = formatLeaseValue(options.host);
    this.#standing = this.#value;
    this.#backoff = new Backoff(MIN_RETRY_MS, MAX_RETRY_MS, options.random);
    this.#renewAtMs = this.#renewalTime(options.own);
    this.#done = this.#run();
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
      if (!isLate && this.#classify(entry) === 'foreign') this.#raise(this.#overwrittenAlarm(entry));
    }
    this.#checkAtMs = 0;
    this.#retryAtMs = 0;
    this.#wake();
  }

  /**
   * Publishes another host under the own key, in place. Resolves when it stands there, which may take as long as
   * etcd is away; rejects with OverlayError E_LEASE for a reservation, which is the operator's word, and when the lease
   * is lost or closed first.
   */
  publish(host: Ipv4LeaseHost): Promise<void> {
    if (this.#own.leaseId === 0n) return Promise.reject(reservationError(this.#options.subnet));
    this.#host = host;
    this.#value = formatLeaseValue(host);
    return new Promise((resolve, reject) => {
      this.#publishing.push({ done: resolve, fail: reject });
      if (this.#isOver())
        return this.#endPublishing(new OverlayError('E_LEASE', 'the own lease is not held'));
      this.#renewAtMs = 0;
      this.#retryAtMs = 0;
      this.#wake();
    });
  }

  conditions(): Condition[] {
    const found: Condition[] = [];
    if (this.#alarm !== undefined) {
      const code = this.#alarm.kind === 'twin' ? 'lease-twin' : 'lease-overwritten';
      found.push(condition(code, this.#alarm.text));
    }
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
      subnet: formatPrefix(this.#options.subnet),
      isReservation: this.#own.leaseId === 0n,
      etcdLease: this.#own.leaseId === 0n ? null : this.#own.leaseId.toString(16),
      expiresInSeconds: seconds(this.#own.expiresAtMs - nowMs),
      renewsInSeconds: seconds(Math.max(0, this.#renewAtMs - nowMs)),
      lost: this.#lostReason ?? null,
    };
  }

  async close(): Promise<void> {
    this.#closing.abort(new Error('own lease closed'));
    this.#wake();
    await this.#done;
    this.#endPublishing(new OverlayError('E_LEASE', 'the own lease is not held any more'));
  }

  async #run(): Promise<void> {
    while (!this.#isOver()) {
      await this.#sleepUntilDue();
      if (this.#isOver()) return;
      const isRenewal = this.#checkAtMs > this.#options.clock.nowMs();
      try {
        if (isRenewal) await this.#renew();
        else await this.#check();
        this.#problem = undefined;
        this.#backoff.reset();
        this.#retryAtMs = 0;
      } catch (error) {
        if (this.#closing.signal.aborted) return;
        this.#noteFailure(error as Error);
      }
    }
  }

  #isOver(): boolean {
    return this.#closing.signal.aborted || this.#lostReason !== undefined;
  }

  /** Until the next renewal or look is due, on the clock of each; 0: now. */
  #delayMs(): number {
    const { clock } = this.#options;
    const nowMs = clock.nowMs();
    const dueInMs = Math.min(this.#renewAtMs - clock.bootMs(), this.#checkAtMs - nowMs);
    return Math.max(0, this.#retryAtMs - nowMs, dueInMs);
  }

  async #sleepUntilDue(): Promise<void> {
    for (let delayMs = this.#delayMs(); delayMs > 0 && !this.#isOver(); delayMs = this.#delayMs()) {
      // A reservation is never due, but setTimeout holds 24.8 days.
      const sliceMs = Number.isFinite(this.#renewAtMs) ? SLICE_MS : 3_600_000;
      await new Promise<void>((resolve) => {
        const cancel = this.#options.clock.after(Math.min(delayMs, sliceMs), resolve);
        this.#wake = () => {
          cancel();
          resolve();
        };
      });
      this.#wake = () => undefined;
    }
  }

  #noteFailure(error: Error): void {
    const retryMs = this.#backoff.next();
    this.#retryAtMs = this.#options.clock.nowMs() + retryMs;
    this.counters.renewalFailures++;
    const leftS = Math.round((this.#own.expiresAtMs - this.#options.clock.bootMs()) / 1000);
    const text = `own lease ${formatPrefix(this.#options.subnet)} not renewed: ${error.message}`;
    if (text !== this.#problem)
      this.#options.log.error({ expiresInSeconds: leftS, retryMs: Math.round(retryMs) }, text);
    this.#problem = text;
  }

  async #renew(): Promise<void> {
    const written = await this.#write(this.#own);
    if (written === undefined) return this.#check();
    this.counters.renewals++;
    const isNew = written.value !== this.#standing;
    this.#adopt(written);
    const what = isNew ? `lease now published with ${this.#holder(written)}` : 'lease renewed';
    this.#options.log.info({ subnet: formatPrefix(this.#options.subnet) }, what);
  }

  /** Looks at the key itself and does what the table above says. */
  async #check(): Promise<void> {
    const entry = await this.#options.kv.get(this.#own.key, this.#closing.signal);
    this.#checkAtMs = Infinity;
    if (entry === undefined) return this.#recreate();
    if (this.#isOurs(entry)) return this.#accept(entry);
    switch (this.#classify(entry)) {
      case 'reservation':
        return this.#adoptReservation(entry);
      case 'twin':
        return this.#acceptTwin(entry);
      case 'foreign':
        if (entry.createRevision !== this.#own.createRevision) {
          return this.#lose(
            `own lease ${formatPrefix(this.#options.subnet)} was deleted or expired, and is held by another host now: ${this.#holder(entry)}`,
          );
        }
        this.#raise(this.#overwrittenAlarm(entry));
        this.#checkAtMs = this.#options.clock.nowMs() + RECHECK_MS;
        // Renewing would overwrite it: nothing to do until the key changes.
        this.#renewAtMs = Infinity;
    }
  }

  async #recreate(): Promise<void> {
    const { kv, layout, subnet, network, log } = this.#options;
    this.#checkAtMs = 0; // until it is there again
    const { entries } = await kv.list(layout.leaseRange, this.#closing.signal, (entry) => {
      const name = leaseKeyName(layout, entry.key);
      const range = name === undefined || entry.key === this.#own.key ? undefined : blockedRange(name);
      if (range === undefined || range.length <= network.length || !prefixCovers(network, range)) return;
      return prefixesOverlap(range, subnet) ? { range, holder: this.#holder(entry) } : undefined;
    });
    const [other] = entries;
    if (other !== undefined) {
      return this.#lose(
        `own lease ${formatPrefix(subnet)} is gone and ${formatPrefix(other.range)} overlaps it now: ${other.holder}`,
      );
    }
    const written = await this.#write(undefined);
    if (written === undefined) return; // somebody made it this moment: checkAtMs is due, look again
    this.counters.recreated++;
    this.#adopt(written);
    this.#checkAtMs = Infinity;
    log.warn(
      { subnet: formatPrefix(subnet) },
      'own lease was deleted or had expired: acquired the same subnet again',
    );
  }

  async #adoptReservation(entry: KvEntry): Promise<void> {
    const abandoned = this.#own.leaseId;
    const host = parseLeaseValue(entry.value ?? '');
    if (host.ok && host.value.publicIp.v4 !== this.#host.publicIp.v4) {
      // It names the address that we had: whose subnet it is was decided by somebody else.
      this.#host = { ...this.#host, publicIp: host.value.publicIp };
      this.#value = formatLeaseValue(this.#host);
      this.#endPublishing(reservationError(this.#options.subnet));
    }
    const isCurrent = host.ok && sameHost(host.value, this.#host);
    const asStored: OwnKey = { ...this.#ownFrom(entry), expiresAtMs: Infinity, grantedMs: Infinity };
    const written = isCurrent ? asStored : await this.#write(asStored);
    if (written === undefined) return void (this.#checkAtMs = 0);
    this.#adopt(written);
    this.#options.log.info(
      { subnet: formatPrefix(this.#options.subnet) },
      'own lease was made a reservation: it no longer expires',
    );
    if (abandoned !== 0n && (await this.#options.kv.attachedKeys(abandoned, this.#closing.signal)) === 0) {
      await this.#options.kv.revoke(abandoned, this.#closing.signal);
    }
  }

  #acceptTwin(entry: KvEntry): void {
    const lease = `etcd lease ${entry.leaseId.toString(16)}`;
    const [publicIp, subnet] = [formatIpv4(this.#host.publicIp.v4), formatPrefix(this.#options.subnet)];
    const text = `another daemon publishes the own public IP ${publicIp} for ${subnet} (${lease})`;
    this.#raise({ kind: 'twin', text });
    // Its etcd lease keeps the key alive as ours did; ours has lost its key and is left to expire. A minute later the key
    // becomes ours again: if the other is gone, the alarm goes with that. If it is there, it writes again, and the wait
    // doubles each time, so that two daemons do not fight.
    const { expiresAtMs, grantedMs } = this.#own;
    this.#own = { ...this.#ownFrom(entry), expiresAtMs, grantedMs };
    const nowMs = this.#options.clock.bootMs();
    if (nowMs > this.#twinQuietAtMs) this.#twinWaitMs = RECHECK_MS;
    this.#renewAtMs = Math.min(this.#renewAtMs, nowMs + this.#twinWaitMs);
    this.#twinWaitMs *= 2;
    this.#twinQuietAtMs = this.#renewAtMs + this.#twinWaitMs;
  }

  async #write(over: OwnKey | undefined): Promise<OwnKey | undefined> {
    const isReservation = over?.leaseId === 0n;
    const pending = { leaseId: isReservation ? 0n : newLeaseId(), value: this.#value };
    this.#pending = pending;
    try {
      const write = { key: this.#own.key, value: pending.value, over, newLeaseId: pending.leaseId };
      return await writeOwnKey(this.#options, write, this.#closing.signal);
    } finally {
      this.#pending = undefined;
    }
  }

  #adopt(own: OwnKey): void {
    this.#own = own;
    this.#standing = own.value;
    this.#clearAlarm();
    this.#options.onWritten();
    // Something else may be to be published since this was begun.
    if (own.value === this.#value) this.#endPublishing();
    this.#renewAtMs = this.#nextWriteTime();
  }

  #nextWriteTime(): number {
    return this.#publishing.length > 0 ? 0 : this.#renewalTime(this.#own);
  }

  #endPublishing(error?: Error): void {
    for (const { done, fail } of this.#publishing.splice(0)) {
      if (error === undefined) done();
      else fail(error);
    }
  }

  /** The key holds what we wrote, perhaps at a later revision than we know. */
  #accept(entry: KvEntry): void {
    if (entry.leaseId !== this.#own.leaseId) return; // the write is under way; its answer brings the rest
    this.#own = { ...this.#own, modRevision: entry.modRevision, createRevision: entry.createRevision };
    if (!Number.isFinite(this.#renewAtMs)) this.#renewAtMs = this.#nextWriteTime();
    this.#clearAlarm();
  }

  #ownFrom(entry: KvEntry): Omit<OwnKey, 'expiresAtMs' | 'grantedMs'> {
    const { createRevision, modRevision, leaseId } = entry;
    return { key: this.#own.key, value: this.#value, createRevision, modRevision, leaseId };
  }

  #isOurs({ leaseId, value }: KvEntry): boolean {
    if (leaseId === this.#own.leaseId && (value === this.#value || value === this.#standing)) return true;
    return leaseId === this.#pending?.leaseId && value === this.#pending.value;
  }

  #classify(entry: KvEntry): 'reservation' | 'twin' | 'foreign' {
    const publicIp = publicIpOf(entry.value);
    const isOurs = publicIp === this.#host.publicIp.v4 || publicIp === publicIpOf(this.#standing);
    if (publicIp === undefined || !isOurs) return 'foreign';
    return entry.leaseId === 0n ? 'reservation' : 'twin';
  }

  #overwrittenAlarm(entry: KvEntry): Alarm {
    const subnet = formatPrefix(this.#options.subnet);
    return {
      kind: 'overwritten',
      text: `own lease ${subnet} was overwritten by another host: ${this.#holder(entry)}; it is not written over`,
    };
  }

  #holder(entry: Pick<KvEntry, 'value'>): string {
    const host = parseLeaseValue(entry.value ?? '');
    return host.ok
      ? `PublicIP ${formatIpv4(host.value.publicIp.v4)}`
      : `a value that is no lease (${host.problem})`;
  }

  #raise(alarm: Alarm): void {
    if (this.#alarm?.text === alarm.text) return;
    this.#alarm = alarm;
    if (alarm.kind === 'twin') this.counters.twins++;
    else this.counters.overwritten++;
    this.#options.log.error({ code: 'E_LEASE_LOST' }, alarm.text);
  }

  #clearAlarm(): void {
    if (this.#alarm !== undefined) this.#options.log.warn(`no longer: ${this.#alarm.text}`);
    this.#alarm = undefined;
  }

  #lose(reason: string): void {
    this.#lostReason = reason;
    this.#endPublishing(new OverlayError('E_LEASE', reason));
    this.#options.log.error({ code: 'E_LEASE_LOST' }, reason);
    this.#options.onLost(reason);
  }

  /**
   * `renewMarginMs` before the end, whatever of the life that leaves: it is the operator's. A little earlier for some
   * than for others, since hosts that started together shall not renew together.
   */
  #renewalTime({ leaseId, expiresAtMs, grantedMs }: OwnKey): number {
    if (leaseId === 0n) return Infinity;
    const { renewMarginMs, random } = this.#options;
    if (renewMarginMs < grantedMs) {
      const jitterMs = 0.1 * Math.min(renewMarginMs, grantedMs - renewMarginMs) * random();
      return expiresAtMs - renewMarginMs - jitterMs;
    }
    this.#sayMargin(grantedMs);
    return expiresAtMs - grantedMs * 0.75;
  }

  #sayMargin(grantedMs: number): void {
    if (this.#hasSaidMargin) return;
    this.#hasSaidMargin = true;
    const marginMinutes = this.#options.renewMarginMs / 60_000;
    this.#options.log.warn(
      { grantedSeconds: grantedMs / 1000, marginMinutes },
      '--subnet-lease-renew-margin is longer than the lease that etcd granted: renewed after a quarter of it',
    );
  }
}

function publicIpOf(value: string | undefined): Ipv4 | undefined {
  const host = parseLeaseValue(value ?? '');
  return host.ok ? host.value.publicIp.v4 : undefined;
}

function reservationError(subnet: Prefix): OverlayError {
  return new OverlayError(
    'E_LEASE',
    `the lease ${formatPrefix(subnet)} is a reservation, which only an operator changes`,
  );
}
