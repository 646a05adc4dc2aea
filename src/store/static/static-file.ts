// The file of a static store, read and checked.
//
//   { "config": <network config>, "leases": [{ "subnet": "10.5.1.0/24", "publicIP": "172.20.0.1" }, …] }
//
// and for IPv6 "ipv6Subnet", "publicIPv6" and "backendV6Data", beside those of IPv4 or in their place. In a dual-stack
// network a lease may have one family alone. What it has of a family that the network has not is not looked at.

import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { field, parseJson } from '../../config/go-json.js';
import { type NetworkConfig, networkConfigFromValue, prefixesOf } from '../../config/network-config.js';
import { OverlayError } from '../../core/errors.js';
import { isOneHost, type Lease, leaseBackend } from '../../lease/lease.js';
import { type Dual, dualOf, familiesOf, type FamilyName, firstOf } from '../../net/dual.js';
import { parseIpv4 } from '../../net/ipv4.js';
import { parseIpv6 } from '../../net/ipv6.js';
import {
  type Address,
  type DualAddress,
  type DualPrefix,
  formatPrefix,
  parsePrefix,
  type Prefix,
  prefixCovers,
  prefixesOverlap,
} from '../../net/prefix.js';

// 65,536 leases of some 60 bytes.
const MAX_FILE_BYTES = 16 << 20;

/** A file that was changed less than so long ago may change again within the tick of its file system's clock. */
const FRESH_MS = 10_000;

export interface StaticTable {
  /** What the file was known by; undefined while it was fresh. */
  readonly version: string | undefined;
  readonly digest: string;
  readonly config: NetworkConfig;
  readonly leases: readonly Lease[];
}

export interface ReadOptions {
  /** Of leases that name no type. @default the config's */
  readonly typeInForce?: string;
  /** What was read before. A file that is as it was then is not read again, and one that says the same not parsed. */
  readonly known?: StaticTable;
  /** Wall clock. @default now */
  readonly nowMs?: number;
}

/**
 * The file at `path`. Rejects with OverlayError E_FILE when it cannot be read, E_CONFIG naming the place that is wrong.
 */
export async function readTable(path: string, options: ReadOptions = {}): Promise<StaticTable> {
  const { typeInForce, known, nowMs = Date.now() } = options;
  const read = await readVersion(path, known, nowMs);
  if ('table' in read) return read.table;
  const { version, text } = read;
  if (text.length > MAX_FILE_BYTES) {
    throw new OverlayError('E_FILE', `${path}: ${text.length} bytes: expected at most ${MAX_FILE_BYTES}`);
  }
  const digest = createHash('sha256').update(text).digest('base64');
  if (known?.digest === digest) return { ...known, version };
  let value: unknown;
  try {
    value = parseJson(text, { maxBytes: MAX_FILE_BYTES });
  } catch (error) {
    throw new OverlayError('E_CONFIG', `${path}: ${(error as Error).message}`, { cause: error });
  }
  const config = networkConfigFromValue(field(value, 'config'), `${path}: config`);
  const defaultType = typeInForce ?? config.backendType;
  return { version, digest, config, leases: readLeases(field(value, 'leases'), config, defaultType, path) };
}

/** The text of the file, or `known` when the file is as it was then. */
async function readVersion(
  path: string,
  known: StaticTable | undefined,
  nowMs: number,
): Promise<
  { readonly version: string | undefined; readonly text: string } | { readonly table: StaticTable }
> {
  let file: FileHandle | undefined;
  try {
    // Opened first: that asks a file server how the file is, where stat(2) may give what it said a minute ago.
    file = await open(path);
    const version = await versionOf(file, nowMs);
    if (known !== undefined && version !== undefined && known.version === version) return { table: known };
    return { version, text: await file.readFile('utf8') };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new OverlayError('E_FILE', `Cannot read static file ${path}: ${code}`, { cause: error });
  } finally {
    await file?.close();
  }
}

async function versionOf(file: FileHandle, nowMs: number): Promise<string | undefined> {
  const { dev, ino, size, mtimeNs, ctimeNs, ctimeMs } = await file.stat({ bigint: true });
  return nowMs - Number(ctimeMs) < FRESH_MS ? undefined : [dev, ino, size, mtimeNs, ctimeNs].join(' ');
}

function readLeases(value: unknown, config: NetworkConfig, defaultType: string, path: string): Lease[] {
  if (!Array.isArray(value)) {
    throw new OverlayError(
      'E_CONFIG',
      `${path}: leases is ${JSON.stringify(value) ?? 'missing'}: expected an array`,
    );
  }
  const networks = prefixesOf(config);
  const families = familiesOf(networks);
  const leases = value.map((item: unknown, index) =>
    readLease(item, `${path}: leases[${index}]`, families, defaultType),
  );
  for (const [index, { subnets }] of leases.entries())
    for (const family of families)
      checkInside(subnets[family], networks[family]!, family, () => `${path}: leases[${index}]`);
  for (const family of families) {
    const overlap = findOverlap(leases, family);
    if (overlap === undefined) continue;
    const [a, b] = overlap.map(formatPrefix);
    throw new OverlayError('E_CONFIG', `${path}: leases: subnets ${a} and ${b} overlap`);
  }
  return leases;
}

/** How a lease says what it has of a family. */
const FIELDS = {
  v4: {
    subnet: 'subnet',
    publicIp: 'publicIP',
    data: 'backendData',
    network: 'Network',
    example: '10.5.1.0/24',
    address: 'an IPv4 address',
  },
  v6: {
    subnet: 'ipv6Subnet',
    publicIp: 'publicIPv6',
    data: 'backendV6Data',
    network: 'IPv6Network',
    example: 'fd00:5:0:1::/64',
    address: 'an IPv6 address',
  },
} as const;

function readLease(
  value: unknown,
  where: string,
  families: readonly FamilyName[],
  defaultType: string,
): Lease {
  const fail = (text: string): OverlayError => new OverlayError('E_CONFIG', `${where}${text}`);
  const text = (name: string): string => {
    const found = field(value, name);
    if (typeof found === 'string') return found;
    throw fail(`.${name} is ${JSON.stringify(found) ?? 'missing'}: expected a string`);
  };
  /** What the lease says in these fields; of one family at least. */
  const read = <V4, V6>(
    key: 'subnet' | 'publicIp',
    v4: (text: string) => V4 | undefined,
    v6: (text: string) => V6 | undefined,
    expected: (family: FamilyName) => string,
  ): Dual<V4, V6> => {
    const isThere = (family: FamilyName): boolean => field(value, FIELDS[family][key]) !== undefined;
    if (families.length > 1 && !families.some(isThere))
      throw fail(`: ${FIELDS.v4[key]} and ${FIELDS.v6[key]} are missing: expected one of them`);
    const half = <T>(family: FamilyName, parse: (text: string) => T | undefined): T | undefined => {
      if (!families.includes(family) || (families.length > 1 && !isThere(family))) return undefined;
      const name = FIELDS[family][key];
      const found = parse(text(name));
      if (found !== undefined) return found;
      throw fail(`.${name} is ${JSON.stringify(text(name))}: expected ${expected(family)}`);
    };
    return dualOf(half('v4', v4), half('v6', v6));
  };
  const subnets: DualPrefix = read(
    'subnet',
    (subnet) => parsePrefix(subnet, 4),
    (subnet) => parsePrefix(subnet, 6),
    (family) => `a network such as ${FIELDS[family].example}`,
  );
  const publicIp: DualAddress = read('publicIp', parseIpv4, parseIpv6, (family) => FIELDS[family].address);
  // A lease of the udp type carries no type at all.
  const unnamed = defaultType === 'udp' ? '' : defaultType;
  const backendType = field(value, 'backendType') === undefined ? unnamed : text('backendType');
  const data = (family: FamilyName): unknown =>
    families.includes(family) ? field(value, FIELDS[family].data) : undefined;
  const host = { publicIp, backend: leaseBackend(backendType, data('v4'), data('v6')) };
  return { id: formatPrefix(firstOf(subnets)), subnets, host, seniority: undefined };
}

/** Whether a lease is that of a host, and names no other address of it than this one. */
export function namesHost({ host }: Lease, publicIp: DualAddress): boolean {
  const isSame = (family: FamilyName): boolean =>
    host.publicIp[family] === undefined || host.publicIp[family] === publicIp[family];
  return isOneHost(host.publicIp, publicIp) && familiesOf(publicIp).every(isSame);
}

/** Fields that `subnets` are to be written in for `families`, and are not. */
export function lackingFields(subnets: DualPrefix, families: readonly FamilyName[]): string[] {
  return families.filter((family) => subnets[family] === undefined).map((family) => FIELDS[family].subnet);
}

function checkInside(
  subnet: Prefix<Address> | undefined,
  network: Prefix<Address>,
  family: FamilyName,
  where: () => string,
): void {
  if (subnet === undefined) return;
  if (prefixCovers(network, subnet) && subnet.length > network.length) return;
  const { subnet: name, network: key } = FIELDS[family];
  const shown = `${where()}.${name} ${formatPrefix(subnet)}`;
  throw new OverlayError('E_CONFIG', `${shown} is not inside the ${key} ${formatPrefix(network)}`);
}

/** Two subnets of a family that share addresses. Sorted by address, an overlap shows between neighbours. */
function findOverlap(
  leases: readonly Lease[],
  family: FamilyName,
): [Prefix<Address>, Prefix<Address>] | undefined {
  const sorted = leases
    .map(({ subnets }): Prefix<Address> | undefined => subnets[family])
    .filter((subnet) => subnet !== undefined)
    .sort((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : a.length - b.length));
  for (let i = 1; i < sorted.length; i++)
    if (prefixesOverlap(sorted[i - 1], sorted[i])) return [sorted[i - 1], sorted[i]];
  return undefined;
}
