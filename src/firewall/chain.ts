// Tells whose each rule of a chain is, and writes the transaction that puts ours right. Pure.
//
// The chains are shared: with other daemons of ours, one for each network, and with flanneld. So a rule is added or
// deleted by its text, and the chain never emptied. Of the rules in a chain, ours name our network; theirs have
// flanneld's comment and name another; shared is the one rule that names none; strays are the rest, put there by hand.

import { parseAnyPrefix } from '../net/prefix.js';
import { blockingRule } from './blocking-rule.js';
import type { IptablesChain } from './rules.js';

/** What stands in the kernel, in the order and words of `iptables -S`. */
export interface FoundChain {
  /** Undefined when there is no such chain. */
  readonly own: readonly string[] | undefined;
  readonly parent: readonly string[];
  /** Rules of the other chains of the table. @default none */
  readonly rulesOf?: (chain: string) => readonly string[];
}

export interface SortedRules {
  readonly ours: readonly string[];
  readonly shared: readonly string[];
  readonly theirs: readonly string[];
  readonly strays: readonly string[];
  /** The rules in the parent that lead to the chain. */
  readonly jumps: readonly string[];
  /** Of the parent: what flanneld before v0.20 put there for one of our networks. */
  readonly old: readonly string[];
}

export function sortRules(chain: IptablesChain, { own = [], parent }: FoundChain): SortedRules {
  const isMarked = (rule: string): boolean => rule.includes(`--comment "${chain.comment}"`);
  const isJump = (rule: string): boolean => /(\S+)$/.exec(rule)?.[1] === chain.name;
  const hasAddress = (rule: string): boolean => / -[sd] /.test(rule);
  const isOurs = (rule: string): boolean => {
    const words = rule.split(' ');
    return chain.networks?.some((network) => words.includes(network)) ?? true;
  };
  const marked = own.filter(isMarked);
  const isShared = (rule: string): boolean => chain.shared.length > 0 && !hasAddress(rule);
  const ofNetworks = marked.filter((rule) => hasAddress(rule));
  const beside = parent.filter((rule) => isMarked(rule) && !isJump(rule));
  const hasOthersBeside = beside.some((rule) => hasAddress(rule) && !isOurs(rule));
  return {
    ours: ofNetworks.filter(isOurs),
    theirs: ofNetworks.filter((rule) => !isOurs(rule)),
    shared: marked.filter(isShared),
    strays: own.filter((rule) => !isMarked(rule) || !(hasAddress(rule) || isShared(rule))),
    jumps: parent.filter(isJump),
    old: beside.filter((rule) => (hasAddress(rule) ? isOurs(rule) : !hasOthersBeside)),
  };
}

/** Whether exactly what restoreScript() would make is there. */
export function isInOrder(chain: IptablesChain, found: FoundChain): boolean {
  if (found.own === undefined) return false;
  const { ours, shared, strays, jumps, old } = sortRules(chain, found);
  return (
    isSame(ours, chain.rules) &&
    isSame(shared, chain.shared) &&
    isLeading(shared, ours, found.own) &&
    isSame(jumps, [chain.jump]) &&
    !isToMove(chain, found) &&
    strays.length === 0 &&
    old.length === 0
  );
}

/** What refuses our packets before the jump; its number and text, as an operator would look for it. */
export function refusalBefore(chain: IptablesChain, found: FoundChain): string | undefined {
  const network = parseAnyPrefix(chain.networks?.[0] ?? '');
  const refusal = network && blockingRule(found.parent, chain.name, network, found.rulesOf);
  return refusal && `${chain.parent} rule ${refusal.number} "${refusal.rule}"`;
}

function isToMove(chain: IptablesChain, found: FoundChain): boolean {
  return chain.isFirst && refusalBefore(chain, found) !== undefined;
}

/** Whether something of ours is there, or something that nobody needs. */
export function isPresent(chain: IptablesChain, found: FoundChain): boolean {
  const { ours, theirs, jumps, old } = sortRules(chain, found);
  const isNobodys = theirs.length === 0 && (found.own !== undefined || jumps.length > 0);
  return ours.length > 0 || old.length > 0 || isNobodys;
}

/**
 * Input of `iptables-restore --noflush` that makes our rules and the jump right, or with `isWanted` false removes them;
 * chain, shared rule and jump go with the last network's rules. It fails as a whole where the kernel no longer holds
 * what was found: a chain that another program made meanwhile, a rule that it removed.
 */
export function restoreScript(chain: IptablesChain, found: FoundChain, isWanted: boolean): string {
  const { ours, shared, theirs, strays, jumps, old } = sortRules(chain, found);
  const lines = [`*${chain.table}`];
  const drop = (rules: readonly string[]) => lines.push(...rules.map((rule) => rule.replace(/^-A /, '-D ')));
  if (isWanted) {
    const hasOurs = isSame(ours, chain.rules);
    const hasShared = isSame(shared, chain.shared) && isLeading(shared, ours, found.own ?? []);
    if (found.own === undefined) lines.push(`-N ${chain.name}`);
    drop(strays);
    if (!hasShared) drop(shared);
    if (!hasOurs) drop(ours);
    if (!hasShared) lines.push(...chain.shared.map(atHead));
    if (!hasOurs) lines.push(...chain.rules);
    const kept = isToMove(chain, found) ? -1 : jumps.indexOf(chain.jump);
    drop(jumps.filter((_, index) => index !== kept));
    drop(old);
    if (kept < 0) lines.push(chain.isFirst ? atHead(chain.jump) : chain.jump);
  } else {
    drop([...old, ...ours]);
    if (theirs.length === 0) {
      drop([...jumps, ...shared, ...strays]);
      if (found.own !== undefined) lines.push(`-X ${chain.name}`);
    }
  }
  lines.push('COMMIT', '');
  return lines.join('\n');
}

/** The rule, inserted before all others. */
function atHead(rule: string): string {
  return rule.replace(/^-A (\S+) /, '-I $1 1 ');
}

function isSame(found: readonly string[], wanted: readonly string[]): boolean {
  return found.length === wanted.length && found.every((rule, index) => rule === wanted[index]);
}

/** Whether the shared rule stands before ours. */
function isLeading(shared: readonly string[], ours: readonly string[], own: readonly string[]): boolean {
  return shared.length === 0 || ours.length === 0 || own.indexOf(shared[0]) < own.indexOf(ours[0]);
}
