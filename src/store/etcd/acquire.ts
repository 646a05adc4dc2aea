// Getting the own lease: by the etcd lease id that this host saved, by public IP, else the previous subnet, else a
// random free one. One pass of flannel's algorithm, repeated on a lost race.
//
//   list ─► own, fits the config ─► write over it (if unchanged since)            ─► done
//        ├► own, does not fit    ─► delete it (if unchanged; never a reservation)
//        ├► previous subnet free ─► create ─► done, or lost the race: list again
//        └► a random free subnet ─► create ─► done, or lost the race: list again
//
// What differs from flannel, each because the original loses subnets or addresses: every write is conditional; a lost
// race is retried; a key without etcd lease is a reservation and stays one; the previous subnet is not taken when any
// range in use overlaps it; a write without answer is read back; the etcd lease granted for a write that did not happen
// is revoked, and so is the one the key was moved off; a key attached to the etcd lease that this host was granted last
// is its own under whatever public IP, so a host whose address changed keeps its subnet. A reservation has no such
// proof.

import { OverlayError } from '../../core/errors.js';
import { blockedRanges, formatLeaseValue, parseLeaseKey, parseLeaseValue } from '../../lease/lease-codec.js';
import { countSlots, fitsConfig, pickFreeSubnet } from '../../lease/subnet-picker.js';
import { formatIpv4, type Ipv4 } from '../../net/ipv4.js';
import {
  formatPrefix,
  formatPrefixes,
  type Prefix,
  prefixEquals,
  prefixesOverlap,
} from '../../net/prefix.js';
import type { Logger } from '../../core/log.js';
import { type NetworkConfig, prefixesOf } from '../../config/network-config.js';
import type { Publication } from '../store.js';
import { newLeaseId } from './etcd-kv.js';
import type { KvEntry, LeaseKv } from './etcd-kv.js';
import { leaseKey, leaseKeyName, showKey } from './keys.js';
import type { KeyLayout } from './keys.js';
import { writeOwnKey } from './own-key.js';
import type { OwnKey } from './own-key.js';
import { sleep } from '../../core/waiting.js';
import type { Clock } from '../../core/waiting.js';

/** Lost races after which we give up, as flannel intends. */
const MAX_RACES = 10;
const RACE_JITTER_MS = 50;

export interface AcquireRequest extends Publication {
  readonly config: NetworkConfig;
}

export interface AcquireContext {
  readonly kv: LeaseKv;
  readonly layout: KeyLayout;
  readonly log: Logger;
  readonly clock: Clock;
  readonly random: () => number;
  readonly leaseTtlSeconds: number;
  /** The etcd lease id that this host saved with its own lease; 0n: none. Asked for only when it can matter. */
  savedLeaseId(): bigint;
}

export interface Acquired {
  readonly subnet: Prefix;
  readonly own: OwnKey;
}

/** One lease of the list, decoded as far as it can be. */
interface Row {
  readonly entry: Pick<KvEntry, 'key' | 'createRevision' | 'modRevision' | 'leaseId'>;
  readonly subnet: Prefix | undefined;
  readonly publicIp: Ipv4 | undefined;
  readonly blocked: Prefix;
}

/** An own lease that was found, and by what. Writing over it publishes what is new. */
interface Found {
  readonly subnet: Prefix;
  readonly entry: Row['entry'];
  readonly by: string;
}

/**
 * The own lease. Rejects with OverlayError E_LEASE when the network is full or ten races were lost, with EtcdFault when
 * a call fails (repeat then), with the signal's reason on abort.
 */
export async function acquireLease(
  context: AcquireContext,
  request: AcquireRequest,
  signal: AbortSignal,
): Promise<Acquired> {
  for (let race = 0; race <= MAX_RACES; race++) {
    if (race > 0) await sleep(context.clock, RACE_JITTER_MS * race * context.random(), signal);
    const acquired = await tryOnce(context, request, signal);
    if (acquired !== undefined) return acquired;
    context.log.info({ race: race + 1 }, 'another host was faster: listing the leases again');
  }
  throw new OverlayError(
    'E_LEASE',
    `Cannot acquire a subnet in ${formatPrefixes(prefixesOf(request.config))}: ` +
      `lost ${MAX_RACES + 1} races against other hosts`,
  );
}

async function tryOnce(
  context: AcquireContext,
  request: AcquireRequest,
  signal: AbortSignal,
): Promise<Acquired | undefined> {
  const { kv, layout, log } = context;
  const network = request.config.networks.v4!;
  const { entries: rows } = await kv.list(layout.leaseRange, signal, (entry) => rowOf(layout, entry));
  const reuse = await findOwn(context, request, rows, signal);
  if (reuse === 'lost-race') return undefined;
  if (reuse !== undefined) {
    const own = await write(context, request, reuse.subnet, reuse.entry, signal);
    if (own !== undefined)
      log.info({ subnet: formatPrefix(reuse.subnet) }, `found own lease by ${reuse.by}: using it again`);
    return own;
  }
  const ours = ownRows(context, request, rows).map(({ row }) => row);
  const taken = rows.filter((row) => !ours.includes(row)).map((row) => row.blocked);
  const subnet = previousIfFree(context, request, taken) ?? pickFreeSubnet(network, taken, context.random);
  if (subnet === undefined) {
    throw new OverlayError(
      'E_LEASE',
      `Cannot acquire a subnet in ${formatPrefix(network.network)}: out of subnets ` +
        `(${countSlots(network)} of /${network.subnetLength} from ${formatIpv4(network.subnetMin)} ` +
        `to ${formatIpv4(network.subnetMax)}, ${taken.length} leases in use)`,
    );
  }
  return write(context, request, subnet, undefined, signal);
}

async function findOwn(
  context: AcquireContext,
  request: AcquireRequest,
  rows: readonly Row[],
  signal: AbortSignal,
): Promise<Found | 'lost-race' | undefined> {
  for (const { row, subnet, by } of ownRows(context, request, rows)) {
    if (fitsConfig(request.config.networks.v4!, subnet)) return { subnet, entry: row.entry, by };
    const key = showKey(row.entry.key);
    if (row.entry.leaseId === 0n) {
      context.log.warn(
        { key },
        'reservation for this host does not fit the network config: not used, not deleted',
      );
      continue;
    }
    context.log.warn({ key }, 'own lease does not fit the network config any more: deleting it');
    if (!(await context.kv.remove(row.entry.key, row.entry.modRevision, signal)).isDone) return 'lost-race';
  }
  return undefined;
}

/** Our rows, the one to use first: the lease that this host held last, then those with its public IP. */
function ownRows(
  context: AcquireContext,
  { host, previousSubnets }: AcquireRequest,
  rows: readonly Row[],
): { readonly row: Row; readonly subnet: Prefix; readonly by: string }[] {
  const publicIp = host.publicIp.v4!;
  const previousSubnet = previousSubnets?.v4;
  // The list is in byte order of the keys, so "the first" is the same for everybody.
  const own = rows.flatMap((row) =>
    row.subnet !== undefined && row.publicIp === publicIp
      ? [{ row, subnet: row.subnet, by: 'public IP' }]
      : [],
  );
  // The saved table may be large, and a plain restart needs no proof.
  const first = own.at(0)?.subnet;
  if (first !== undefined && previousSubnet !== undefined && prefixEquals(first, previousSubnet)) return own;
  const savedId = context.savedLeaseId();
  const held = rows.flatMap((row) =>
    row.entry.leaseId === savedId && row.subnet !== undefined ? [{ row, subnet: row.subnet }] : [],
  );
  // Somebody may have attached a key of another host to our etcd lease.
  const isPrevious = ({ subnet }: { readonly subnet: Prefix }): boolean =>
    previousSubnet !== undefined && prefixEquals(subnet, previousSubnet);
  const ours = held.find(isPrevious) ?? held.at(0);
  if (savedId === 0n || ours === undefined) return own;
  const was = ours.row.publicIp;
  const by =
    was === publicIp
      ? 'public IP'
      : `its etcd lease (public IP ${was === undefined ? 'unknown' : formatIpv4(was)}, now ${formatIpv4(publicIp)})`;
  return [{ ...ours, by }, ...own.filter(({ row }) => row !== ours.row)];
}

function previousIfFree(
  context: AcquireContext,
  request: AcquireRequest,
  taken: readonly Prefix[],
): Prefix | undefined {
  const previous = request.previousSubnets?.v4;
  if (previous === undefined) return undefined;
  const subnet = formatPrefix(previous);
  if (!fitsConfig(request.config.networks.v4!, previous)) {
    context.log.warn({ subnet }, 'previous subnet does not fit the network config: not asked for again');
    return undefined;
  }
  const holder = taken.find((range) => prefixesOverlap(range, previous));
  if (holder !== undefined) {
    context.log.warn({ subnet, holder: formatPrefix(holder) }, 'previous subnet is in use by another host');
    return undefined;
  }
  return previous;
}

async function write(
  context: AcquireContext,
  request: AcquireRequest,
  subnet: Prefix,
  over: Row['entry'] | undefined,
  signal: AbortSignal,
): Promise<Acquired | undefined> {
  const own = await writeOwnKey(
    context,
    {
      key: leaseKey(context.layout, { v4: subnet }),
      value: formatLeaseValue(request.host),
      over,
      newLeaseId: over?.leaseId === 0n ? 0n : newLeaseId(),
    },
    signal,
  );
  return own === undefined ? undefined : { subnet, own };
}

/** What of a key matters here; nothing where it keeps nobody from using any range. */
function rowOf(
  layout: KeyLayout,
  { key, value, createRevision, modRevision, leaseId }: KvEntry,
): Row | undefined {
  const name = leaseKeyName(layout, key);
  const blocked = name === undefined ? undefined : blockedRanges(name)?.v4;
  if (name === undefined || blocked === undefined) return undefined;
  const host = value === undefined ? undefined : parseLeaseValue(value);
  return {
    entry: { key, createRevision, modRevision, leaseId },
    subnet: parseLeaseKey(name).ok ? blocked : undefined,
    publicIp: host?.ok === true ? host.value.publicIp.v4 : undefined,
    blocked,
  };
}
