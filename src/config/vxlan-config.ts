// The Backend objects of the vxlan and host-gw types. Pure.
//
// Keys match as Go's JSON decoder matches them: an exact spelling wins, any other case is taken too, null means absent,
// and keys nobody knows are no error (they are listed, so that a typing error can be shown to the operator).

import { OverlayError } from '../errors.js';

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

/** 50 = 14 inner Ethernet + 8 VXLAN + 8 UDP + 20 outer IPv4 (RFC 7348 section 5); IP options are not sent. */
export const VXLAN_OVERHEAD_BYTES = 50;

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
  const keys = new BackendKeys(backend, ['Type', 'VNI', 'Port', 'GBP', 'Learning', 'DirectRouting', 'MTU']);
  const mtu = keys.integer('MTU', 0, MAX_OUTER_MTU_BYTES) ?? 0;
  if (mtu !== 0 && mtu < MIN_OUTER_MTU_BYTES) {
    throw new OverlayError(
      'E_CONFIG',
      `Network config, Backend.MTU ${mtu}: expected at least ${MIN_OUTER_MTU_BYTES} (576 + ${VXLAN_OVERHEAD_BYTES} of VXLAN)`,
    );
  }
  return {
    vni: keys.integer('VNI', 0, MAX_VNI) ?? 1,
    port: keys.integer('Port', 0, 65_535) || DEFAULT_PORT, // 0 is how flanneld spells "the default"
    hasGbp: keys.boolean('GBP') ?? false,
    hasLearning: keys.boolean('Learning') ?? false,
    hasDirectRouting: keys.boolean('DirectRouting') ?? false,
    outerMtuBytes: mtu === 0 ? undefined : mtu,
    unknownKeys: keys.unknown,
  };
}

/** The host-gw backend has no settings; what it does not know is listed. */
export function parseHostGwConfig(backend: RawBackend): { readonly unknownKeys: readonly string[] } {
  return { unknownKeys: new BackendKeys(backend, ['Type']).unknown };
}

/** What a peer's lease says about its VXLAN end. */
export interface VtepData {
  /** undefined in leases of flanneld before v0.14. */
  readonly vni: number | undefined;
  /** Lower case, unicast. */
  readonly mac: string;
}

/** Reads BackendData of a peer's lease, `{"VNI":1,"VtepMAC":"…"}`; a text when it is not usable, saying why. */
export function parseVtepData(data: unknown): VtepData | string {
  if (typeof data !== 'object' || data === null) return 'its BackendData is no object';
  const found = new Map(Object.entries(data).map(([key, value]) => [key.toLowerCase(), value as unknown]));
  const mac = found.get('vtepmac');
  if (typeof mac !== 'string' || !/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(mac)) {
    return `its VtepMAC ${quote(mac)} is no MAC address`;
  }
  // The group bit marks multicast, and all zeros is the FDB's default entry: neither names one host.
  if ((parseInt(mac.slice(0, 2), 16) & 1) !== 0 || mac === '00:00:00:00:00:00') {
    return `its VtepMAC ${quote(mac)} is no unicast address`;
  }
  const vni = found.get('vni');
  if (vni !== undefined && vni !== null && !(Number.isInteger(vni) && (vni as number) >= 0)) {
    return `its VNI ${quote(vni)} is no number`;
  }
  return { vni: (vni as number | null) ?? undefined, mac: mac.toLowerCase() };
}

class BackendKeys {
  readonly unknown: readonly string[];
  readonly #values = new Map<string, unknown>();

  constructor(backend: RawBackend, known: readonly string[]) {
    const spelling = new Map(known.map((key) => [key.toLowerCase(), key]));
    const unknown: string[] = [];
    for (const [given, value] of Object.entries(backend)) {
      const key = spelling.get(given.toLowerCase());
      if (key === undefined) unknown.push(given);
      else if (value !== null && (given === key || !Object.hasOwn(backend, key)))
        this.#values.set(key, value);
    }
    this.unknown = unknown;
  }

  integer(key: string, min: number, max: number): number | undefined {
    const value = this.#values.get(key);
    if (value === undefined) return undefined;
    if (!Number.isInteger(value) || (value as number) < min || (value as number) > max) {
      throw wrong(key, value, `an integer from ${min} to ${max}`);
    }
    return value as number;
  }

  boolean(key: string): boolean | undefined {
    const value = this.#values.get(key);
    if (value === undefined || typeof value === 'boolean') return value;
    throw wrong(key, value, 'true or false');
  }
}

function wrong(key: string, value: unknown, expected: string): OverlayError {
  return new OverlayError('E_CONFIG', `Network config, Backend.${key} ${quote(value)}: expected ${expected}`);
}

function quote(value: unknown): string {
  return value === undefined ? '(missing)' : JSON.stringify(value);
}
