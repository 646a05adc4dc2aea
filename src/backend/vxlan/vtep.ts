// The VXLAN end of a host, as its lease tells it. Pure.

import { field } from '../../config/go-json.js';
import { quote } from '../../config/reader.js';
import type { Ipv4 } from '../../net/ipv4.js';

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
 * IP where leases carry no data, as in a static file.
 */
export function deriveVtepMac(publicIp: Ipv4, vni: number): string {
  const fold = (vni >>> 16) ^ (vni >>> 8) ^ vni;
  const bytes = [0x0a, fold, publicIp >>> 24, publicIp >>> 16, publicIp >>> 8, publicIp];
  return bytes.map((byte) => (byte & 255).toString(16).padStart(2, '0')).join(':');
}

/**
 * Reads BackendData of a peer's lease, `{"VNI":1,"VtepMAC":"…"}`; a text when it is not usable, saying why. Without any
 * data, the peer's MAC is taken to be the one it would derive from `publicIp` and `vni`.
 */
export function parseVtepData(data: unknown, publicIp: Ipv4, vni: number): VtepData | string {
  if (data === undefined || data === null) return { vni, mac: deriveVtepMac(publicIp, vni) };
  if (typeof data !== 'object') return 'its BackendData is no object';
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
