// The masquerade and forward rules as texts for iptables-restore(8) and nft(8). Pure.
//
// They are flanneld's rules, chain for chain and comment for comment, so that an operator may switch between the two
// daemons and a rule never stands twice. In nftables mode flanneld's rules differ from its iptables ones in two places
// (the mark is compared whole, and traffic from outside to any pod keeps its source); that is kept as well.
//
// Names: N is the overlay network, S the own subnet. What the masquerade rules say, in order: packets that kube-proxy
// marked are its business; inside the overlay nothing is masqueraded; who comes from outside to our own pods keeps its
// source; pods that leave the overlay get this host's address, except to multicast; hosts that talk into the overlay too.

import { formatPrefix } from '../net/ipv4.js';
import type { Prefix } from '../net/ipv4.js';

export interface RuleOptions {
  readonly network: Prefix;
  readonly subnet: Prefix;
  /** Pick the source port at random for each connection; avoids a race for one port under load. */
  readonly isFullyRandom: boolean;
}

/** A chain of ours in an iptables table, and the rule in a built-in chain that leads to it. */
export interface IptablesChain {
  readonly table: 'nat' | 'filter';
  readonly name: string;
  readonly parent: 'POSTROUTING' | 'FORWARD';
  /** Comment that marks every rule of ours. */
  readonly comment: string;
  /** The rule in `parent`, as `iptables -S` prints it. */
  readonly jump: string;
  /** The rules of the chain, as `iptables -S` prints them. */
  readonly rules: readonly string[];
}

const MASQUERADE_COMMENT = 'flanneld masq';
const FORWARD_COMMENT = 'flanneld forward';
const MULTICAST = '224.0.0.0/4';

/** The chain for --ip-masq. */
export function masqueradeChain(options: RuleOptions): IptablesChain {
  const network = formatPrefix(options.network);
  const subnet = formatPrefix(options.subnet);
  const comment = `-m comment --comment "${MASQUERADE_COMMENT}"`;
  const masquerade = `MASQUERADE${options.isFullyRandom ? ' --random-fully' : ''}`;
  const name = 'FLANNEL-POSTRTG';
  return {
    table: 'nat',
    name,
    parent: 'POSTROUTING',
    comment: MASQUERADE_COMMENT,
    jump: `-A POSTROUTING ${comment} -j ${name}`,
    rules: [
      `-m mark --mark 0x4000/0x4000 ${comment} -j RETURN`,
      `-s ${subnet} -d ${network} ${comment} -j RETURN`,
      `-s ${network} -d ${subnet} ${comment} -j RETURN`,
      `! -s ${network} -d ${subnet} ${comment} -j RETURN`,
      `-s ${network} ! -d ${MULTICAST} ${comment} -j ${masquerade}`,
      `! -s ${network} -d ${network} ${comment} -j ${masquerade}`,
    ].map((rule) => `-A ${name} ${rule}`),
  };
}

/** The chain for --iptables-forward-rules: Docker sets the policy of FORWARD to DROP. */
export function forwardChain(options: Pick<RuleOptions, 'network'>): IptablesChain {
  const network = formatPrefix(options.network);
  const comment = `-m comment --comment "${FORWARD_COMMENT}"`;
  const name = 'FLANNEL-FWD';
  return {
    table: 'filter',
    name,
    parent: 'FORWARD',
    comment: FORWARD_COMMENT,
    jump: `-A FORWARD ${comment} -j ${name}`,
    rules: [`-A ${name} -s ${network} ${comment} -j ACCEPT`, `-A ${name} -d ${network} ${comment} -j ACCEPT`],
  };
}

/**
 * Input of `iptables-restore --noflush` that makes one chain and its jump right, whatever was there: the ":" line
 * empties the chain within the same transaction that fills it. `parentRules` is what `iptables -S <parent>` prints.
 * With `isWanted` false the chain and all that leads to it is removed.
 */
export function restoreScript(
  chain: IptablesChain,
  parentRules: readonly string[],
  isWanted: boolean,
): string {
  const ofOurs = parentRules.filter((rule) => isOurRule(rule, chain));
  const hasJump = ofOurs.includes(chain.jump);
  const lines = [`*${chain.table}`, `:${chain.name} - [0:0]`];
  if (isWanted) lines.push(...chain.rules);
  let kept = isWanted && hasJump ? chain.jump : undefined;
  for (const rule of ofOurs) {
    if (rule === kept) kept = undefined;
    else lines.push(rule.replace(/^-A /, '-D '));
  }
  if (!isWanted) lines.push(`-X ${chain.name}`);
  else if (!hasJump) lines.push(chain.jump);
  lines.push('COMMIT', '');
  return lines.join('\n');
}

/** Whether exactly what restoreScript() would make is there. */
export function isInOrder(
  chain: IptablesChain,
  ownRules: readonly string[],
  parentRules: readonly string[],
): boolean {
  const ofOurs = parentRules.filter((rule) => isOurRule(rule, chain));
  return (
    ofOurs.length === 1 &&
    ofOurs[0] === chain.jump &&
    ownRules.length === chain.rules.length &&
    ownRules.every((rule, index) => rule === chain.rules[index])
  );
}

/** Our jump, and the rules that flanneld before v0.20 put into the built-in chain itself. */
export function isOurRule(rule: string, chain: IptablesChain): boolean {
  return rule.includes(`--comment "${chain.comment}"`) || rule.endsWith(` -j ${chain.name}`);
}

export const NFT_TABLE = 'flannel-ipv4';
/** flanneld's table for IPv6; only ever removed by us. */
export const NFT_TABLE_IPV6 = 'flannel-ipv6';

export interface NftOptions extends RuleOptions {
  readonly hasMasquerade: boolean;
  readonly hasForward: boolean;
}

/** Transaction that makes the table right and keeps its chains while it refills them. */
export function nftScript(options: NftOptions): string {
  const lines = [`add table ip ${NFT_TABLE} { comment "rules for ${NFT_TABLE}"; }`];
  const addChain = (name: string, hook: string, comment: string, rules: readonly string[] | undefined) => {
    lines.push(`add chain ip ${NFT_TABLE} ${name} { ${hook}; policy accept; comment "${comment}"; }`);
    lines.push(`flush chain ip ${NFT_TABLE} ${name}`);
    if (rules === undefined) lines.push(`delete chain ip ${NFT_TABLE} ${name}`);
    else lines.push(...rules.map((rule) => `add rule ip ${NFT_TABLE} ${name} ${rule}`));
  };
  const network = formatPrefix(options.network);
  addChain(
    'postrtg',
    'type nat hook postrouting priority 100',
    'chain to manage traffic masquerading by flannel',
    options.hasMasquerade ? nftMasqueradeRules(options) : undefined,
  );
  addChain(
    'forward',
    'type filter hook forward priority 0',
    'chain to accept flannel traffic',
    options.hasForward ? [`ip saddr ${network} accept`, `ip daddr ${network} accept`] : undefined,
  );
  return lines.join('\n') + '\n';
}

function nftMasqueradeRules(options: RuleOptions): string[] {
  const network = formatPrefix(options.network);
  const subnet = formatPrefix(options.subnet);
  const masquerade = `masquerade${options.isFullyRandom ? ' fully-random' : ''}`;
  return [
    'meta mark 0x4000 return',
    `ip saddr ${subnet} ip daddr ${network} return`,
    `ip saddr ${network} ip daddr ${subnet} return`,
    `ip saddr != ${subnet} ip daddr ${network} return`,
    `ip saddr ${network} ip daddr != ${MULTICAST} ${masquerade}`,
    `ip saddr != ${network} ip daddr ${network} ${masquerade}`,
  ];
}
