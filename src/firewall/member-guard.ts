// Source check of the vxlan mode: VXLAN datagrams with our VNI are taken only from the public IPs of the members.
//
// VXLAN has no authentication, and a VXLAN socket listens on every address whatever `local` says, so that without a
// guard anyone who reaches the port can put frames into the overlay. One nft table of our own holds, for each VNI of
// this host, a set of addresses and a chain of one rule: another daemon serves another VNI. The rule matches the VNI
// inside the datagram, because other overlays may share the port; it hangs on "input", so that traffic between other
// hosts which this one only forwards is not touched. Datagrams of IPv6 have a table of their own, with a guard of its
// own.
//
// Set and chain appear with the first snapshot of members, complete: a guard without members would cut the traffic that
// a daemon before us set up. They stay when we end, as the rest of the mode does.

import { applyTransaction, deleteTable, listTable } from './nft.js';
import { type Address, type Family, formatAddress, parseAnyAddress } from '../net/prefix.js';
import type { NftObject, NftTable } from './nft.js';
import type { SourceCheck } from '../config/options.js';

export const GUARD_TABLE = 'twill-vxlan';

export interface MemberGuardOptions {
  /** Of the datagrams; the members' addresses are of it. @default 4 */
  readonly family?: Family;
  readonly port: number;
  readonly vni: number;
  /** "audit" counts and lets pass; "off" removes a guard that an earlier run left. */
  readonly sourceCheck: SourceCheck;
}

/** The table of a family's guards. */
export function guardTable(family: Family): NftTable {
  return { family: family === 4 ? 'ip' : 'ip6', name: GUARD_TABLE };
}

export class MemberGuard {
  readonly #options: MemberGuardOptions;
  readonly #table: NftTable;
  /** Leases by public IP: two subnets may belong to one host. */
  readonly #leaseCounts = new Map<Address, number>();
  /** What the set in the kernel holds, as far as we know; undefined when that must be looked up. */
  #applied: Set<Address> | undefined;
  readonly #touched = new Set<Address>();
  #hasMembers = false;
  /** Leases, the timer and nft's monitor all lead to a run; they do not overlap. */
  #turn: Promise<void> = Promise.resolve();
  #failure: string | undefined;
  #dropped = 0;
  #repairs = 0;

  constructor(options: MemberGuardOptions) {
    this.#options = options;
    this.#table = guardTable(options.family ?? 4);
  }

  get #name(): string {
    return `the source check of VXLAN${this.#table.family === 'ip' ? '' : ' over IPv6'}`;
  }

  /** A lease names `publicIp`. */
  add(publicIp: Address): void {
    this.#leaseCounts.set(publicIp, (this.#leaseCounts.get(publicIp) ?? 0) + 1);
    this.#touched.add(publicIp);
  }

  /** A lease that named `publicIp` is gone. */
  remove(publicIp: Address): void {
    const count = (this.#leaseCounts.get(publicIp) ?? 0) - 1;
    if (count > 0) this.#leaseCounts.set(publicIp, count);
    else this.#leaseCounts.delete(publicIp);
    this.#touched.add(publicIp);
  }

  /** The members known by now are all there are; before this sync() does nothing. */
  setComplete(): void {
    this.#hasMembers = true;
  }

  /** Makes the kernel's set follow; a failure is kept for `failure` and tried again with the next call. */
  sync(): Promise<void> {
    return this.#inTurn(() => this.#sync());
  }

  /** Compares the table with what it should be and repairs it; like sync() it never rejects. */
  verify(): Promise<void> {
    return this.#inTurn(() => this.#verify());
  }

  #inTurn(run: () => Promise<void>): Promise<void> {
    return (this.#turn = this.#turn.then(run));
  }

  async #sync(): Promise<void> {
    if (!this.#hasMembers) return;
    const touched = [...this.#touched];
    this.#touched.clear();
    try {
      if (this.#options.sourceCheck === 'off') {
        if (this.#applied === undefined) await removeGuard(this.#options.vni, this.#options.family);
        this.#applied = new Set();
      } else if (this.#applied === undefined) {
        await this.#install();
      } else if (touched.length > 0) {
        await this.#update(touched, this.#applied);
      }
      this.#failure = undefined;
    } catch (error) {
      this.#applied = undefined;
      this.#failure = `${this.#name} is not in force: ${(error as Error).message}`;
    }
  }

  async #verify(): Promise<void> {
    if (this.#hasMembers && this.#options.sourceCheck !== 'off' && this.#applied !== undefined) {
      try {
        const objects = await listTable(this.#table);
        if (objects === undefined || !this.#isInOrder(objects)) {
          this.#repairs++;
          this.#applied = undefined;
        }
      } catch (error) {
        this.#failure = `${this.#name} cannot be verified: ${(error as Error).message}`;
        return;
      }
    }
    await this.#sync();
  }

  /** Why the guard is not in force; undefined when it is, or when it is not wanted. */
  get failure(): string | undefined {
    return this.#failure;
  }

  /** Datagrams refused, as of the last verify(). */
  get dropped(): number {
    return this.#dropped;
  }

  /** How often the table was found missing or changed. */
  get repairs(): number {
    return this.#repairs;
  }

  async #install(): Promise<void> {
    const members = [...this.#leaseCounts.keys()];
    const former = formerLines((await listTable(this.#table)) ?? [], this.#options.vni);
    await applyTransaction(former + formatGuard(this.#options, members));
    this.#applied = new Set(members);
  }

  async #update(touched: readonly Address[], applied: Set<Address>): Promise<void> {
    // Decided now, because leases may come and go while nft runs.
    const added = touched.filter((address) => this.#leaseCounts.has(address) && !applied.has(address));
    const removed = touched.filter((address) => !this.#leaseCounts.has(address) && applied.has(address));
    if (added.length + removed.length === 0) return;
    const place = `${this.#table.family} ${GUARD_TABLE} ${namesOf(this.#options.vni).set}`;
    const change = (verb: string, address: Address): string =>
      `${verb} element ${place} { ${formatAddress(address)} }\n`;
    const lines = [
      ...removed.map((address) => change('delete', address)),
      ...added.map((address) => change('add', address)),
    ];
    try {
      await applyTransaction(lines.join(''));
    } catch {
      await this.#install(); // the set was changed under our hands: put all of it right
      return;
    }
    for (const address of removed) applied.delete(address);
    for (const address of added) applied.add(address);
  }

  #isInOrder(objects: readonly NftObject[]): boolean {
    const names = namesOf(this.#options.vni);
    const rules = objects.map((object) => object['rule']).filter((rule) => rule?.['chain'] === names.chain);
    const named = (kind: 'set' | 'chain') =>
      objects.map((object) => object[kind]).find((found) => found?.['name'] === names[kind]);
    const [set, chain] = [named('set'), named('chain')];
    if (rules[0] === undefined || rules.length !== 1 || chain?.['hook'] !== 'input' || set === undefined)
      return false;
    this.#readDropped(rules[0]);
    const elements = (set['elem'] as readonly unknown[] | undefined) ?? [];
    const wanted = this.#applied!;
    return (
      rules[0]['comment'] === ruleComment(this.#options) &&
      elements.length === wanted.size &&
      elements.every((element) => isMember(element, wanted))
    );
  }

  #readDropped(rule: Readonly<Record<string, unknown>>): void {
    const expressions =
      (rule['expr'] as readonly Readonly<Record<string, { packets?: number } | null>>[]) ?? [];
    for (const expression of expressions) {
      const packets = expression['counter']?.packets;
      if (packets !== undefined) this.#dropped = packets;
    }
  }
}

/** Names everything the rule depends on, so that comparing the comment is comparing the rule. */
function ruleComment(options: MemberGuardOptions): string {
  const verb = options.sourceCheck === 'audit' ? 'note' : 'drop';
  return `${verb} VNI ${options.vni} on port ${options.port} from hosts without a lease`;
}

/** What of the table belongs to a VNI. */
function namesOf(vni: number): { readonly set: string; readonly chain: string } {
  return { set: `members_${vni}`, chain: `input_${vni}` };
}

/** Set and chain of our VNI as one transaction that replaces what was there. */
export function formatGuard(options: MemberGuardOptions, members: readonly Address[]): string {
  const { set, chain } = namesOf(options.vni);
  const { family } = guardTable(options.family ?? 4);
  const type = family === 'ip' ? 'ipv4_addr' : 'ipv6_addr';
  const elements =
    members.length === 0 ? '' : `\n    elements = { ${members.map(formatAddress).join(', ')} }`;
  const verdict = options.sourceCheck === 'audit' ? 'accept' : 'drop';
  // @th,96,24: the VNI is 4 bytes into the VXLAN header, which follows 8 bytes of UDP (RFC 7348 section 5).
  const match = `udp dport ${options.port} @th,96,24 ${options.vni} ${family} saddr != @${set}`;
  // Priority −10: before the filter tables, so that an "accept" there does not matter; drops are final in any case.
  // "add" before "delete", since "destroy" needs nft 1.0.7 and Linux 6.3.
  return `add table ${family} ${GUARD_TABLE}
add chain ${family} ${GUARD_TABLE} ${chain}
flush chain ${family} ${GUARD_TABLE} ${chain}
delete chain ${family} ${GUARD_TABLE} ${chain}
add set ${family} ${GUARD_TABLE} ${set} { type ${type}; }
delete set ${family} ${GUARD_TABLE} ${set}
table ${family} ${GUARD_TABLE} {
  set ${set} {
    type ${type}${elements}
  }
  chain ${chain} {
    type filter hook input priority -10; policy accept;
    ${match} counter ${verdict} comment "${ruleComment(options)}"
  }
}
`;
}

/** Removes set and chain of a VNI, and the table with the last of them. Rejects with OverlayError E_FIREWALL. */
export async function removeGuard(vni: number, family: Family = 4): Promise<void> {
  const table = guardTable(family);
  const inTable = `${table.family} ${GUARD_TABLE}`;
  const objects = await listTable(table);
  if (objects === undefined) return;
  const { set, chain } = namesOf(vni);
  const names = objects.map((object) => (object['set'] ?? object['chain'])?.['name'] as string | undefined);
  const former = formerLines(objects, vni);
  const ours = [set, chain, ...(former === '' ? [] : [FORMER.set, FORMER.chain])];
  if (names.every((name) => name === undefined || ours.includes(name))) {
    await deleteTable(table);
    return;
  }
  const lines = [];
  if (names.includes(chain)) lines.push(`delete chain ${inTable} ${chain}\n`);
  if (names.includes(set)) lines.push(`delete set ${inTable} ${set}\n`);
  if (former !== '' || lines.length > 0) await applyTransaction(former + lines.join(''));
}

/** Up to 0.1.0 the table was that of one daemon. */
const FORMER = { set: 'members', chain: 'input' };

/** Lines that remove what a former version left for our VNI; empty when there is nothing. */
function formerLines(objects: readonly NftObject[], vni: number): string {
  const isFormer = objects.some(({ rule }) => {
    const comment = (rule?.['comment'] as string | undefined) ?? '';
    return rule?.['chain'] === FORMER.chain && / VNI (\d+) on port /.exec(comment)?.[1] === String(vni);
  });
  if (!isFormer) return '';
  const { set, chain } = FORMER;
  return `delete chain ip ${GUARD_TABLE} ${chain}\ndelete set ip ${GUARD_TABLE} ${set}\n`;
}

function isMember(element: unknown, members: ReadonlySet<Address>): boolean {
  const address = typeof element === 'string' ? parseAnyAddress(element) : undefined;
  return address !== undefined && members.has(address);
}
