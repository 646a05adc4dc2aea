// Which rule of a built-in chain refuses the overlay's packets before our jump accepts them. Pure.
//
// Hosts whose FORWARD ends in an unconditional REJECT are common (Oracle Cloud's images, old RHEL): our jump is
// appended, and stands behind it. Only what is certain counts: a rule with a match that is not understood is passed
// over, so that no host is called ill because of an INVALID that is dropped. Other chains are looked into: firewalld
// accepts what is in a trusted zone there, before the REJECT at its end.

import { type Address, parseAnyPrefix, type Prefix, prefixCovers } from '../net/prefix.js';

/** What a rule does with a packet; undefined when the next rule decides. */
type Verdict = 'accept' | 'refuse' | 'return' | undefined;

type Chains = (name: string) => readonly string[];

/**
 * The rule, as `iptables -S` prints it, with its number; undefined when the overlay's packets get to the jump. `chains`
 * has the rules of the others in the table.
 */
export function blockingRule(
  parent: readonly string[],
  chainName: string,
  network: Prefix<Address>,
  chains: Chains = () => [],
): { readonly number: number; readonly rule: string } | undefined {
  for (const [index, rule] of parent.entries()) {
    if (rule.endsWith(` ${chainName}`)) return undefined;
    const verdict = verdictFor(rule, network, chains);
    if (verdict === 'accept' || verdict === 'return') return undefined;
    if (verdict === 'refuse') return { number: index + 1, rule: rule.replace(/^-A \S+ /, '') };
  }
  return undefined;
}

/** What a chain does; the kernel lets none lead back to itself. */
function verdictOf(name: string, network: Prefix<Address>, chains: Chains): 'accept' | 'refuse' | undefined {
  for (const rule of chains(name)) {
    const verdict = verdictFor(rule, network, chains);
    if (verdict !== undefined) return verdict === 'return' ? undefined : verdict;
  }
  return undefined;
}

/** What a rule does to each new packet from one subnet of the overlay to another. */
function verdictFor(rule: string, network: Prefix<Address>, chains: Chains): Verdict {
  // Comments may hold any word.
  const words = rule.replace(/--comment ("(\\.|[^"\\])*"|\S+)/, '').split(/\s+/);
  for (let i = 2; i < words.length; i++) {
    const isNegated = words[i] === '!';
    if (isNegated) i++;
    const value = words[i + 1] ?? '';
    switch (words[i]) {
      case '':
        continue;
      case '-j':
        if (value === 'ACCEPT') return 'accept';
        if (value === 'RETURN') return 'return';
        return value === 'REJECT' || value === 'DROP' ? 'refuse' : verdictOf(value, network, chains);
      case '-g':
        return verdictOf(value, network, chains) ?? 'return';
      case '-m':
        if (!['comment', 'conntrack', 'state'].includes(value)) return undefined;
        break;
      case '-s':
      case '-d': {
        const prefix = parseAnyPrefix(value);
        if (isNegated || prefix === undefined || !prefixCovers(prefix, network)) return undefined;
        break;
      }
      case '-i':
      case '-o':
        if (isNegated || !/^(\+|flannel\S*)$/.test(value)) return undefined;
        break;
      case '--ctstate':
      case '--state':
        if (value.split(',').includes('NEW') === isNegated) return undefined;
        break;
      default:
        return undefined;
    }
    i++;
  }
  return undefined;
}
