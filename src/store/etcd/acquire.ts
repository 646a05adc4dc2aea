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
// proof. A network that gets a second family costs a host its lease, but not the subnet that it has: each family is
// chosen by itself.

import { OverlayError } from '../../core/errors.js';
import { blockedRanges, formatLeaseValue, parseLeaseKey, parseLeaseValue } from '../../lease/lease-codec.js';
import { isOneHost, sameSubnets } from '../../lease/lease.js';
import { countSlots, fitsConfig, fitsNetwork, pickFreeSubnet } from '../../lease/subnet-picker.js';
import { type FamilyName, mapDual } from '../../net/dual.js';
import type { Ipv6 } from '../../net/ipv6.js';
import {
  type Address,
  type DualAddress,
  type DualPrefix,
  formatAddress,
  formatAddresses,
  formatPrefix,
  formatPrefixes,
  type Prefix,
  prefixesOverlap,
} from '../../net/prefix.js';
import type { Logger } from '../../core/log.js';
import { type FamilyNetwork, type NetworkConfig, prefixesOf } from '../../config/network-config.js';
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
  readonly subnets: DualPrefix;
  readonly own: OwnKey;
}

/** One lease of the list, decoded as far as it can be. */
interface Row {
  readonly entry: Pick<KvEntry, 'key' | 'createRevision' | 'modRevision' | 'leaseId'>;
  readonly subnets: DualPrefix | undefined;
  readonly publicIp: DualAddress | undefined;
  readonly blocked: DualPrefix;
}

/** An own lease that was found, and by what. Writing over it publishes what is new. */
interface Found {
  readonly subnets: DualPrefix;
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
  const { entries: rows } = await kv.list(layout.leaseRange, signal, (entry) => rowOf(layout, entry));
  const reuse = await findOwn(context, request, rows, signal);
  if (reuse === 'lost-race') return undefined;
  if (reuse !== undefined) {
    const own = await write(context, request, reuse.subnets, reuse.entry, signal);
    if (own !== undefined)
      log.info({ subnet: formatPrefixes(reuse.subnets) }, `found own lease by ${reuse.by}: using it again`);
    return own;
  }
  const ours = ownRows(context, request, rows).map(({ row }) => row);
  const taken = rows
    .filter((row) => !ours.includes(row))
    .flatMap(({ blocked }) => [blocked.v4, blocked.v6])
    .filter((range) => range !== undefined);
  return write(context, request, chooseSubnets(context, request, taken), undefined, signal);
}

/** The previous subnet where it is still to be had, and a random free one else: of each family by itself. */
function chooseSubnets(
  context: AcquireContext,
  request: AcquireRequest,
  taken: readonly Prefix<Address>[],
): DualPrefix {
  const { networks } = request.config;
  const previous: Partial<Record<FamilyName, Prefix<Address>>> = request.previousSubnets ?? {};
  const chosen = mapDual<FamilyNetwork, FamilyNetwork<Ipv6>, Prefix<Address>>(networks, (network, family) => {
    const subnet =
      previousIfFree(context, network, previous[family], taken) ??
      pickFreeSubnet<Address>(network, taken, context.random);
    if (subnet !== undefined) return subnet;
    throw new OverlayError(
      'E_LEASE',
      `Cannot acquire a subnet in ${formatPrefix(network.network)}: out of subnets ` +
        `(${countSlots(network)} of /${network.subnetLength} from ${formatAddress(network.subnetMin)} ` +
        `to ${formatAddress(network.subnetMax)}, ${taken.length} leases in use)`,
    );
  });
  return chosen as DualPrefix;
}

async function findOwn(
  context: AcquireContext,
  request: AcquireRequest,
  rows: readonly Row[],
  signal: AbortSignal,
): Promise<Found | 'lost-race' | undefined> {
  for (const { row, subnets, by } of ownRows(context, request, rows)) {
    if (fitsConfig(request.config, subnets)) return { subnets, entry: row.entry, by };
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
): { readonly row: Row; readonly subnets: DualPrefix; readonly by: string }[] {
  const { publicIp } = host;
  // The list is in byte order of the keys, so "the first" is the same for everybody.
  const own = rows.flatMap((row) =>
    row.subnets !== undefined && row.publicIp !== undefined && isOneHost(row.publicIp, publicIp)
      ? [{ row, subnets: row.subnets, by: 'public IP' }]
      : [],
  );
  // Somebody may have attached a key of another host to our etcd lease.
  const isPrevious = ({ subnets }: { readonly subnets: DualPrefix }): boolean =>
    previousSubnets !== undefined && sameSubnets(subnets, previousSubnets);
  // The saved table may be large, and a plain restart needs no proof.
  const first = own.at(0);
  if (first !== undefined && isPrevious(first)) return own;
  const savedId = context.savedLeaseId();
  const held = rows.flatMap((row) =>
    row.entry.leaseId === savedId && row.subnets !== undefined ? [{ row, subnets: row.subnets }] : [],
  );
  const ours = held.find(isPrevious) ?? held.at(0);
  if (savedId === 0n || ours === undefined) return own;
  const was = ours.row.publicIp;
  const before = was === undefined ? 'unknown' : formatAddresses(was);
  const by =
    was !== undefined && isOneHost(was, publicIp)
      ? 'public IP'
      : `its etcd lease (public IP ${before}, now ${formatAddresses(publicIp)})`;
  return [{ ...ours, by }, ...own.filter(({ row }) => row !== ours.row)];
}

function previousIfFree(
  { log }: AcquireContext,
  network: FamilyNetwork<Address>,
  previous: Prefix<Address> | undefined,
  taken: readonly Prefix<Address>[],
): Prefix<Address> | undefined {
  if (previous === undefined) return undefined;
  const subnet = formatPrefix(previous);
  if (!fitsNetwork(network, previous)) {
    log.warn({ subnet }, 'previous subnet does not fit the network config: not asked for again');
    return undefined;
  }
  const holder = taken.find((range) => prefixesOverlap(range, previous));
  if (holder !== undefined) {
    log.warn({ subnet, holder: formatPrefix(holder) }, 'previous subnet is in use by another host');
    return undefined;
  }
  return previous;
}

async function write(
  context: AcquireContext,
  request: AcquireRequest,
  subnets: DualPrefix,
  over: Row['entry'] | undefined,
  signal: AbortSignal,
): Promise<Acquired | undefined> {
  const own = await writeOwnKey(
    context,
    {
      // flannel may have written an own key of IPv6 in a longer form.
      key: over?.key ?? leaseKey(context.layout, subnets),
      value: formatLeaseValue(request.host),
      over,
      newLeaseId: over?.leaseId === 0n ? 0n : newLeaseId(),
    },
    signal,
  );
  return own === undefined ? undefined : { subnets, own };
}

/** What of a key matters here; nothing where it keeps nobody from using any range. */
function rowOf(
  layout: KeyLayout,
  { key, value, createRevision, modRevision, leaseId }: KvEntry,
): Row | undefined {
  const name = leaseKeyName(layout, key);
  const blocked = name === undefined ? undefined : blockedRanges(name);
  if (name === undefined || blocked === undefined) return undefined;
  const host = value === undefined ? undefined : parseLeaseValue(value);
  return {
    entry: { key, createRevision, modRevision, leaseId },
    subnets: parseLeaseKey(name).ok ? blocked : undefined,
    publicIp: host?.ok === true ? host.value.publicIp : undefined,
    blocked,
  };
}
