// Forwarding database of a VXLAN device: to which host the frames for a MAC are sent.

import { bridgeJson, meansGone } from './ip.js';
import { checkInterfaceName } from './interface-name.js';
import { OverlayError } from '../core/errors.js';
import { type Address, formatAddress, parseAnyAddress } from '../net/prefix.js';

/** One remote of one MAC; a MAC may have several, and the kernel uses the first. */
export interface FdbEntry {
  /** Lower case. */
  readonly mac: string;
  readonly destination: Address;
  /** Set by someone, as opposed to learned from traffic. */
  readonly isPermanent: boolean;
}

interface RawFdbEntry {
  readonly mac?: string;
  readonly dst?: string;
  readonly state?: string;
}

/** Entries of `device` that name a host; none when the device does not exist. */
export async function listFdb(device: string, signal?: AbortSignal): Promise<FdbEntry[]> {
  try {
    const rows = await bridgeJson<RawFdbEntry>(['fdb', 'show', 'dev', checkInterfaceName(device)], signal);
    return rows.map(toFdbEntry).filter((entry) => entry !== undefined);
  } catch (error) {
    if (error instanceof OverlayError && meansGone(error.message)) return [];
    throw error;
  }
}

/** Batch line for `bridge`: frames for `mac` go to `destination`; replaces the entry in place. */
export function replaceFdbLine(device: string, mac: string, destination: Address): string {
  return `fdb replace ${mac} dev ${checkInterfaceName(device)} self permanent dst ${formatAddress(destination)}`;
}

/** Batch line for `bridge`: removes this remote of `mac`. */
export function deleteFdbLine(device: string, mac: string, destination: Address): string {
  return `fdb del ${mac} dev ${checkInterfaceName(device)} self dst ${formatAddress(destination)}`;
}

function toFdbEntry(row: RawFdbEntry): FdbEntry | undefined {
  const destination = parseAnyAddress(row.dst ?? '');
  if (row.mac === undefined || destination === undefined) return undefined;
  return { mac: row.mac, destination, isPermanent: row.state === 'permanent' };
}
