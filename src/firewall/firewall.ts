// The rules of a network: those of each of its families, side by side (family-firewall.ts). IPv6 has tools, tables and
// failures of its own, so that a host without ip6tables loses nothing in IPv4.

import type { Condition } from '../core/conditions.js';
import type { MetricFamily } from '../core/metric.js';
import { familiesOf } from '../net/dual.js';
import type { FormerNetworks } from '../kernel/held-names.js';
import type { DualPrefix } from '../net/prefix.js';
import { FamilyFirewall, type RuleFlags } from './family-firewall.js';

export interface FirewallOptions extends RuleFlags {
  readonly networks: DualPrefix;
  /** The own lease; of each family that the network has. */
  readonly subnets: DualPrefix;
  /** Networks that an earlier run of this daemon served and nobody serves now; their rules are removed. */
  readonly formerNetworks?: FormerNetworks | undefined;
}

/** What removes the rules of a network has done it with its first pass: setTimeout() takes no more than 31 bits. */
const NEVER_MS = 2 ** 31 - 1;

export class Firewall {
  readonly #families: FamilyFirewall[];

  /** Throws RangeError when the resync is no time, TypeError when a family has no subnet. */
  constructor({ networks, subnets, formerNetworks, ...flags }: FirewallOptions) {
    const families = familiesOf(networks);
    // What a family that the network has no more left is removed once.
    const unwanted = { hasMasquerade: false, hasForward: false, hasBlackhole: false, resyncMs: NEVER_MS };
    const gone = (['v4', 'v6'] as const).flatMap((family) => {
      const former = networks[family] === undefined ? formerNetworks?.[family] : undefined;
      if (former === undefined) return [];
      return [new FamilyFirewall({ ...flags, ...unwanted, network: former, subnet: former, isOnly: false })];
    });
    this.#families = families.map((family) => {
      const subnet = subnets[family];
      if (subnet === undefined) throw new TypeError(`the network has ${family}, the own lease has not`);
      const of = { network: networks[family]!, subnet, formerNetwork: formerNetworks?.[family] };
      return new FamilyFirewall({ ...flags, ...of, isOnly: families.length + gone.length === 1 });
    });
    this.#families.push(...gone);
  }

  /**
   * Installs the rules and starts the resync. Resolves also when something failed, and after a second when the rules do
   * not stand by then: see conditions().
   */
  async open(): Promise<void> {
    await Promise.all(this.#families.map((family) => family.open()));
  }

  /** One pass: compare, repair, clean up the other mode. Passes do not overlap. Never rejects. */
  async resync(): Promise<void> {
    await Promise.all(this.#families.map((family) => family.resync()));
  }

  /** Stops the resync; the rules stay. Idempotent. */
  async close(): Promise<void> {
    await Promise.all(this.#families.map((family) => family.close()));
  }

  conditions(): readonly Condition[] {
    return this.#families.flatMap((family) => family.conditions());
  }

  /** Whether rules are made with nft: because the network config says so, or for want of iptables. */
  get usesNft(): boolean {
    return this.#families.some(({ usesNft }) => usesNft);
  }

  metrics(): MetricFamily[] {
    return [
      {
        name: 'firewall_repairs_total',
        help: 'Tables found without our rules, or with other ones, after they had been installed.',
        type: 'counter',
        values: [{ labels: {}, value: this.#families.reduce((sum, { repairs }) => sum + repairs, 0) }],
      },
    ];
  }
}
