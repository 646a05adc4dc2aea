// The own subnets with the MTU of its device: what subnet.env says of this host.

import type { DualPrefix } from '../net/prefix.js';
import type { SubnetFileKeeper } from './subnet-file-keeper.js';

export interface OwnSubnetOptions {
  readonly networks: DualPrefix;
  readonly subnets: DualPrefix;
  readonly mtuBytes: number;
  /** --ip-masq */
  readonly ipMasq: boolean;
  readonly file: SubnetFileKeeper;
}

export class OwnSubnet {
  readonly subnets: DualPrefix;
  readonly #options: OwnSubnetOptions;
  #mtuBytes: number;

  constructor(options: OwnSubnetOptions) {
    this.subnets = options.subnets;
    this.#options = options;
    this.#mtuBytes = options.mtuBytes;
  }

  /** Of the device of the overlay, and so of pods. */
  get mtuBytes(): number {
    return this.#mtuBytes;
  }

  /** Never rejects: what fails is a condition of the file's keeper. */
  async setMtu(mtuBytes: number): Promise<void> {
    if (mtuBytes === this.#mtuBytes) return;
    this.#mtuBytes = mtuBytes;
    await this.write();
  }

  write(): Promise<void> {
    const { networks, subnets, ipMasq, file } = this.#options;
    return file.write({ networks, subnets, mtuBytes: this.#mtuBytes, ipMasq });
  }
}
