// The file of a static store, read and checked.
//
//   { "config": <network config>, "leases": [{ "subnet": "10.5.1.0/24", "publicIP": "172.20.0.1" }, …] }

import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { field, parseJson } from '../../config/go-json.js';
import { type NetworkConfig, networkConfigFromValue, requireIpv4Alone } from '../../config/network-config.js';
import { OverlayError } from '../../core/errors.js';
import { type Lease, leaseBackend } from '../../lease/lease.js';
import { parseIpv4 } from '../../net/ipv4.js';
import { formatPrefix, parsePrefix, prefixCovers, prefixesOverlap } from '../../net/prefix.js';

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
  const given = networkConfigFromValue(field(value, 'config'), `${path}: config`);
  const config = requireIpv4Alone(given, 'the static store');
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
  const leases = value.map((item: unknown, index) =>
    readLease(item, `${path}: leases[${index}]`, defaultType),
  );
  for (const [index, { subnets }] of leases.entries()) {
    const subnet = subnets.v4!;
    const { network } = config.networks.v4!;
    const where = `${path}: leases[${index}].subnet ${formatPrefix(subnet)}`;
    if (!prefixCovers(network, subnet) || subnet.length <= network.length) {
      throw new OverlayError('E_CONFIG', `${where} is not inside the Network ${formatPrefix(network)}`);
    }
  }
  const overlap = findOverlap(leases);
  if (overlap !== undefined) {
    const [a, b] = overlap.map((lease) => formatPrefix(lease.subnets.v4!));
    throw new OverlayError('E_CONFIG', `${path}: leases: subnets ${a} and ${b} overlap`);
  }
  return leases;
}

function readLease(value: unknown, where: string, defaultType: string): Lease {
  const text = (name: string): string => {
    const found = field(value, name);
    if (typeof found === 'string') return found;
    throw new OverlayError(
      'E_CONFIG',
      `${where}.${name} is ${JSON.stringify(found) ?? 'missing'}: expected a string`,
    );
  };
  const subnet = parsePrefix(text('subnet'));
  if (subnet === undefined) {
    throw new OverlayError(
      'E_CONFIG',
      `${where}.subnet is "${text('subnet')}": expected a network such as 10.5.1.0/24`,
    );
  }
  const publicIp = parseIpv4(text('publicIP'));
  if (publicIp === undefined) {
    throw new OverlayError(
      'E_CONFIG',
      `${where}.publicIP is "${text('publicIP')}": expected an IPv4 address`,
    );
  }
  // A lease of the udp type carries no type at all.
  const unnamed = defaultType === 'udp' ? '' : defaultType;
  const backendType = field(value, 'backendType') === undefined ? unnamed : text('backendType');
  const backendData = field(value, 'backendData');
  const host = { publicIp: { v4: publicIp }, backend: leaseBackend(backendType, backendData) };
  return { id: formatPrefix(subnet), subnets: { v4: subnet }, host, seniority: undefined };
}

/** Two leases that share addresses. Sorted by address, an overlap shows between neighbours. */
function findOverlap(leases: readonly Lease[]): [Lease, Lease] | undefined {
  const sorted = [...leases].sort(
    ({ subnets: { v4: a } }, { subnets: { v4: b } }) => a!.address - b!.address || a!.length - b!.length,
  );
  for (let i = 1; i < sorted.length; i++) {
    if (prefixesOverlap(sorted[i - 1].subnets.v4!, sorted[i].subnets.v4!)) return [sorted[i - 1], sorted[i]];
  }
  return undefined;
}
