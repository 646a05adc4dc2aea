// The masquerade and forward rules as texts for iptables-restore(8) and nft(8). Pure.
//
// They are flanneld's rules, chain for chain and comment for comment, so that an operator may switch between the two
// daemons and a rule never stands twice. The chains are those of every daemon on the host, ours or flanneld's, so that
// a rule is told by the network it names; the one about kube-proxy's mark names none and is shared. In nftables mode
// flanneld's rules differ from its iptables ones in two places (the mark is compared whole, and traffic from outside to
// any pod keeps its source); that is kept as well.
//
// Names: N is the overlay network, S the own subnet. What the masquerade rules say, in order: packets that kube-proxy
// marked are left to it; inside the overlay nothing is masqueraded; packets from outside to our own pods keep their
// source; packets of pods that leave the overlay get this host's address, except to multicast, and so do packets of
// other hosts into the overlay. IPv6 has the same rules, in chains and a table of its own.

import { type Address, type Family, familyOf, formatPrefix, type Prefix } from '../net/prefix.js';
import type { NftTable } from './nft.js';

export interface RuleOptions {
  readonly network: Prefix<Address>;
  /** Of the same family, as `formerNetwork` is. */
  readonly subnet: Prefix<Address>;
  /** Network that an earlier run of this daemon served: its rules are ours as well, and are removed. */
  readonly formerNetwork?: Prefix<Address> | undefined;
  /** Pick the source port at random for each connection; avoids a race for one port under load. */
  readonly isFullyRandom: boolean;
}

/** A chain of flanneld's in an iptables table with our rules, and the rule in a built-in chain that leads to it. */
export interface IptablesChain {
  /** Of iptables, or of ip6tables. */
  readonly family: Family;
  readonly table: 'nat' | 'filter';
  readonly name: string;
  readonly parent: 'POSTROUTING' | 'FORWARD';
  /** Comment that marks every rule of a daemon. */
  readonly comment: string;
  /** A rule that names one of these is ours; undefined: every rule is. */
  readonly networks: readonly string[] | undefined;
  /** The rule in `parent`, as `iptables -S` prints it. */
  readonly jump: string;
  /** The jump stands before any rule of `parent` that refuses our packets; else where it was first appended. */
  readonly isFirst: boolean;
  /** The rule before all others, once for all networks, as `iptables -S` prints it; none or one. */
  readonly shared: readonly string[];
  /** Our rules in the chain, as `iptables -S` prints them. */
  readonly rules: readonly string[];
}

const MASQUERADE_COMMENT = 'flanneld masq';
const FORWARD_COMMENT = 'flanneld forward';
const MULTICAST = { 4: '224.0.0.0/4', 6: 'ff00::/8' } as const;

/** The chain for --ip-masq. */
export function masqueradeChain(options: RuleOptions): IptablesChain {
  const network = formatPrefix(options.network);
  const subnet = formatPrefix(options.subnet);
  const comment = `-m comment --comment "${MASQUERADE_COMMENT}"`;
  const masquerade = `MASQUERADE${options.isFullyRandom ? ' --random-fully' : ''}`;
  const name = 'FLANNEL-POSTRTG';
  const family = familyOf(options.network.address);
  return {
    family,
    table: 'nat',
    name,
    parent: 'POSTROUTING',
    comment: MASQUERADE_COMMENT,
    networks: networksOf(options),
    isFirst: false,
    jump: `-A POSTROUTING ${comment} -j ${name}`,
    shared: [`-A ${name} -m mark --mark 0x4000/0x4000 ${comment} -j RETURN`],
    rules: [
      `-s ${subnet} -d ${network} ${comment} -j RETURN`,
      `-s ${network} -d ${subnet} ${comment} -j RETURN`,
      `! -s ${network} -d ${subnet} ${comment} -j RETURN`,
      `-s ${network} ! -d ${MULTICAST[family]} ${comment} -j ${masquerade}`,
      `! -s ${network} -d ${network} ${comment} -j ${masquerade}`,
    ].map((rule) => `-A ${name} ${rule}`),
  };
}

export interface ForwardOptions extends Pick<RuleOptions, 'network' | 'formerNetwork'> {
  /** --iptables-forward-first. @default false */
  readonly isForwardFirst?: boolean;
}

/** The chain for --iptables-forward-rules: Docker sets the policy of FORWARD to DROP. */
export function forwardChain(options: ForwardOptions): IptablesChain {
  const network = formatPrefix(options.network);
  const comment = `-m comment --comment "${FORWARD_COMMENT}"`;
  const name = 'FLANNEL-FWD';
  return {
    family: familyOf(options.network.address),
    table: 'filter',
    name,
    parent: 'FORWARD',
    comment: FORWARD_COMMENT,
    networks: networksOf(options),
    isFirst: options.isForwardFirst ?? false,
    jump: `-A FORWARD ${comment} -j ${name}`,
    shared: [],
    rules: [`-A ${name} -s ${network} ${comment} -j ACCEPT`, `-A ${name} -d ${network} ${comment} -j ACCEPT`],
  };
}

/** The networks whose rules are ours. */
export function networksOf(options: Pick<RuleOptions, 'network' | 'formerNetwork'>): string[] {
  const { network, formerNetwork = network } = options;
  return [...new Set([network, formerNetwork].map(formatPrefix))];
}

/** flanneld's tables. */
export const NFT_TABLES: Readonly<Record<Family, NftTable>> = {
  4: { family: 'ip', name: 'flannel-ipv4' },
  6: { family: 'ip6', name: 'flannel-ipv6' },
};

export interface NftOptions extends RuleOptions {
  readonly hasMasquerade: boolean;
  readonly hasForward: boolean;
}

/** A base chain of flanneld's table, and our rules in it. */
export interface NftChain {
  readonly name: 'postrtg' | 'forward';
  /** Type and hook, as nft prints them. */
  readonly hook: string;
  readonly priority: number;
  readonly comment: string;
  readonly isWanted: boolean;
  /** The rule before all others, once for all networks; none or one. */
  readonly shared: readonly string[];
  readonly rules: readonly string[];
}

/** Both chains of the table. */
export function nftChains(options: NftOptions): NftChain[] {
  const family = familyOf(options.network.address);
  const { family: ip } = NFT_TABLES[family];
  const network = formatPrefix(options.network);
  const subnet = formatPrefix(options.subnet);
  const masquerade = `masquerade${options.isFullyRandom ? ' fully-random' : ''}`;
  return [
    {
      name: 'postrtg',
      hook: 'type nat hook postrouting',
      priority: 100,
      comment: 'chain to manage traffic masquerading by flannel',
      isWanted: options.hasMasquerade,
      shared: ['meta mark 0x00004000 return'],
      rules: [
        `${ip} saddr ${subnet} ${ip} daddr ${network} return`,
        `${ip} saddr ${network} ${ip} daddr ${subnet} return`,
        `${ip} saddr != ${subnet} ${ip} daddr ${network} return`,
        `${ip} saddr ${network} ${ip} daddr != ${MULTICAST[family]} ${masquerade}`,
        `${ip} saddr != ${network} ${ip} daddr ${network} ${masquerade}`,
      ],
    },
    {
      name: 'forward',
      hook: 'type filter hook forward',
      priority: 0,
      comment: 'chain to accept flannel traffic',
      isWanted: options.hasForward,
      shared: [],
      rules: [`${ip} saddr ${network} accept`, `${ip} daddr ${network} accept`],
    },
  ];
}
