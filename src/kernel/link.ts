// Links and their addresses: what the kernel has, and changes to it.

import { readFile } from 'node:fs/promises';
import { ip, ipJson, meansGone } from './ip.js';
import { checkInterfaceName } from './interface-name.js';
import { OverlayError } from '../core/errors.js';
import { type Address, formatPrefix, parseAddress, type Prefix } from '../net/prefix.js';

/** One address of a link. */
export interface LinkAddress {
  readonly address: Address;
  readonly length: number;
  readonly scope: 'global' | 'link' | 'host' | 'other';
  /** Deprecated addresses (preferred lifetime 0) are not chosen as a source. */
  readonly isDeprecated: boolean;
  /** The address has no lifetime; one from DHCP or from a router's advertisements has. */
  readonly isPermanent: boolean;
  /** The kernel still asks whether another host has it: nothing can be sent from it yet (RFC 4862). */
  readonly isTentative: boolean;
  /** Another host has said that it has it: nothing can be sent from it, and the kernel does not ask again. */
  readonly isDuplicate: boolean;
  /** One of a series that is changed for privacy (RFC 8981). */
  readonly isTemporary: boolean;
  /**
   * The kernel has made up its host part (RFC 7217), as it does on devices without a hardware address. It takes this
   * flag (IFA_F_STABLE_PRIVACY, Linux 4.1) from no program, unlike the protocol of an address (IFA_PROTO, Linux 5.18).
   */
  readonly isStablePrivacy: boolean;
  /**
   * Another address of the link was in this network before: the kernel never chooses this one as a source by itself.
   */
  readonly isSecondary: boolean;
}

export interface Link {
  readonly index: number;
  readonly name: string;
  /** Hardware address in lower case; "" when the link has none (TUN). */
  readonly mac: string;
  readonly mtuBytes: number;
  readonly txQueueLength: number | undefined;
  readonly isUp: boolean;
  readonly isLoopback: boolean;
  /** Its frames begin with the 14 bytes of Ethernet; those of a tunnel or a modem do not. */
  readonly isEthernet: boolean;
  /** Alias text; "" when none is set. */
  readonly alias: string;
  /** Kind as in `ip link add type <kind>`: "vxlan", "tun", "veth"; "" for a physical device. */
  readonly kind: string;
  /** Kind-specific settings, as `ip -details -json link` names them. */
  readonly data: Readonly<Record<string, unknown>>;
  readonly addresses: readonly LinkAddress[];
}

interface RawLink {
  readonly ifindex: number;
  readonly ifname: string;
  readonly flags: readonly string[];
  readonly link_type?: string;
  readonly mtu: number;
  readonly txqlen?: number;
  readonly address?: string;
  readonly ifalias?: string;
  readonly linkinfo?: { readonly info_kind?: string; readonly info_data?: Record<string, unknown> };
  readonly addr_info?: readonly {
    readonly family?: string;
    readonly local?: string;
    readonly prefixlen?: number;
    readonly scope?: string;
    readonly valid_life_time?: number;
    readonly preferred_life_time?: number;
    readonly secondary?: boolean;
    readonly tentative?: boolean;
    readonly dadfailed?: boolean;
    readonly temporary?: boolean;
    readonly 'stable-privacy'?: boolean;
  }[];
}

/** All links with their addresses, in index order. */
export async function listLinks(signal?: AbortSignal): Promise<Link[]> {
  return (await ipJson<RawLink>(['-details', 'address', 'show'], signal)).filter(isFilled).map(toLink);
}

/** The link of this name with its addresses, or undefined when there is none. */
export async function findLink(name: string, signal?: AbortSignal): Promise<Link | undefined> {
  try {
    const rows = await ipJson<RawLink>(
      ['-details', 'address', 'show', 'dev', checkInterfaceName(name)],
      signal,
    );
    const row = rows.find(isFilled);
    return row === undefined ? undefined : toLink(row);
  } catch (error) {
    if (error instanceof OverlayError && meansGone(error.message)) return undefined;
    throw error;
  }
}

/**
 * The name that the link of this index has now, or undefined when there is none: a rename keeps the index. The name it
 * had is asked for first, which costs one lookup instead of a listing.
 */
export async function nameOfLink(
  link: { readonly index: number; readonly name: string },
  signal?: AbortSignal,
): Promise<string | undefined> {
  if ((await findLink(link.name, signal))?.index === link.index) return link.name;
  return (await listLinks(signal)).find(({ index }) => index === link.index)?.name;
}

/** Makes a link: `kindArguments` is what follows `ip link add <name>`, such as ["type", "vxlan", "id", "1"]. */
export async function createLink(
  name: string,
  kindArguments: readonly string[],
  signal?: AbortSignal,
): Promise<void> {
  await ip(['link', 'add', checkInterfaceName(name), ...kindArguments], signal);
}

/** Whether a link has a carrier: for a TUN device, whether some process has it open. */
export async function hasCarrier(name: string): Promise<boolean> {
  try {
    return (await readFile(`/sys/class/net/${checkInterfaceName(name)}/carrier`, 'utf8')).trim() === '1';
  } catch {
    return false; // there is none, or it is down: reading fails with EINVAL then
  }
}

/** Removes a link; a link that is already gone is success. */
export async function deleteLink(name: string, signal?: AbortSignal): Promise<void> {
  await ignoreGone(ip(['link', 'delete', 'dev', checkInterfaceName(name)], signal));
}

export interface LinkSettings {
  readonly isUp?: boolean;
  /** New name; before Linux 6.2 of a link that is down only. */
  readonly name?: string;
  readonly mtuBytes?: number;
  readonly mac?: string;
  readonly txQueueLength?: number;
  readonly alias?: string;
}

/** Sets the given settings of a link in one command. */
export async function setLink(name: string, settings: LinkSettings, signal?: AbortSignal): Promise<void> {
  const args = ['link', 'set', 'dev', checkInterfaceName(name)];
  if (settings.name !== undefined) args.push('name', checkInterfaceName(settings.name));
  if (settings.mac !== undefined) args.push('address', settings.mac);
  if (settings.mtuBytes !== undefined) args.push('mtu', String(settings.mtuBytes));
  if (settings.txQueueLength !== undefined) args.push('txqueuelen', String(settings.txQueueLength));
  if (settings.alias !== undefined) args.push('alias', settings.alias);
  if (settings.isUp !== undefined) args.push(settings.isUp ? 'up' : 'down');
  await ip(args, signal);
}

/**
 * Adds an address to a link; one that is already there is success. An IPv6 one can be sent from at once: no other host
 * is asked whether it has it too.
 */
export async function addAddress(
  name: string,
  address: Prefix<Address>,
  signal?: AbortSignal,
): Promise<void> {
  const words = typeof address.address === 'number' ? [] : ['nodad'];
  await ip(['address', 'replace', formatPrefix(address), 'dev', checkInterfaceName(name), ...words], signal);
}

/** Removes an address from a link; one that is not there is success. */
export async function deleteAddress(
  name: string,
  address: Prefix<Address>,
  signal?: AbortSignal,
): Promise<void> {
  await ignoreGone(ip(['address', 'delete', formatPrefix(address), 'dev', checkInterfaceName(name)], signal));
}

async function ignoreGone(command: Promise<unknown>): Promise<void> {
  try {
    await command;
  } catch (error) {
    if (!(error instanceof OverlayError && meansGone(error.message))) throw error;
  }
}

/** `ip -json address show` pads its list with empty objects for links that a filter left out. */
function isFilled(row: RawLink): boolean {
  return row.ifname !== undefined;
}

/** 2^32 − 1 seconds stands for "forever" in IFA_CACHEINFO. */
const FOREVER_SECONDS = 0xffffffff;

/** Scope numbers of rtnetlink(7), as `ip -N` prints them. */
const SCOPES: Readonly<Record<string, LinkAddress['scope']>> = {
  '0': 'global',
  global: 'global',
  '253': 'link',
  link: 'link',
  '254': 'host',
  host: 'host',
};

/** ARPHRD_ETHER of linux/if_arp.h, as `ip -N` prints it and as `ip` does. */
const ETHERNET: readonly string[] = ['[1]', 'ether'];

function toLink(row: RawLink): Link {
  const addresses: LinkAddress[] = [];
  for (const info of row.addr_info ?? []) {
    const bits = info.family === 'inet' ? 32 : 128;
    const address = parseAddress(info.local ?? '', bits === 32 ? 4 : 6);
    if (address === undefined) continue;
    addresses.push({
      address,
      length: info.prefixlen ?? bits,
      scope: SCOPES[info.scope ?? ''] ?? 'other',
      isDeprecated: info.preferred_life_time === 0,
      isPermanent: info.valid_life_time === FOREVER_SECONDS,
      isTentative: info.tentative === true && info.dadfailed !== true,
      isDuplicate: info.dadfailed === true,
      isTemporary: info.temporary === true,
      isStablePrivacy: info['stable-privacy'] === true,
      isSecondary: info.secondary === true,
    });
  }
  return {
    index: row.ifindex,
    name: row.ifname,
    mac: row.address ?? '',
    mtuBytes: row.mtu,
    txQueueLength: row.txqlen,
    isUp: row.flags.includes('UP'),
    isLoopback: row.flags.includes('LOOPBACK'),
    isEthernet: row.link_type !== undefined && ETHERNET.includes(row.link_type),
    alias: row.ifalias ?? '',
    kind: row.linkinfo?.info_kind ?? '',
    data: row.linkinfo?.info_data ?? {},
    addresses,
  };
}
