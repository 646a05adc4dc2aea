// Everything that twill keeps in the kernel on purpose when it ends: for the operator who wants it gone.

import { ChainKeeper, probeIptables } from '../firewall/iptables.js';
import { GUARD_TABLE } from '../firewall/member-guard.js';
import { deleteTable, printTable } from '../firewall/nft.js';
import { forwardChain, masqueradeChain, NFT_TABLE } from '../firewall/rules.js';
import { OverlayError } from '../errors.js';
import { ipBatch, meansGone, ROUTE_PROTOCOL } from '../kernel/ip.js';
import { deleteLink, listLinks } from '../kernel/link.js';
import { deleteRouteLine, listRoutes } from '../kernel/route.js';
import { formatPrefix, type Prefix } from '../net/ipv4.js';
import { isPersistentTun, parseMark } from './device-names.js';

/** One thing of ours in the kernel. */
export interface Trace {
  readonly kind: 'device' | 'route' | 'chain' | 'table';
  readonly name: string;
  /** Removes it; one that is gone is success. Rejects with OverlayError. */
  readonly remove: () => Promise<void>;
}

/** What is there now, in the order in which it is best removed: rules, routes, devices. */
export async function findTraces(): Promise<Trace[]> {
  return [
    ...(await findChains()),
    ...(await findTables()),
    ...(await findRoutes()),
    ...(await findDevices()),
  ];
}

// The rules of all networks go.
const ANY: Prefix = { address: 0, length: 0 };

async function findChains(): Promise<Trace[]> {
  const features = await probeIptables();
  if (features === undefined) return [];
  const chains = [
    masqueradeChain({ network: ANY, subnet: ANY, isFullyRandom: false }),
    forwardChain({ network: ANY }),
  ].map((chain) => ({ ...chain, networks: undefined }));
  const found: Trace[] = [];
  for (const chain of chains) {
    const keeper = new ChainKeeper(chain, false, features);
    if (!(await keeper.isPresent())) continue;
    const remove = async (): Promise<void> => void (await keeper.sync());
    found.push({ kind: 'chain', name: `${chain.table}/${chain.name}`, remove });
  }
  return found;
}

async function findTables(): Promise<Trace[]> {
  const found: Trace[] = [];
  for (const name of [NFT_TABLE, GUARD_TABLE]) {
    try {
      if ((await printTable('ip', name)) === undefined) continue;
    } catch (error) {
      // Without nft on this host no table was ever made.
      if (error instanceof OverlayError && error.cause !== undefined) return [];
      throw error;
    }
    found.push({ kind: 'table', name: `ip ${name}`, remove: () => deleteTable('ip', name) });
  }
  return found;
}

async function findRoutes(): Promise<Trace[]> {
  return (await listRoutes({ protocol: ROUTE_PROTOCOL })).map((route) => ({
    kind: 'route',
    name: `${route.type === 'unicast' ? '' : `${route.type} `}${formatPrefix(route.prefix)}${route.device ? ` dev ${route.device}` : ''}`,
    remove: async () => {
      for (const { line, message } of await ipBatch([deleteRouteLine(route)])) {
        if (!meansGone(message)) throw new OverlayError('E_KERNEL', `"ip ${line}" failed: ${message}`);
      }
    },
  }));
}

async function findDevices(): Promise<Trace[]> {
  const links = (await listLinks()).filter(
    (link) => isPersistentTun(link) || (link.kind === 'vxlan' && parseMark(link.alias) !== undefined),
  );
  return links.map(({ name }) => ({ kind: 'device', name, remove: () => deleteLink(name) }));
}
