// The VXLAN end of a host, as its lease tells it. Pure.

import { field } from '../../config/go-json.js';
import { quote } from '../../config/reader.js';
import type { Address } from '../../net/prefix.js';

/** What a peer's lease says about its VXLAN end. */
export interface VtepData {
  /** undefined in leases of flanneld before v0.14. */
  readonly vni: number | undefined;
  /** Lower case, unicast. */
  readonly mac: string;
}

/**
 * The MAC a host gives its VXLAN device when it makes one: locally administered, unicast, the public IP in its last
 * four bytes. It is the same after a reboot, so that peers need not learn a new one, and it can be told from the public
 * IP where leases carry no data, as in a static file. An IPv6 address is folded into the four bytes (FNV-1a), under
 * another first byte, so that the MACs of the two families differ.
 */
export function deriveVtepMac(publicIp: Address, vni: number): string {
  const fold = (vni >>> 16) ^ (vni >>> 8) ^ vni;
  const [first, word] = typeof publicIp === 'number' ? [0x0a, publicIp] : [0x0e, foldAddress(publicIp)];
  const bytes = [first, fold, word >>> 24, word >>> 16, word >>> 8, word];
  return bytes.map((byte) => (byte & 255).toString(16).padStart(2, '0')).join(':');
}

/** FNV-1a of 32 bits over the 16 bytes; of 65,000 hosts with any addresses two may share a MAC, which is told. */
function foldAddress(address: bigint): number {
  let hash = 0x811c9dc5;
  for (let shift = 120n; shift >= 0n; shift -= 8n)
    hash = Math.imul(hash ^ Number((address >> shift) & 0xffn), 0x01000193);
  return hash >>> 0;
}

/**
 * Reads BackendData or BackendV6Data of a peer's lease, `{"VNI":1,"VtepMAC":"…"}`; a text when it is not usable, saying
 * why. Without any data, the peer's MAC is taken to be the one it would derive from `publicIp` and `vni`.
 */
export function parseVtepData(data: unknown, publicIp: Address, vni: number): VtepData | string {
  if (data === undefined || data === null) return { vni, mac: deriveVtepMac(publicIp, vni) };
  if (typeof data !== 'object')
    return `its ${typeof publicIp === 'number' ? 'BackendData' : 'BackendV6Data'} is no object`;
  const mac = field(data, 'VtepMAC');
  if (typeof mac !== 'string' || !/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(mac)) {
    return `its VtepMAC ${quote(mac)} is no MAC address`;
  }
  // The group bit marks multicast, and all zeros is the FDB's default entry: neither names one host.
  if ((parseInt(mac.slice(0, 2), 16) & 1) !== 0 || mac === '00:00:00:00:00:00') {
    return `its VtepMAC ${quote(mac)} is no unicast address`;
  }
  const published = field(data, 'VNI');
  if (published !== undefined && published !== null && !Number.isInteger(published)) {
    return `its VNI ${quote(published)} is no integer`;
  }
  return { vni: (published as number | null) ?? undefined, mac: mac.toLowerCase() };
}
