// What the own lease says of this host, which follows its public IP under the same subnet.

import { type Condition, condition } from '../core/conditions.js';
import type { Ipv4LeaseHost } from '../lease/lease.js';
import { formatIpv4, type Ipv4 } from '../net/ipv4.js';

export interface OwnHostOptions {
  /** As the lease says it. */
  readonly host: Ipv4LeaseHost;
  /** Writes it into the lease, which may take as long as the store is away; undefined where that is not possible. */
  readonly publish: (host: Ipv4LeaseHost) => Promise<void> | undefined;
  /** Set in a store that only an operator writes: its kind. */
  readonly readOnlyKind: string | undefined;
  /** It stands in the lease: time to look again. */
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
  #host: Ipv4LeaseHost;
  #publishing: Ipv4 | undefined;
  #fault: string | undefined;

  constructor(options: OwnHostOptions) {
    this.#options = options;
    this.#host = options.host;
  }

  /** This host has that public IP. Returns what is wrong until the lease says so; to be called again while it is. */
  follow(publicIp: Ipv4): Condition | undefined {
    const published = this.#host.publicIp.v4;
    if (publicIp !== (this.#publishing ?? published))
      this.#publish({ ...this.#host, publicIp: { v4: publicIp } });
    if (publicIp === published) return undefined;
    const { readOnlyKind } = this.#options;
    const why =
      readOnlyKind === undefined
        ? (this.#fault ?? 'it is being published')
        : `only an operator writes the ${readOnlyKind} store`;
    const text = `public IP is now ${formatIpv4(publicIp)}, but the lease says ${formatIpv4(published)}: ${why}`;
    return condition('public-ip-changed', text);
  }

  #publish(host: Ipv4LeaseHost): void {
    const publicIp = host.publicIp.v4;
    const publishing = this.#options.publish(host);
    if (publishing === undefined) return;
    this.#publishing = publicIp;
    publishing
      .then(
        () => {
          if (this.#publishing === publicIp) this.#host = host;
          this.#fault = undefined;
        },
        (error: unknown) => (this.#fault = error instanceof Error ? error.message : String(error)),
      )
      .finally(() => {
        if (this.#publishing !== publicIp) return; // the address changed once more meanwhile
        this.#publishing = undefined;
        if (this.#fault === undefined) this.#options.onPublished();
      });
  }
}
