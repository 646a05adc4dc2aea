// The network config, as flannel's JSON under <prefix>/config. Parsed and validated here; pure.

import type { Ipv4, Prefix } from '../net/ipv4.js';

export interface NetworkConfig {
  readonly network: Prefix;
  readonly subnetLength: number;
  readonly subnetMin: Ipv4;
  readonly subnetMax: Ipv4;
  readonly enableNftables: boolean;
  /** Lower-cased type; "udp" when the config names none. */
  readonly backendType: string;
  /** The Backend object as given (keys in their own spelling); {} when absent. */
  readonly backend: Readonly<Record<string, unknown>>;
}
