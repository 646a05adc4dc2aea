// Our rules in iptables or ip6tables, legacy or nf_tables alike, through iptables-restore(8) or ip6tables-restore(8).
//
// Each table is one atomic --noflush transaction: the kernel goes from the old rules to the new ones, and no packet
// ever finds none. What stands in the kernel is compared in full, so a rule that was moved or doubled by hand is
// noticed as well as one that was removed; rules of other networks in the chain are left alone (see chain.ts). Where in
// POSTROUTING or FORWARD the jump stands is not ours to say: it is appended once, and other programs' rules around it
// are left alone.

import { runCommand } from '../kernel/command.js';
import { OverlayError } from '../core/errors.js';
import { type FoundChain, isInOrder, isPresent, refusalBefore, restoreScript, sortRules } from './chain.js';
import type { Family } from '../net/prefix.js';
import { settle } from './settle.js';
import type { IptablesChain } from './rules.js';

/** How long to wait for the xtables lock that legacy tools share, in seconds; kube-proxy holds it for its own syncs. */
const LOCK_WAIT_SECONDS = 5;

/** What the installed iptables can do. */
export interface IptablesFeatures {
  /** --random-fully and --wait for iptables-restore, both since 1.6.2. */
  readonly isModern: boolean;
}

const TOOLS = { 4: 'iptables', 6: 'ip6tables' } as const satisfies Record<Family, string>;

/** The features of the installed iptables of a family; undefined when there is none, or none that can be run. */
export async function probeIptables(
  family: Family,
  signal?: AbortSignal,
): Promise<IptablesFeatures | undefined> {
  let text: string;
  try {
    text = (await runCommand(TOOLS[family], ['--version'], { signal, errorCode: 'E_FIREWALL' })).stdout;
  } catch (error) {
    const { code } = ((error as OverlayError).cause ?? {}) as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'EACCES') return undefined;
    throw error;
  }
  return parseIptablesVersion(text);
}

/** Reads "iptables v1.8.9 (nf_tables)". */
export function parseIptablesVersion(text: string): IptablesFeatures {
  const [, major = '0', minor = '0', patch = '0'] = /v(\d+)\.(\d+)(?:\.(\d+))?/.exec(text) ?? [];
  const version = (Number(major) * 1000 + Number(minor)) * 1000 + Number(patch);
  return { isModern: version >= 1_006_002 };
}

/** One chain of ours and its jump, kept right or kept away. */
export class ChainKeeper {
  readonly #chain: IptablesChain;
  readonly #isWanted: boolean;
  readonly #waitArgs: readonly string[];
  readonly #restoreWaitArgs: readonly string[];
  /** As this iptables prints our rules; learned when it spells them in another way than we do. */
  #printed: IptablesChain;
  #refusal: string | undefined;

  constructor(chain: IptablesChain, isWanted: boolean, features: IptablesFeatures) {
    this.#chain = chain;
    this.#printed = chain;
    this.#isWanted = isWanted;
    this.#waitArgs = features.isModern ? ['--wait', String(LOCK_WAIT_SECONDS)] : [];
    this.#restoreWaitArgs = features.isModern ? [`--wait=${LOCK_WAIT_SECONDS}`] : [];
  }

  /** Compares and repairs; whether anything had to be changed. Rejects with OverlayError E_FIREWALL. */
  async sync(signal?: AbortSignal): Promise<boolean> {
    return await settle<FoundChain>({
      list: () => this.#list(signal),
      isRight: (found) => (this.#isWanted ? isInOrder(this.#printed, found) : !isPresent(this.#chain, found)),
      repair: (found) => this.#restore(restoreScript(this.#printed, found, this.#isWanted), signal),
      isDone: (found) => (this.#isWanted ? this.#learnSpelling(found) : !isPresent(this.#chain, found)),
      unseen: (failure) => this.#unseen(failure),
      signal,
    });
  }

  /** The rule that stands before our jump and refuses our packets, as of the last sync(). */
  get refusal(): string | undefined {
    return this.#refusal;
  }

  /** Whether the chain, or a rule that leads to it, is there. Rejects with OverlayError E_FIREWALL. */
  async isPresent(signal?: AbortSignal): Promise<boolean> {
    return isPresent(this.#chain, await this.#list(signal));
  }

  /** Whether the rules just restored are there, in whatever words. */
  #learnSpelling(found: FoundChain): boolean {
    const { ours, shared, jumps } = sortRules(this.#chain, found);
    const printed = { ...this.#chain, rules: ours, shared, jump: jumps.at(-1) ?? '' };
    const { rules, shared: sharedRules } = this.#chain;
    const isWhole = ours.length === rules.length && shared.length === sharedRules.length;
    if (!isWhole || !isInOrder(printed, found)) return false;
    this.#printed = printed;
    return true;
  }

  #unseen(failure: unknown): Error {
    if (failure instanceof Error && !/already exists|File exists/.test(failure.message)) return failure;
    const tool = TOOLS[this.#chain.family];
    const why = `changed at once by another program, or "${tool}" and "${tool}-restore" are of different kinds`;
    const message = `Chain ${this.#chain.name} is not as it was restored: ${why}`;
    return new OverlayError('E_FIREWALL', message, { cause: failure });
  }

  /**
   * The "-A" lines of our chain, undefined when there is none, and of its parent. The whole table is asked for: about a
   * chain that does not exist, iptables-nft 1.8.9 says that it "is incompatible", which may be true of others.
   */
  async #list(signal: AbortSignal | undefined): Promise<FoundChain> {
    const { family, table, name, parent } = this.#chain;
    const tool = TOOLS[family];
    const args = [...this.#waitArgs, '-t', table, '-S'];
    const result = await runCommand(tool, args, { signal, errorCode: 'E_FIREWALL' });
    if (result.status !== 0) throw refusal(`${tool} ${args.join(' ')}`, result.stderr);
    const lines = result.stdout.split('\n');
    const rulesOf = (chain: string) => lines.filter((line) => line.startsWith(`-A ${chain} `));
    const own = lines.includes(`-N ${name}`) ? rulesOf(name) : undefined;
    const found = { own, parent: rulesOf(parent), rulesOf };
    this.#refusal = this.#isWanted ? refusalBefore(this.#chain, found) : undefined;
    return found;
  }

  async #restore(script: string, signal: AbortSignal | undefined): Promise<void> {
    const tool = `${TOOLS[this.#chain.family]}-restore`;
    const args = ['--noflush', ...this.#restoreWaitArgs];
    const result = await runCommand(tool, args, {
      input: script,
      signal,
      errorCode: 'E_FIREWALL',
    });
    if (result.status !== 0) throw refusal(`${tool} ${args.join(' ')}`, result.stderr);
  }
}

function refusal(command: string, stderr: string): OverlayError {
  const reason = stderr.trim().split('\n').slice(0, 3).join('; ') || 'no reason given';
  return new OverlayError('E_FIREWALL', `"${command}" failed: ${reason}`);
}
