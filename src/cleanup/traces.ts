// Everything that twill keeps in the kernel on purpose when it ends: for the operator who wants it gone.

import { ChainKeeper, probeIptables } from '../firewall/iptables.js';
import { guardTable } from '../firewall/member-guard.js';
import { deleteTable, printTable } from '../firewall/nft.js';
import { TableKeeper } from '../firewall/nftables.js';
import { forwardChain, masqueradeChain, NFT_TABLES } from '../firewall/rules.js';
import { OverlayError } from '../core/errors.js';
import { ipBatch, meansGone, ROUTE_PROTOCOL } from '../kernel/ip.js';
import { findLanePins, removeLanePins } from '../kernel/lane-pins.js';
import { listLinks } from '../kernel/link.js';
import { deleteRouteLine, listRoutes, type Route } from '../kernel/route.js';
import { ipv4 } from '../net/ipv4.js';
import { ipv6 } from '../net/ipv6.js';
import {
  type Address,
  type Family,
  familyOf,
  formatPrefix,
  type Prefix,
  prefixCovers,
} from '../net/prefix.js';
import { isDeviceOf, isOurDevice } from '../kernel/ours.js';
import { removeDevice } from './leftovers.js';

/** One thing of ours in the kernel. */
export interface Trace {
  readonly kind: 'device' | 'route' | 'chain' | 'table' | 'lane';
  readonly name: string;
  /** Removes it; succeeds when it is gone already. Rejects with OverlayError. */
  readonly remove: () => Promise<void>;
}

/**
 * Lists what is there now, in the order in which it is best removed: rules, routes, lanes, devices. With `network`,
 * lists only what belongs to that one, because daemons of other networks may be running.
 */
export async function findTraces(network?: Prefix<Address>): Promise<Trace[]> {
  const families: readonly Family[] = network === undefined ? [4, 6] : [familyOf(network.address)];
  const inEach = async (find: (family: Family) => Promise<Trace[]>): Promise<Trace[]> =>
    (await Promise.all(families.map(find))).flat();
  return [
    ...(await inEach((family) => findChains(family, network))),
    ...(await (network === undefined ? inEach(findTables) : findTableRules(network))),
    ...(await inEach((family) => findRoutes(network ?? ANY[family]))),
    ...(await findLanes(network)),
    ...(await findDevices(network)),
  ];
}

// The rules of all networks are removed.
const ANY: Readonly<Record<Family, Prefix<Address>>> = {
  4: { address: ipv4(0), length: 0 },
  6: { address: ipv6(0n), length: 0 },
};

async function findChains(family: Family, only: Prefix<Address> | undefined): Promise<Trace[]> {
  const features = await probeIptables(family);
  if (features === undefined) return [];
  const network = only ?? ANY[family];
  const chains = [
    masqueradeChain({ network, subnet: network, isFullyRandom: false }),
    forwardChain({ network }),
  ].map((chain) => (only === undefined ? { ...chain, networks: undefined } : chain));
  const found: Trace[] = [];
  for (const chain of chains) {
    const keeper = new ChainKeeper(chain, false, features);
    if (!(await keeper.isPresent())) continue;
    const remove = async (): Promise<void> => void (await keeper.sync());
    const name = `${family === 4 ? '' : 'ip6 '}${chain.table}/${chain.name}${ofNetwork(only)}`;
    found.push({ kind: 'chain', name, remove });
  }
  return found;
}

async function findTables(family: Family): Promise<Trace[]> {
  const found: Trace[] = [];
  for (const table of [NFT_TABLES[family], guardTable(family)]) {
    const isThere = await withNft(async () => (await printTable(table)) !== undefined);
    const name = `${table.family} ${table.name}`;
    if (isThere) found.push({ kind: 'table', name, remove: () => deleteTable(table) });
  }
  return found;
}

/** The table of source checks has nothing that names a network: a check goes with the device of its VNI. */
async function findTableRules(network: Prefix<Address>): Promise<Trace[]> {
  const unwanted = { isFullyRandom: false, hasMasquerade: false, hasForward: false };
  const keeper = new TableKeeper({ network, subnet: network, ...unwanted });
  if (!(await withNft(() => keeper.isPresent()))) return [];
  const remove = async (): Promise<void> => void (await keeper.sync());
  const { family, name } = NFT_TABLES[familyOf(network.address)];
  return [{ kind: 'table', name: `${family} ${name}${ofNetwork(network)}`, remove }];
}

/** Without nft on this host no table was ever made. */
async function withNft(isThere: () => Promise<boolean>): Promise<boolean> {
  try {
    return await isThere();
  } catch (error) {
    if (error instanceof OverlayError && error.cause !== undefined) return false;
    throw error;
  }
}

function ofNetwork(network: Prefix<Address> | undefined): string {
  return network === undefined ? '' : ` (rules of ${formatPrefix(network)})`;
}

async function findRoutes(network: Prefix<Address>): Promise<Trace[]> {
  const family = familyOf(network.address);
  const routes = (await listRoutes({ protocol: ROUTE_PROTOCOL, family })).filter(({ prefix }) =>
    prefixCovers(network, prefix),
  );
  return routes.map((route) => ({
    kind: 'route',
    name: nameOf(route),
    remove: async () => {
      for (const { line, message } of await ipBatch([deleteRouteLine(route)])) {
        if (!meansGone(message)) throw new OverlayError('E_KERNEL', `"ip ${line}" failed: ${message}`);
      }
    },
  }));
}

function nameOf({ type, prefix, device }: Route): string {
  const words = [
    type === 'unicast' ? [] : [type],
    formatPrefix(prefix),
    device === undefined ? [] : ['dev', device],
  ];
  return words.flat().join(' ');
}

/** Before their devices: a lane whose device is gone drops what it takes. */
async function findLanes(network: Prefix<Address> | undefined): Promise<Trace[]> {
  const pins = findLanePins();
  if (pins.length === 0) return [];
  const links = await listLinks();
  return pins
    .filter(({ device }) => {
      const link = links.find(({ name }) => name === device);
      return network === undefined || (link !== undefined && isDeviceOf(link, [network]));
    })
    .map(({ device, folder }) => ({
      kind: 'lane',
      name: `of ${device}`,
      remove: () => removeLanePins(folder),
    }));
}

async function findDevices(network: Prefix<Address> | undefined): Promise<Trace[]> {
  const links = (await listLinks()).filter((link) =>
    network === undefined ? isOurDevice(link) : isDeviceOf(link, [network]),
  );
  return links.map((link) => ({ kind: 'device', name: link.name, remove: () => removeDevice(link) }));
}
