// Permanent neighbour entries: which MAC answers for an address on a device, so that the kernel never has to ask.

import { ipJson, meansGone } from './ip.js';
import { checkInterfaceName } from './interface-name.js';
import { OverlayError } from '../core/errors.js';
import { type Address, formatAddress, parseAnyAddress } from '../net/prefix.js';

export interface Neighbour {
  readonly address: Address;
  /** Lower case; "" when the kernel has none. */
  readonly mac: string;
  readonly isPermanent: boolean;
}

interface RawNeighbour {
  readonly dst?: string;
  readonly lladdr?: string;
  readonly state?: readonly string[];
}

/** Neighbours on `device`, permanent or not; none when the device does not exist. */
export async function listNeighbours(device: string, signal?: AbortSignal): Promise<Neighbour[]> {
  try {
    const rows = await ipJson<RawNeighbour>(
      ['neigh', 'show', 'dev', checkInterfaceName(device), 'nud', 'all'],
      signal,
    );
    return rows.map(toNeighbour).filter((neighbour) => neighbour !== undefined);
  } catch (error) {
    if (error instanceof OverlayError && meansGone(error.message)) return [];
    throw error;
  }
}

/** Batch line for `ip`: sets the MAC for `address` on `device`, for ever. */
export function replaceNeighbourLine(device: string, address: Address, mac: string): string {
  return `neigh replace ${formatAddress(address)} lladdr ${mac} dev ${checkInterfaceName(device)} nud permanent`;
}

/** Batch line for `ip`: forgets `address` on `device`. */
export function deleteNeighbourLine(device: string, address: Address): string {
  return `neigh del ${formatAddress(address)} dev ${checkInterfaceName(device)}`;
}

function toNeighbour(row: RawNeighbour): Neighbour | undefined {
  const address = parseAnyAddress(row.dst ?? '');
  if (address === undefined) return undefined;
  return { address, mac: row.lladdr ?? '', isPermanent: row.state?.includes('PERMANENT') ?? false };
}
