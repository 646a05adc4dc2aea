// What an administrator has set by ethtool: it outlives the device, and a data path that is opened anew.

import { OverlayError } from '../../core/errors.js';
import type { Logger } from '../../core/log.js';
import { differingFeatures, type Features } from '../../kernel/ethtool.js';
import type { Kernel } from '../../kernel/kernel.js';

/**
 * Features of a TUN device that whoever opens it sets by TUNSETOFFLOAD, which overrules ethtool (set_offload() of
 * drivers/net/tun.c). What another run left of them comes from its --offload and its kin, not from an administrator.
 */
const OPENER_FEATURES: ReadonlySet<string> = new Set([
  'tx-checksum-ip-generic',
  'tx-tcp-segmentation',
  'tx-tcp-ecn-segmentation',
  'tx-tcp6-segmentation',
  'tx-udp-segmentation',
]);

export class KeptFeatures {
  readonly #kernel: Kernel;
  readonly #log: Logger;
  /** Of the device when it was last seen; undefined without ethtool. */
  #features: Features | undefined;

  constructor(kernel: Kernel, log: Logger) {
    this.#kernel = kernel;
    this.#log = log;
  }

  /** Of our device, as it is now. */
  async keep(device: string): Promise<void> {
    this.#features = (await this.#kernel.settings.features(device)) ?? this.#features;
  }

  /** Of a device that another run made, unless there is something to keep already. */
  async inherit(device: string): Promise<void> {
    const features = await this.#kernel.settings.features(device);
    this.#features ??= features && new Map([...features].filter(([name]) => !OPENER_FEATURES.has(name)));
  }

  /** Gives them to a device that was opened anew. What it does not take is said, and left. */
  async restore(device: string): Promise<void> {
    const wanted = this.#features;
    const current = wanted && (await this.#kernel.settings.features(device));
    if (wanted === undefined || current === undefined) return;
    const features = differingFeatures(wanted, current);
    if (features.size === 0) return;
    try {
      await this.#kernel.settings.setFeatures(device, features);
      this.#log.info({ device, features: Object.fromEntries(features) }, 'set features by ethtool');
    } catch (error) {
      if (!(error instanceof OverlayError)) throw error;
      this.#log.warn({ device }, `features are not as before: ${error.message}`);
    }
  }
}
