// The network config: flannel's JSON, read by Go's rules and checked by flannel's. Pure.
//
// Left out of the JSON, SubnetLen is 24 for networks up to /22 and two bits longer than the network from there on, and
// the subnets run from the second to the last. Beyond flannel's checks, SubnetMin above SubnetMax is an error, because
// it could only ever end as "no free subnet".

import { OverlayError } from '../core/errors.js';
import { NEVER_UNICAST } from '../net/bogons.js';
import { type Dual, dualOf, mapDual } from '../net/dual.js';
import { formatIpv4, type Ipv4, ipv4, parseIpv4 } from '../net/ipv4.js';
import { type Ipv6, ipv6 } from '../net/ipv6.js';
import {
  type Address,
  type AddressRange,
  type DualPrefix,
  type DualRange,
  formatPrefix,
  lastOf,
  parseCidr,
  type Prefix,
  prefixContains,
  prefixOf,
  sizeOf,
} from '../net/prefix.js';
import { field, fieldKey, parseJson } from './go-json.js';

/** The network in one address family. */
export interface FamilyNetwork<A extends Address = Ipv4> {
  readonly network: Prefix<A>;
  readonly subnetLength: number;
  /** First and last subnet that may be leased: network addresses, both included. */
  readonly subnetMin: A;
  readonly subnetMax: A;
}

export interface NetworkConfig {
  /** What it has of each family; one at least. */
  readonly networks: Dual<FamilyNetwork, FamilyNetwork<Ipv6>>;
  /** Who cuts the Network into subnets: this host, within the three limits, or the store, whatever they say. */
  readonly subnetsFrom: SubnetsFrom;
  readonly enableNftables: boolean;
  /** Lower-cased type; "udp" when the config has no Backend. */
  readonly backendType: string;
  /** The Backend object as given (keys in their own spelling); {} when absent. */
  readonly backend: Readonly<Record<string, unknown>>;
  /** What the parser ignored, in words. */
  readonly warnings: readonly string[];
  /** Where it came from, as messages name it. */
  readonly source: string;
}

export type SubnetsFrom = 'limits' | 'store';

const KEYS = [
  'EnableIPv4',
  'EnableIPv6',
  'EnableNFTables',
  'Network',
  'IPv6Network',
  'SubnetMin',
  'SubnetMax',
  'SubnetLen',
  'IPv6SubnetMin',
  'IPv6SubnetMax',
  'IPv6SubnetLen',
  'Backend',
];

/** The whole network, by family. */
export function prefixesOf({ networks }: Pick<NetworkConfig, 'networks'>): DualPrefix {
  return mapDual<FamilyNetwork, FamilyNetwork<Ipv6>, unknown>(
    networks,
    ({ network }) => network,
  ) as DualPrefix;
}

/** The range that may be leased, by family. No host may have an address of its own in it. */
export function leasableRange({ networks, subnetsFrom }: NetworkConfig): DualRange {
  const { v4, v6 } = networks;
  const all = {
    v4: v4 && rangeOf(v4, subnetsFrom, ipv4(0xffff_ffff), ipv4(0)),
    v6: v6 && rangeOf(v6, subnetsFrom, ipv6(2n ** 128n - 1n), ipv6(0n)),
  };
  return dualOf(all.v4, all.v6);
}

function rangeOf<A extends Address>(
  { subnetMin, subnetMax, subnetLength }: FamilyNetwork<A>,
  subnetsFrom: SubnetsFrom,
  highest: A,
  lowest: A,
): AddressRange<A> {
  // Only the store knows: no address is out of the question.
  if (subnetsFrom === 'store') return { first: highest, last: lowest };
  return { first: subnetMin, last: lastOf({ address: subnetMax, length: subnetLength }) };
}

/** Parses and checks a config. `source` says where it came from. Throws OverlayError E_CONFIG. */
export function parseNetworkConfig(
  text: string,
  source: string,
  subnetsFrom: SubnetsFrom = 'limits',
): NetworkConfig {
  let value: unknown;
  try {
    value = parseJson(text);
  } catch (error) {
    throw new OverlayError('E_CONFIG', `${source}: ${(error as Error).message}`, { cause: error });
  }
  return networkConfigFromValue(value, source, subnetsFrom);
}

/** Checks a config that is already parsed. Throws OverlayError E_CONFIG. */
export function networkConfigFromValue(
  value: unknown,
  source: string,
  subnetsFrom: SubnetsFrom = 'limits',
): NetworkConfig {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new OverlayError(
      'E_CONFIG',
      `${source} is ${JSON.stringify(value) ?? 'missing'}: expected a JSON object`,
    );
  }
  const read = new Reader(value as Record<string, unknown>, source);
  if (!read.flag('EnableIPv4', true))
    throw read.error('EnableIPv4', 'true (IPv6-only networks are not supported)');
  if (read.flag('EnableIPv6', false)) throw read.error('EnableIPv6', 'false (IPv6 is not supported)');
  const network = read.network();
  const { subnetLength, subnetMin, subnetMax } =
    subnetsFrom === 'store' ? wholeOf(network) : read.limits(network);
  const lastAddress = subnetMax + sizeOf(subnetLength) - 1;
  if (
    NEVER_UNICAST.some(
      ({ address, length }) => subnetMin < address + sizeOf(length) && address <= lastAddress,
    )
  ) {
    throw read.error(
      'Network',
      `subnets outside ${NEVER_UNICAST.map(formatPrefix).join(', ')}: no host is there`,
    );
  }
  return {
    networks: { v4: { network, subnetLength, subnetMin, subnetMax } },
    subnetsFrom,
    enableNftables: read.flag('EnableNFTables', false),
    ...read.backend(),
    warnings: read.unknownKeys(),
    source,
  };
}

type Limits = Omit<FamilyNetwork, 'network'>;

function wholeOf({ address, length }: Prefix): Limits {
  return { subnetLength: length, subnetMin: address, subnetMax: address };
}

class Reader {
  readonly #value: Record<string, unknown>;
  readonly #source: string;

  constructor(value: Record<string, unknown>, source: string) {
    this.#value = value;
    this.#source = source;
  }

  error(key: string, expected: string): OverlayError {
    const shown = JSON.stringify(field(this.#value, key)) ?? 'missing';
    return new OverlayError('E_CONFIG', `${this.#source}: ${key} is ${shown}: expected ${expected}`);
  }

  flag(key: string, otherwise: boolean): boolean {
    const value = field(this.#value, key) ?? otherwise;
    if (typeof value !== 'boolean') throw this.error(key, 'true or false');
    return value;
  }

  network(): Prefix {
    const text = field(this.#value, 'Network');
    const cidr = typeof text === 'string' ? parseCidr(text) : undefined;
    if (cidr === undefined || cidr.length === 0)
      throw this.error('Network', 'an IPv4 network such as "10.5.0.0/16"');
    return prefixOf(cidr.address, cidr.length);
  }

  /** Throws OverlayError E_CONFIG, also when SubnetMin is above SubnetMax. */
  limits(network: Prefix): Limits {
    const subnetLength = this.#subnetLength(network);
    const first = ipv4(network.address + sizeOf(subnetLength));
    const subnetMin = this.#subnetBound('SubnetMin', network, subnetLength) ?? first;
    const last = prefixOf(lastOf(network), subnetLength).address;
    const subnetMax = this.#subnetBound('SubnetMax', network, subnetLength) ?? last;
    if (subnetMin > subnetMax) {
      const bounds = `SubnetMin ${formatIpv4(subnetMin)} is above SubnetMax ${formatIpv4(subnetMax)}`;
      throw new OverlayError('E_CONFIG', `${this.#source}: ${bounds}`);
    }
    return { subnetLength, subnetMin, subnetMax };
  }

  #subnetLength(network: Prefix): number {
    const given = field(this.#value, 'SubnetLen') ?? 0;
    if (typeof given !== 'number' || !Number.isInteger(given) || given < 0) {
      throw this.error('SubnetLen', 'a prefix length such as 24');
    }
    if (given > 30) throw this.error('SubnetLen', 'at most 30');
    if (given > 0) {
      if (given >= network.length + 2) return given;
      const least = network.length + 2;
      throw this.error('SubnetLen', `at least ${least}: ${formatPrefix(network)} must hold four subnets`);
    }
    if (network.length > 28) throw this.error('Network', 'at most a /28: it must hold four subnets');
    return network.length <= 22 ? 24 : network.length + 2;
  }

  /** undefined when the key is missing or 0.0.0.0. */
  #subnetBound(key: 'SubnetMin' | 'SubnetMax', network: Prefix, subnetLength: number): Ipv4 | undefined {
    if (fieldKey(this.#value, key) === undefined) return undefined;
    const text = field(this.#value, key);
    // A 4-in-6 spelling is the same address (RFC 4291 section 2.5.5.2).
    const address = typeof text === 'string' ? parseIpv4(text.replace(/^::ffff:/i, '')) : undefined;
    if (address === undefined) throw this.error(key, 'an IPv4 address');
    if (address === 0) return undefined;
    if (!prefixContains(network, address))
      throw this.error(key, `an address inside Network ${formatPrefix(network)}`);
    if (prefixOf(address, subnetLength).address !== address) {
      throw this.error(key, `an address on a SubnetLen boundary (/${subnetLength})`);
    }
    return address;
  }

  backend(): Pick<NetworkConfig, 'backendType' | 'backend'> {
    const backend = field(this.#value, 'Backend');
    if (backend === undefined) return { backendType: 'udp', backend: {} };
    if (typeof backend !== 'object' || backend === null || Array.isArray(backend)) {
      throw this.error('Backend', 'an object such as {"Type":"udp"}');
    }
    const type = field(backend, 'Type') ?? '';
    if (typeof type !== 'string') {
      const shown = JSON.stringify(type);
      throw new OverlayError(
        'E_CONFIG',
        `${this.#source}: Backend.Type is ${shown}: expected a string such as "udp"`,
      );
    }
    return { backendType: type.toLowerCase(), backend: backend as Record<string, unknown> };
  }

  unknownKeys(): string[] {
    const known = new Set(KEYS.map((key) => key.toLowerCase()));
    return Object.keys(this.#value)
      .filter((key) => !known.has(key.toLowerCase()))
      .map((key) => `${this.#source}: unknown key ${JSON.stringify(key)} is ignored`);
  }
}
