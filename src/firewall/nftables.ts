// Our table in nftables, for networks with EnableNFTables. Needs nft alone; no iptables binary is touched.
//
// flanneld installs its table once and never looks again; here it is compared with every resync, so that a
// `nft flush ruleset` by hand is repaired.

import { applyTransaction, canApply, deleteTable, printTable } from './nft.js';
import { NFT_TABLE, nftScript } from './rules.js';
import type { NftOptions } from './rules.js';

/** Keeps table flannel-ipv4 right, or away when neither kind of rule is wanted. */
export class TableKeeper {
  readonly #options: NftOptions;
  #script: string | undefined;
  /** As nft prints the table after we wrote it. */
  #printed: string | undefined;

  constructor(options: NftOptions) {
    this.#options = options;
  }

  /** Compares and repairs; whether anything had to be changed. Rejects with OverlayError E_FIREWALL. */
  async sync(signal?: AbortSignal): Promise<boolean> {
    const found = await printTable('ip', NFT_TABLE, signal);
    if (!this.#options.hasMasquerade && !this.#options.hasForward) {
      if (found === undefined) return false;
      await deleteTable('ip', NFT_TABLE, signal);
      return true;
    }
    if (found !== undefined && found === this.#printed) return false;
    this.#script ??= nftScript(await this.#supported(signal));
    try {
      await applyTransaction(this.#script, signal);
    } catch {
      // A chain of this name with another hook cannot be amended, only replaced; still one transaction.
      await applyTransaction(
        `add table ip ${NFT_TABLE}\ndelete table ip ${NFT_TABLE}\n${this.#script}`,
        signal,
      );
    }
    const printed = await printTable('ip', NFT_TABLE, signal);
    const hasChanged = printed !== found;
    this.#printed = printed;
    return hasChanged;
  }

  /** Where the kernel or nft takes no fully-random, plain masquerade is used, as flanneld does. */
  async #supported(signal: AbortSignal | undefined): Promise<NftOptions> {
    if (!this.#options.isFullyRandom || !this.#options.hasMasquerade) return this.#options;
    if (await canApply(nftScript(this.#options), signal)) return this.#options;
    return { ...this.#options, isFullyRandom: false };
  }
}
