// The Backend object of the vxlan type. Pure.

import { boolean, integer, type RawBackend, unknownKeys, wrong } from '../../config/reader.js';
import { VXLAN_PORT } from '../../core/defaults.js';
import { VXLAN_OVERHEAD_BYTES } from '../../net/mtu.js';

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

/** 626 = 576 bytes that every IPv4 host must accept (RFC 791 section 3.1) + the overhead. */
const MIN_OUTER_MTU_BYTES = 576 + VXLAN_OVERHEAD_BYTES.v4;
/** Largest IPv4 packet. */
const MAX_OUTER_MTU_BYTES = 65_535;

/**
 * Settings of the vxlan backend with flanneld's defaults.
 * Throws OverlayError E_CONFIG, naming key, value and what was expected.
 */
export function parseVxlanConfig(backend: RawBackend): VxlanConfig {
  const mtu = integer(backend, 'MTU', 0, MAX_OUTER_MTU_BYTES) ?? 0;
  if (mtu !== 0 && mtu < MIN_OUTER_MTU_BYTES) {
    throw wrong('MTU', mtu, `at least ${MIN_OUTER_MTU_BYTES} (576 + ${VXLAN_OVERHEAD_BYTES.v4} of VXLAN)`);
  }
  return {
    vni: integer(backend, 'VNI', 0, MAX_VNI) ?? 1,
    port: integer(backend, 'Port', 0, 65_535) || VXLAN_PORT, // 0 is how flanneld spells "the default"
    hasGbp: boolean(backend, 'GBP'),
    hasLearning: boolean(backend, 'Learning'),
    hasDirectRouting: boolean(backend, 'DirectRouting'),
    outerMtuBytes: mtu === 0 ? undefined : mtu,
    unknownKeys: unknownKeys(backend, ['Type', 'VNI', 'Port', 'GBP', 'Learning', 'DirectRouting', 'MTU']),
  };
}
