// The network config that an overlay was made from. Everything in it shapes the device or the lease, so a change in the
// store waits for a restart and says so.

import { type Condition, condition } from '../core/conditions.js';
import { type NetworkConfig, sameConfig } from '../config/network-config.js';

export class ConfigInForce {
  #config: NetworkConfig;
  #isOther = false;

  constructor(config: NetworkConfig) {
    this.#config = config;
  }

  get config(): NetworkConfig {
    return this.#config;
  }

  /** The store has answered a start from the saved table with a config that makes the same overlay. */
  confirm(config: NetworkConfig): void {
    this.#config = config;
  }

  /** Takes the config that the store has now. */
  noteStored(config: NetworkConfig): void {
    this.#isOther = !sameConfig(config, this.#config);
  }

  conditions(): readonly Condition[] {
    if (!this.#isOther) return [];
    const text = 'the network config has changed in the store: restart to apply it';
    return [condition('config-changed', text)];
  }
}
