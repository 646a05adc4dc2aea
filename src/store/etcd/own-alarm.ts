// Another in the own lease, raised once for each and ended when the key is ours again.

import { type Condition, Conditions } from '../../core/conditions.js';
import type { Logger } from '../../core/log.js';
import { parseLeaseValue } from '../../lease/lease-codec.js';
import { type DualAddress, type DualPrefix, formatAddresses, formatPrefixes } from '../../net/prefix.js';
import type { KvEntry } from './etcd-kv.js';

const SUBJECT = 'alarm';

export class OwnAlarm {
  /** Times that an alarm was raised. */
  readonly counters = { overwritten: 0, twins: 0 };
  readonly #subnet: string;
  readonly #log: Logger;
  readonly #conditions = new Conditions();

  constructor(subnets: DualPrefix, log: Logger) {
    this.#subnet = formatPrefixes(subnets);
    this.#log = log;
  }

  overwritten(entry: KvEntry): void {
    const by = `own lease ${this.#subnet} was overwritten by another host: ${holderOf(entry)}`;
    if (this.#raise('lease-overwritten', `${by}; it is not written over`)) this.counters.overwritten++;
  }

  twin(publicIp: DualAddress, { leaseId }: KvEntry): void {
    const what = `another daemon publishes the own public IP ${formatAddresses(publicIp)} for ${this.#subnet}`;
    if (this.#raise('lease-twin', `${what} (etcd lease ${leaseId.toString(16)})`)) this.counters.twins++;
  }

  clear(): void {
    const text = this.#conditions.textOf(SUBJECT);
    if (text !== undefined) this.#log.warn(`no longer: ${text}`);
    this.#conditions.release(SUBJECT);
  }

  conditions(): readonly Condition[] {
    return this.#conditions.list();
  }

  #raise(code: 'lease-overwritten' | 'lease-twin', text: string): boolean {
    if (this.#conditions.textOf(SUBJECT) === text) return false;
    this.#conditions.hold(code, text, SUBJECT);
    this.#log.error({ code: 'E_LEASE_LOST' }, text);
    return true;
  }
}

/** Whose a value is, in words. */
export function holderOf({ value }: Pick<KvEntry, 'value'>): string {
  const host = parseLeaseValue(value ?? '');
  return host.ok
    ? `PublicIP ${formatAddresses(host.value.publicIp)}`
    : `a value that is no lease (${host.problem})`;
}
