// Our rules in flanneld's table in nftables, for networks with EnableNFTables. Needs nft alone; no iptables binary is
// touched.
//
// flanneld installs its table once and never looks again; here it is compared with every resync, so that a
// `nft flush ruleset` by hand is repaired. The table is shared as the iptables chains are (see chain.ts): rules are
// added and deleted one by one, and those of other networks left alone. nft prints no comment of a rule's owner, so
// theirs is what names an address, and a stray what names none.

import { OverlayError } from '../core/errors.js';
import { applyTransaction, canApply, type NftTable, printTable } from './nft.js';
import { familyOf } from '../net/prefix.js';
import { networksOf, NFT_TABLES, nftChains, type NftChain, type NftOptions } from './rules.js';
import { settle } from './settle.js';

interface FoundRule {
  readonly text: string;
  readonly handle: string;
}

/** A chain as nft prints it. */
interface FoundNftChain {
  readonly name: string;
  /** Of a base chain: "type … hook … priority …". */
  readonly head: string;
  readonly rules: readonly FoundRule[];
}

/** Undefined when there is no such table. */
export type FoundTable = readonly FoundNftChain[] | undefined;

interface SortedChain {
  readonly found: FoundNftChain | undefined;
  readonly ours: readonly FoundRule[];
  readonly shared: readonly FoundRule[];
  readonly theirs: readonly FoundRule[];
  readonly strays: readonly FoundRule[];
}

/** Reads `nft -s -a list table`. */
export function parseTable(text: string): FoundNftChain[] {
  const chains: { name: string; head: string; rules: FoundRule[] }[] = [];
  for (const line of text.split('\n').map((line) => line.trim())) {
    const chain = /^chain (\S+) \{/.exec(line);
    if (chain !== null) chains.push({ name: chain[1], head: '', rules: [] });
    const last = chains.at(-1);
    const rule = /^(.*) # handle (\d+)$/.exec(line);
    if (last === undefined || chain !== null) continue;
    if (rule !== null) last.rules.push({ text: rule[1], handle: rule[2] });
    else if (line.startsWith('type ')) last.head = line;
  }
  return chains;
}

/** Keeps our rules in the table of the network's family right, or away where they are not wanted. */
export class TableKeeper {
  #options: NftOptions;
  readonly #table: NftTable;
  readonly #networks: readonly string[];
  /** What our rules are, in the words of this nft; learned when it spells them in another way than we do. */
  #chains: readonly NftChain[];
  #isProbed = false;

  constructor(options: NftOptions) {
    this.#options = options;
    this.#table = NFT_TABLES[familyOf(options.network.address)];
    this.#networks = networksOf(options);
    this.#chains = nftChains(options);
  }

  /** Compares and repairs; whether anything had to be changed. Rejects with OverlayError E_FIREWALL. */
  async sync(signal?: AbortSignal): Promise<boolean> {
    return await settle<FoundTable>({
      list: () => this.#list(signal),
      isRight: (found) => this.#isInOrder(this.#chains, found),
      repair: async (found) => {
        await this.#probe(signal);
        await applyTransaction(this.#script(found), signal);
      },
      isDone: (found) => this.#learnSpelling(found),
      unseen: (failure) =>
        failure instanceof Error
          ? failure
          : new OverlayError(
              'E_FIREWALL',
              `Table ${this.#table.name} is not as it was written: changed at once`,
            ),
      signal,
    });
  }

  /** Of a keeper that keeps rules away: whether there is something to remove. Rejects with OverlayError E_FIREWALL. */
  async isPresent(signal?: AbortSignal): Promise<boolean> {
    return !this.#isInOrder(this.#chains, await this.#list(signal));
  }

  async #list(signal: AbortSignal | undefined): Promise<FoundTable> {
    const text = await printTable(this.#table, signal, true);
    return text === undefined ? undefined : parseTable(text);
  }

  /** Where the kernel or nft takes no fully-random, plain masquerade is used, as flanneld does. */
  async #probe(signal: AbortSignal | undefined): Promise<void> {
    if (this.#isProbed) return;
    if (this.#options.isFullyRandom && this.#options.hasMasquerade) {
      if (!(await canApply(this.#script(undefined), signal))) {
        this.#options = { ...this.#options, isFullyRandom: false };
        this.#chains = nftChains(this.#options);
      }
    }
    this.#isProbed = true;
  }

  #sort({ name, shared: sharedRules }: NftChain, table: FoundTable): SortedChain {
    const found = table?.find((chain) => chain.name === name);
    const rules = found?.rules ?? [];
    const hasAddress = ({ text }: FoundRule): boolean => /\bip6? [sd]addr\b/.test(text);
    const isOurs = ({ text }: FoundRule): boolean => {
      const words = text.split(' ');
      return this.#networks.some((network) => words.includes(network));
    };
    const isShared = ({ text }: FoundRule): boolean =>
      sharedRules.length > 0 && /^meta mark 0x0*4000 return$/.test(text);
    const ofNetworks = rules.filter(hasAddress);
    return {
      found,
      ours: ofNetworks.filter(isOurs),
      theirs: ofNetworks.filter((rule) => !isOurs(rule)),
      shared: rules.filter(isShared),
      strays: rules.filter((rule) => !hasAddress(rule) && !isShared(rule)),
    };
  }

  #isInOrder(chains: readonly NftChain[], table: FoundTable): boolean {
    if (chains.every(({ isWanted }) => !isWanted) && table !== undefined) {
      return (
        chains.some((chain) => this.#sort(chain, table).theirs.length > 0) && this.#isClean(chains, table)
      );
    }
    return table === undefined ? chains.every(({ isWanted }) => !isWanted) : this.#isClean(chains, table);
  }

  /** Whether each chain is as it should be: complete, or without us. */
  #isClean(chains: readonly NftChain[], table: FoundTable): boolean {
    return chains.every((chain) => {
      const { found, ours, shared, theirs, strays } = this.#sort(chain, table);
      if (!chain.isWanted) return found === undefined || (ours.length === 0 && theirs.length > 0);
      return (
        found?.head.startsWith(chain.hook) === true &&
        isSame(ours, chain.rules) &&
        isSame(shared, chain.shared) &&
        isLeading(shared, ours, found.rules) &&
        strays.length === 0
      );
    });
  }

  /** The transaction that makes the table right; it fails as a whole where a rule it deletes is gone. */
  #script(table: FoundTable): string {
    const { family, name } = this.#table;
    const inTable = `${family} ${name}`;
    const sorted = this.#chains.map((chain) => ({ chain, ...this.#sort(chain, table) }));
    const isNobodys = sorted.every(({ chain, theirs }) => !chain.isWanted && theirs.length === 0);
    const lines = [`add table ${inTable} { comment "rules for ${name}"; }`];
    if (isNobodys) return `${lines[0]}\ndelete table ${inTable}\n`;
    // A chain of this name with another hook cannot be amended, only replaced; what is in it has no effect. Where
    // nobody else has rules, the table is made anew as a whole.
    const isUsable = ({ chain, found }: SortedChain & { chain: NftChain }): boolean =>
      found?.head.startsWith(chain.hook) === true;
    const isMisfit = sorted.some((entry) => entry.found !== undefined && !isUsable(entry));
    if (isMisfit && sorted.every(({ theirs }) => theirs.length === 0))
      return `delete table ${inTable}\n${this.#script(undefined)}`;
    for (const entry of sorted) {
      const { chain, found, ours, shared, theirs, strays } = entry;
      const place = `${inTable} ${chain.name}`;
      const drop = (rules: readonly FoundRule[]) =>
        lines.push(...rules.map(({ handle }) => `delete rule ${place} handle ${handle}`));
      if (!chain.isWanted) {
        if (found === undefined) continue;
        if (theirs.length > 0) drop(ours);
        else lines.push(`flush chain ${place}`, `delete chain ${place}`);
        continue;
      }
      const isKept = isUsable(entry);
      const words = `${chain.hook} priority ${chain.priority}; policy accept; comment "${chain.comment}"`;
      if (found !== undefined && !isKept) lines.push(`flush chain ${place}`, `delete chain ${place}`);
      if (!isKept) lines.push(`add chain ${place} { ${words}; }`);
      const hasOurs = isKept && isSame(ours, chain.rules);
      const isFirst = isKept && isLeading(shared, ours, found!.rules);
      const hasShared = isFirst && isSame(shared, chain.shared);
      if (isKept) {
        drop(strays);
        if (!hasShared) drop(shared);
        if (!hasOurs) drop(ours);
      }
      if (!hasShared) lines.push(...chain.shared.map((rule) => `insert rule ${place} ${rule}`));
      if (!hasOurs) lines.push(...chain.rules.map((rule) => `add rule ${place} ${rule}`));
    }
    return lines.join('\n') + '\n';
  }

  /** Whether the rules just written are there, in whatever words. */
  #learnSpelling(table: FoundTable): boolean {
    const printed = this.#chains.map((chain) => {
      if (!chain.isWanted) return chain;
      const { ours, shared } = this.#sort(chain, table);
      const isWhole = ours.length === chain.rules.length && shared.length === chain.shared.length;
      return isWhole ? { ...chain, rules: textsOf(ours), shared: textsOf(shared) } : chain;
    });
    if (!this.#isInOrder(printed, table)) return false;
    this.#chains = printed;
    return true;
  }
}

function textsOf(rules: readonly FoundRule[]): string[] {
  return rules.map(({ text }) => text);
}

function isSame(found: readonly FoundRule[], wanted: readonly string[]): boolean {
  return found.length === wanted.length && found.every(({ text }, index) => text === wanted[index]);
}

/** Whether the shared rule stands before ours. */
function isLeading(
  shared: readonly FoundRule[],
  ours: readonly FoundRule[],
  rules: readonly FoundRule[],
): boolean {
  return shared.length === 0 || ours.length === 0 || rules.indexOf(shared[0]) < rules.indexOf(ours[0]);
}
