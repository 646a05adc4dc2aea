// What the own lease says of this host, which follows its public IP under the same subnet.

import { messageOf } from '../core/errors.js';
import { type Condition, condition } from '../core/conditions.js';
import type { LeaseHost } from '../lease/lease.js';
import { sameDual } from '../net/dual.js';
import { type DualAddress, formatAddresses } from '../net/prefix.js';

export interface OwnHostOptions {
  /** As the lease says it. */
  readonly host: LeaseHost;
  /**
   * Writes it into the lease, which may take as long as the store is away; undefined in a store that only an operator
   * writes.
   */
  readonly publish: ((host: LeaseHost) => Promise<void>) | undefined;
  /** Kind of the store. */
  readonly store: string;
  /** Called when it stands in the lease, so that the interface is looked at again. */
  readonly onPublished: () => void;
}

/**
 * | state      | follow(same IP) | follow(another IP)  | the store answers                         |
 * | ---------- | --------------- | ------------------- | ----------------------------------------- |
 * | published  | –               | publish, publishing | –                                         |
 * | publishing | published soon  | publish that one    | published; after an error, tried again    |
 */
export class OwnHost {
  readonly #options: OwnHostOptions;
  #host: LeaseHost;
  #publishing: DualAddress | undefined;
  #fault: string | undefined;
  #lag: Condition | undefined;

  constructor(options: OwnHostOptions) {
    this.#options = options;
    this.#host = options.host;
  }

  /** What is wrong in the lease, as of the last follow(). */
  get lag(): Condition | undefined {
    return this.#lag;
  }

  /** Takes the public IP of this host, undefined when it is not known now. To be called again while there is a lag. */
  follow(publicIp: DualAddress | undefined): void {
    this.#lag = publicIp === undefined ? undefined : this.#lagOf(publicIp);
  }

  #lagOf(publicIp: DualAddress): Condition | undefined {
    const published = this.#host.publicIp;
    if (!sameDual(publicIp, this.#publishing ?? published)) this.#publish({ ...this.#host, publicIp });
    if (sameDual(publicIp, published)) return undefined;
    const { publish, store } = this.#options;
    const why =
      publish === undefined
        ? `only an operator writes the ${store} store`
        : (this.#fault ?? 'it is being published');
    const [now, said] = [publicIp, published].map(formatAddresses);
    const text = `public IP is now ${now}, but the lease says ${said}: ${why}`;
    return condition('public-ip-changed', text);
  }

  #publish(host: LeaseHost): void {
    const { publicIp } = host;
    const publishing = this.#options.publish?.(host);
    if (publishing === undefined) return;
    this.#publishing = publicIp;
    publishing
      .then(
        () => {
          if (this.#publishing === publicIp) this.#host = host;
          this.#fault = undefined;
        },
        (error: unknown) => (this.#fault = messageOf(error)),
      )
      .finally(() => {
        if (this.#publishing !== publicIp) return; // the address changed once more meanwhile
        this.#publishing = undefined;
        if (this.#fault === undefined) this.#options.onPublished();
      });
  }
}
