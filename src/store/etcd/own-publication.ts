// What is to stand under the own key, what our last write wrote, and who waits until both are the same.

import { isOneHost, type LeaseHost, sameHost } from '../../lease/lease.js';
import { formatLeaseValue, parseLeaseValue } from '../../lease/lease-codec.js';
import type { DualAddress } from '../../net/prefix.js';

interface Waiting {
  readonly done: () => void;
  readonly fail: (error: Error) => void;
}

export class OwnPublication {
  #host: LeaseHost;
  #value: string;
  #standing: string;
  #waiting: Waiting[] = [];

  constructor(host: LeaseHost) {
    this.#host = host;
    this.#value = formatLeaseValue(host);
    this.#standing = this.#value;
  }

  get publicIp(): DualAddress {
    return this.#host.publicIp;
  }

  /** What the next write writes. */
  get value(): string {
    return this.#value;
  }

  /** Whether somebody waits for the next write. */
  get isAwaited(): boolean {
    return this.#waiting.length > 0;
  }

  /** Something else is to stand there. Resolves when it does. */
  change(host: LeaseHost): Promise<void> {
    this.#take(host);
    return new Promise((resolve, reject) => this.#waiting.push({ done: resolve, fail: reject }));
  }

  /** The address that stands there is to stay. */
  keepPublicIp(publicIp: DualAddress): void {
    this.#take({ ...this.#host, publicIp });
  }

  /** A write of ours was done. Whether it wrote something new. */
  wrote(value: string): boolean {
    const isNew = value !== this.#standing;
    this.#standing = value;
    // Something else may be to be published since that was begun.
    if (value === this.#value) for (const { done } of this.#waiting.splice(0)) done();
    return isNew;
  }

  fail(error: Error): void {
    for (const { fail } of this.#waiting.splice(0)) fail(error);
  }

  /** Whether a value is what we write or wrote. */
  isOurs(value: string | undefined): boolean {
    return value === this.#value || value === this.#standing;
  }

  /** Whether a value names this host, now or as of the last write. */
  namesUs(value: string | undefined): boolean {
    const publicIp = publicIpOf(value);
    if (publicIp === undefined) return false;
    const standing = publicIpOf(this.#standing);
    return isOneHost(publicIp, this.publicIp) || (standing !== undefined && isOneHost(publicIp, standing));
  }

  /** Whether a value says the same as the next write, however it is spelt. */
  saysTheSame(value: string | undefined): boolean {
    const host = parseLeaseValue(value ?? '');
    return host.ok && sameHost(host.value, this.#host);
  }

  #take(host: LeaseHost): void {
    this.#host = host;
    this.#value = formatLeaseValue(host);
  }
}

/** The address that a value names. */
export function publicIpOf(value: string | undefined): DualAddress | undefined {
  const host = parseLeaseValue(value ?? '');
  return host.ok ? host.value.publicIp : undefined;
}
