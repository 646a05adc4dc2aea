// The network config: flannel's JSON, read by Go's rules and checked by flannel's. Pure.
//
// Left out of the JSON, SubnetLen is 24 for networks up to /22 (of IPv6: 64, up to /62) and two bits longer than the
// network from there on, and the subnets run from the second to the last. Beyond flannel's checks, SubnetMin above
// SubnetMax is an error, because it could only ever end as "no free subnet"; and so is an IPv4 text in a field of IPv6,
// which flannel takes for an address there. What is said of a family that is not enabled is not looked at.

import { OverlayError } from '../core/errors.js';
import { IPV6_BOGONS, NEVER_UNICAST } from '../net/bogons.js';
import { type Dual, dualOf, mapDual } from '../net/dual.js';
import { type Ipv4, ipv4 } from '../net/ipv4.js';
import { type Ipv6, ipv6 } from '../net/ipv6.js';
import {
  type Address,
  type AddressOf,
  type AddressRange,
  type DualPrefix,
  type DualRange,
  type Family,
  formatAddress,
  formatPrefix,
  lastOf,
  parseAddress,
  parseCidr,
  type Prefix,
  prefixContains,
  prefixOf,
  stepped,
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
export function leasableRange({
  networks,
  subnetsFrom,
}: Pick<NetworkConfig, 'networks' | 'subnetsFrom'>): DualRange {
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

/** Whether both say the same, spelt alike: the Backend as it was given, warnings and source included. */
export function sameConfig(a: NetworkConfig, b: NetworkConfig): boolean {
  const textOf = (config: NetworkConfig): string =>
    // JSON has no bigint.
    JSON.stringify(config, (_key, value: unknown) => (typeof value === 'bigint' ? String(value) : value));
  return textOf(a) === textOf(b);
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
  const v4 = read.flag('EnableIPv4', true) ? read.family(IPV4, subnetsFrom) : undefined;
  const v6 = read.flag('EnableIPv6', false) ? read.family(IPV6, subnetsFrom) : undefined;
  if (v4 === undefined && v6 === undefined) throw read.error('EnableIPv4', 'true, or EnableIPv6 true');
  return {
    networks: dualOf(v4, v6),
    subnetsFrom,
    enableNftables: read.flag('EnableNFTables', false),
    ...read.backend(),
    warnings: read.unknownKeys(),
    source,
  };
}

const ZERO = { 4: ipv4(0), 6: ipv6(0n) };

/** How flannel calls the fields of a family, and what it takes in them. */
interface FamilyRules<F extends Family> {
  readonly family: F;
  readonly name: string;
  /** What the names of its fields begin with. */
  readonly keys: string;
  readonly example: string;
  readonly longestNetwork: number;
  readonly longestSubnet: number;
  /** Networks of up to this length are cut into subnets of `usualSubnet`, longer ones into four. */
  readonly wideNetwork: number;
  readonly usualSubnet: number;
  readonly neverUnicast: readonly Prefix<AddressOf[F]>[];
}

const IPV4: FamilyRules<4> = {
  family: 4,
  name: 'IPv4',
  keys: '',
  example: '10.5.0.0/16',
  longestNetwork: 28,
  longestSubnet: 30,
  wideNetwork: 22,
  usualSubnet: 24,
  neverUnicast: NEVER_UNICAST,
};

const IPV6: FamilyRules<6> = {
  family: 6,
  name: 'IPv6',
  keys: 'IPv6',
  example: 'fd00:5::/48',
  longestNetwork: 124,
  longestSubnet: 126,
  wideNetwork: 62,
  usualSubnet: 64,
  neverUnicast: IPV6_BOGONS,
};

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

  /** The network in one family. Throws OverlayError E_CONFIG, also when SubnetMin is above SubnetMax. */
  family<F extends Family>(rules: FamilyRules<F>, subnetsFrom: SubnetsFrom): FamilyNetwork<AddressOf[F]> {
    const network = this.#network(rules);
    const { address, length } = network;
    const found: FamilyNetwork<AddressOf[F]> =
      subnetsFrom === 'store'
        ? { network, subnetLength: length, subnetMin: address, subnetMax: address }
        : this.#limits(rules, network);
    const last = lastOf({ address: found.subnetMax, length: found.subnetLength });
    const isCarried = rules.neverUnicast.every(
      (bogon) => lastOf(bogon) < found.subnetMin || bogon.address > last,
    );
    if (isCarried) return found;
    const bogons = rules.neverUnicast.map(formatPrefix).join(', ');
    throw this.error(`${rules.keys}Network`, `subnets outside ${bogons}: no host is there`);
  }

  #network<F extends Family>({ family, keys, name, example }: FamilyRules<F>): Prefix<AddressOf[F]> {
    const key = `${keys}Network`;
    const text = field(this.#value, key);
    const cidr = typeof text === 'string' ? parseCidr(text, family) : undefined;
    if (cidr === undefined || cidr.length === 0)
      throw this.error(key, `an ${name} network such as "${example}"`);
    return prefixOf(cidr.address, cidr.length);
  }

  #limits<F extends Family>(
    rules: FamilyRules<F>,
    network: Prefix<AddressOf[F]>,
  ): FamilyNetwork<AddressOf[F]> {
    const subnetLength = this.#subnetLength(rules, network);
    const [low, high] = [`${rules.keys}SubnetMin`, `${rules.keys}SubnetMax`];
    const first = stepped(network.address, subnetLength, 1);
    const subnetMin = this.#subnetBound(low, rules, network, subnetLength) ?? first;
    const last = prefixOf(lastOf(network), subnetLength).address;
    const subnetMax = this.#subnetBound(high, rules, network, subnetLength) ?? last;
    if (subnetMin > subnetMax) {
      const bounds = `${low} ${formatAddress(subnetMin)} is above ${high} ${formatAddress(subnetMax)}`;
      throw new OverlayError('E_CONFIG', `${this.#source}: ${bounds}`);
    }
    return { network, subnetLength, subnetMin, subnetMax };
  }

  #subnetLength<F extends Family>(rules: FamilyRules<F>, network: Prefix<AddressOf[F]>): number {
    const { keys, longestNetwork, longestSubnet, wideNetwork, usualSubnet } = rules;
    const key = `${keys}SubnetLen`;
    const given = field(this.#value, key) ?? 0;
    if (typeof given !== 'number' || !Number.isInteger(given) || given < 0) {
      throw this.error(key, `a prefix length such as ${usualSubnet}`);
    }
    if (given > longestSubnet) throw this.error(key, `at most ${longestSubnet}`);
    if (given > 0) {
      if (given >= network.length + 2) return given;
      const least = network.length + 2;
      throw this.error(key, `at least ${least}: ${formatPrefix(network)} must hold four subnets`);
    }
    if (network.length > longestNetwork)
      throw this.error(`${keys}Network`, `at most a /${longestNetwork}: it must hold four subnets`);
    return network.length <= wideNetwork ? usualSubnet : network.length + 2;
  }

  /** undefined when the key is missing or the address is all zeros. */
  #subnetBound<F extends Family>(
    key: string,
    { family, keys, name }: FamilyRules<F>,
    network: Prefix<AddressOf[F]>,
    subnetLength: number,
  ): AddressOf[F] | undefined {
    if (fieldKey(this.#value, key) === undefined) return undefined;
    const text = field(this.#value, key);
    // A 4-in-6 spelling of an IPv4 address is the same address (RFC 4291 section 2.5.5.2).
    const plain = typeof text === 'string' && family === 4 ? text.replace(/^::ffff:/i, '') : text;
    const address = typeof plain === 'string' ? parseAddress(plain, family) : undefined;
    if (address === undefined) throw this.error(key, `an ${name} address`);
    if (address === ZERO[family]) return undefined;
    if (!prefixContains(network, address))
      throw this.error(key, `an address inside ${keys}Network ${formatPrefix(network)}`);
    if (prefixOf(address, subnetLength).address !== address) {
      throw this.error(key, `an address on a ${keys}SubnetLen boundary (/${subnetLength})`);
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
