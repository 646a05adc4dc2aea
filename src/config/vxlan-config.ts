// The Backend objects of the vxlan and host-gw types. Pure.
//
// Keys match as Go's JSON decoder matches them: an exact spelling wins, any other case is taken too, null means absent,
// and keys nobody knows are no error (they are listed, so that a typing error can be shown to the operator).

import { OverlayError } from '../errors.js';
import { VXLAN_OVERHEAD_BYTES } from '../net/mtu.js';
import type { Ipv4 } from '../net/ipv4.js';
import { field } from './json.js';

export interface VxlanConfig {
  /** VXLAN network identifier, 24 bits. */
  readonly vni: number;
  /** UDP port on all hosts. */
  readonly port: number;
  /** Group based policy extension on the device. */
  readonly hasGbp: boolean;
  /** Whether the device learns MACs from traffic. */
  readonly hasLearning: boolean;
  /** Peers on the same link get a plain route instead of the tunnel. */
  readonly hasDirectRouting: boolean;
  /** MTU of the outer packets; undefined means that of the external interface. */
  readonly outerMtuBytes: number | undefined;
  /** Keys of the Backend object that mean nothing here, as they were spelled. */
  readonly unknownKeys: readonly string[];
}

/** The VNI has 24 bits (RFC 7348 section 4.1). */
const MAX_VNI = 2 ** 24 - 1;

/** Linux's default since before IANA assigned 4789; flanneld lets the kernel choose, which is this. */
const DEFAULT_PORT = 8472;

/** 626 = 576 bytes that every IPv4 host must accept (RFC 791 section 3.1) + the overhead. */
const MIN_OUTER_MTU_BYTES = 576 + VXLAN_OVERHEAD_BYTES;
/** Largest IPv4 packet. */
const MAX_OUTER_MTU_BYTES = 65_535;

type RawBackend = Readonly<Record<string, unknown>>;

/**
 * Settings of the vxlan backend with flanneld's defaults.
 * Throws OverlayError E_CONFIG, naming key, value and what was expected.
 */
export function parseVxlanConfig(backend: RawBackend): VxlanConfig {
  const mtu = integer(backend, 'MTU', 0, MAX_OUTER_MTU_BYTES) ?? 0;
  if (mtu !== 0 && mtu < MIN_OUTER_MTU_BYTES) {
    throw wrong('MTU', mtu, `at least ${MIN_OUTER_MTU_BYTES} (576 + ${VXLAN_OVERHEAD_BYTES} of VXLAN)`);
  }
  return {
    vni: integer(backend, 'VNI', 0, MAX_VNI) ?? 1,
    port: integer(backend, 'Port', 0, 65_535) || DEFAULT_PORT, // 0 is how flanneld spells "the default"
    hasGbp: boolean(backend, 'GBP'),
    hasLearning: boolean(backend, 'Learning'),
    hasDirectRouting: boolean(backend, 'DirectRouting'),
    outerMtuBytes: mtu === 0 ? undefined : mtu,
    unknownKeys: unknownKeys(backend, ['Type', 'VNI', 'Port', 'GBP', 'Learning', 'DirectRouting', 'MTU']),
  };
}

/** The host-gw backend has no settings; what it does not know is listed. */
export function parseHostGwConfig(backend: RawBackend): { readonly unknownKeys: readonly string[] } {
  return { unknownKeys: unknownKeys(backend, ['Type']) };
}

/** What a peer's lease says about its VXLAN end. */
export interface VtepData {
  /** undefined in leases of flanneld before v0.14. */
  readonly vni: number | undefined;
  /** Lower case, unicast. */
  readonly mac: string;
}

/**
 * The MAC a host gives its VXLAN device when it makes one: locally administered, unicast, the public IP in its last four
 * bytes. It is the same after a reboot, so that peers need not learn a new one, and it can be told from the public IP
 * where leases carry no data, as in a static file.
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

/** Keys of `backend` that none of `known` spells in any case. */
function unknownKeys(backend: RawBackend, known: readonly string[]): string[] {
  const folded = new Set(known.map((key) => key.toLowerCase()));
  return Object.keys(backend).filter((key) => !folded.has(key.toLowerCase()));
}

function integer(backend: RawBackend, key: string, min: number, max: number): number | undefined {
  const value = field(backend, key);
  if (value === undefined || value === null) return undefined;
  if (!Number.isInteger(value) || (value as number) < min || (value as number) > max) {
    throw wrong(key, value, `an integer from ${min} to ${max}`);
  }
  return value as number;
}

function boolean(backend: RawBackend, key: string): boolean {
  const value = field(backend, key);
  if (value === undefined || value === null) return false;
  if (typeof value !== 'boolean') throw wrong(key, value, 'true or false');
  return value;
}

function wrong(key: string, value: unknown, expected: string): OverlayError {
  return new OverlayError('E_CONFIG', `Network config, Backend.${key} ${quote(value)}: expected ${expected}`);
}

function quote(value: unknown): string {
  return value === undefined ? '(missing)' : JSON.stringify(value);
}
