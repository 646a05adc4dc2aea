// One family's rules that let overlay traffic pass and leave: masquerade (--ip-masq), forward
// (--iptables-forward-rules) and the blackhole route (--ip-blackhole-route), in iptables or nftables, kept right by a
// resync.
//
// open() installs and starts the resync; close() stops it and leaves every rule in place, so that traffic goes on while
// the daemon is replaced. The rules stand when open() resolves, unless another program holds a lock: that is waited for
// beside the start, for peers and subnet.env need no rules. A failure never ends the daemon: it is shown by
// conditions() and tried again by each resync. Order within a pass: our own rules first, then the clean-up of the other
// kind, so that there is no moment without.

import { type Condition, Conditions, isPermission } from '../core/conditions.js';
import { ip, ROUTE_PROTOCOL } from '../kernel/ip.js';
import { listRoutes } from '../kernel/route.js';
import { messageOf, OverlayError } from '../core/errors.js';
import {
  type Address,
  type Family,
  familyOf,
  formatPrefix,
  type Prefix,
  prefixCovers,
  prefixEquals,
} from '../net/prefix.js';
import { ChainKeeper, probeIptables } from './iptables.js';
import { deleteTable, hasNft, printTable } from './nft.js';
import { parseTable, TableKeeper } from './nftables.js';
import { forwardChain, masqueradeChain, NFT_TABLES } from './rules.js';
import type { Route } from '../kernel/route.js';
import type { Logger } from '../core/log.js';

/** What is the same for both families. */
export interface RuleFlags {
  /** EnableNFTables of the network config. */
  readonly useNftables: boolean;
  /** --ip-masq */
  readonly hasMasquerade: boolean;
  /** Not --ip-masq-fully-random-disable. */
  readonly isFullyRandom: boolean;
  /** --iptables-forward-rules */
  readonly hasForward: boolean;
  /** --iptables-forward-first */
  readonly isForwardFirst?: boolean;
  /** --ip-blackhole-route */
  readonly hasBlackhole: boolean;
  /** --iptables-resync, in milliseconds; greater than 0. */
  readonly resyncMs: number;
  /** Ends what is being done, as close() does. */
  readonly signal?: AbortSignal | undefined;
  readonly log: Logger;
}

export interface FamilyFirewallOptions extends RuleFlags {
  readonly network: Prefix<Address>;
  /** The own lease. */
  readonly subnet: Prefix<Address>;
  /** Network that an earlier run of this daemon served and nobody serves now; its rules are removed. */
  readonly formerNetwork?: Prefix<Address> | undefined;
  /** The network has no other family: then there is none whose rules a table of it may hold. */
  readonly isOnly: boolean;
}

interface Keeper {
  /** The rule of another that makes ours useless, as of the last sync(). */
  readonly refusal?: string | undefined;
  sync(signal?: AbortSignal): Promise<boolean>;
}

/** The last of all metrics but one: a bridge's own route to the subnet always comes first. */
const BLACKHOLE_METRIC = 4294967294;

/** Parts without which the rules are still in force. */
const CLEANUPS = new Set(['blackhole route', 'rules of the other firewall mode']);

/**
 * Failures in a row after which rules that stood are said not to be in force: one that another program's lock or reload
 * spoils has changed nothing. Rules that never stood are missed at once.
 */
const SHOWN_AFTER = 2;

/** Subject of the condition that holds while the first pass is not through. */
const LATE = 'first pass';

/** How long the start waits for the first pass, which takes 40 to 100 ms where no lock is held. */
const PATIENCE_MS = 1_000;

export class FamilyFirewall {
  readonly #options: FamilyFirewallOptions;
  readonly #family: Family;
  readonly #closing = new AbortController();
  #keepers: Map<string, Keeper> | undefined;
  /** For each part that fails, how often it failed in a row, and the message of the last failure. */
  readonly #failures = new Map<string, { readonly message: string; readonly attempts: number }>();
  readonly #conditions = new Conditions();
  #isOtherModeClean = false;
  #usesNft: boolean;
  #repairs = 0;
  #hasInstalled = false;
  #running: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: FamilyFirewallOptions) {
    if (!(options.resyncMs > 0)) throw new RangeError(`resyncMs ${options.resyncMs}: expected more than 0`);
    this.#options = options;
    this.#family = familyOf(options.network.address);
    this.#usesNft = options.useNftables;
    options.signal?.addEventListener('abort', () => this.#closing.abort(), { once: true });
  }

  /**
   * Installs the rules and starts the resync. Resolves also when something failed, and after a second when the rules do
   * not stand by then: see conditions().
   */
  async open(): Promise<void> {
    const first = this.resync().then(() => {
      this.#hasInstalled = true;
      this.#conditions.release(LATE);
      this.#arm();
    });
    let timer: NodeJS.Timeout | undefined;
    const patience = new Promise<void>((resolve) => {
      timer = setTimeout(() => {
        const text = this.#say('the rules are not in place yet: a lock is waited for');
        this.#conditions.hold('firewall', text, LATE);
        resolve();
      }, PATIENCE_MS);
    });
    await Promise.race([first, patience]);
    clearTimeout(timer);
  }

  /** One pass: compare, repair, clean up the other mode. Passes do not overlap. Never rejects. */
  async resync(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#running ??= this.#pass().finally(() => {
      this.#running = undefined;
    });
    await this.#running;
  }

  /** Stops the resync; the rules stay. Idempotent. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    this.#closing.abort();
    await this.#running;
  }

  conditions(): readonly Condition[] {
    return this.#conditions.list();
  }

  /** Whether the rules are made with nft: because the network config says so, or for want of iptables. */
  get usesNft(): boolean {
    return this.#usesNft;
  }

  /** Tables found without our rules, or with other ones, after they had been installed. */
  get repairs(): number {
    return this.#repairs;
  }

  /** IPv4 goes without saying. */
  #say(text: string): string {
    return this.#family === 4 ? text : `IPv6: ${text}`;
  }

  #arm(): void {
    if (this.#closing.signal.aborted) return;
    this.#timer = setTimeout(() => {
      void this.resync().then(() => this.#arm());
    }, this.#options.resyncMs);
  }

  async #pass(): Promise<void> {
    const { signal } = this.#closing;
    const keepers =
      (await this.#attempt('firewall', async () => (this.#keepers ??= await this.#makeKeepers()))) ?? [];
    // Side by side, since each waits for a held lock.
    const syncs = Array.from(keepers, async ([what, keeper]) => {
      const hasChanged = await this.#attempt(what, () => keeper.sync(signal));
      const { refusal } = keeper;
      const refused = refusal && `${refusal} stands before ours: packets of the overlay are refused`;
      this.#conditions.set('forward-refused', refused && this.#say(refused), `refusal of ${what}`);
      if (hasChanged === true && this.#hasInstalled) {
        this.#repairs++;
        this.#options.log.warn({ what: this.#say(what) }, 'firewall rules were missing or changed, restored');
      }
    });
    await Promise.all(syncs);
    await this.#attempt('blackhole route', () => this.#syncBlackhole());
    if (!this.#isOtherModeClean) {
      await this.#attempt('rules of the other firewall mode', async () => {
        await (this.#usesNft ? this.#removeIptables() : this.#removeNftables());
        this.#isOtherModeClean = true;
      });
    }
  }

  /** Runs one part; a failure is noted under `what` until the part succeeds. */
  async #attempt<T>(what: string, part: () => Promise<T>): Promise<T | undefined> {
    try {
      const result = await part();
      this.#failures.delete(what);
      this.#conditions.release(what);
      return result;
    } catch (error) {
      if (this.#closing.signal.aborted) return undefined;
      const message = messageOf(error);
      const known = this.#failures.get(what);
      const attempts = this.#hasInstalled ? (known?.attempts ?? 0) + 1 : SHOWN_AFTER;
      if (known?.message !== message)
        this.#options.log.error({ err: error, what: this.#say(what) }, 'firewall part failed');
      this.#failures.set(what, { message, attempts });
      const code = CLEANUPS.has(what)
        ? 'firewall-cleanup'
        : isPermission(message)
          ? 'no-permission'
          : 'firewall';
      if (attempts >= SHOWN_AFTER) this.#conditions.hold(code, this.#say(`${what}: ${message}`), what);
      return undefined;
    }
  }

  async #makeKeepers(): Promise<Map<string, Keeper>> {
    const { hasMasquerade, hasForward, log } = this.#options;
    const { signal } = this.#closing;
    const tool = this.#family === 4 ? 'iptables' : 'ip6tables';
    const keepers = new Map<string, Keeper>();
    const features = this.#usesNft ? undefined : await probeIptables(this.#family, signal);
    if (features === undefined && !this.#usesNft) {
      if (!hasMasquerade && !hasForward) return keepers;
      if (!(await hasNft(signal))) {
        throw new OverlayError(
          'E_FIREWALL',
          `Cannot install rules: neither "${tool}" nor "nft" here (install one)`,
        );
      }
      log.info(`no ${tool} here: the rules are made with nft, as EnableNFTables would have it`);
      this.#usesNft = true;
    }
    if (features === undefined) return keepers.set('nftables rules', new TableKeeper(this.#options));
    const isFullyRandom = this.#options.isFullyRandom && features.isModern;
    const masquerade = masqueradeChain({ ...this.#options, isFullyRandom });
    keepers.set('masquerade rules', new ChainKeeper(masquerade, hasMasquerade, features));
    keepers.set('forward rules', new ChainKeeper(forwardChain(this.#options), hasForward, features));
    return keepers;
  }

  async #removeIptables(): Promise<void> {
    const { signal } = this.#closing;
    const features = await probeIptables(this.#family, signal);
    if (features === undefined) return;
    for (const chain of [masqueradeChain(this.#options), forwardChain(this.#options)]) {
      await new ChainKeeper(chain, false, features).sync(signal);
    }
  }

  async #removeNftables(): Promise<void> {
    const { signal } = this.#closing;
    const options = { ...this.#options, hasMasquerade: false, hasForward: false };
    try {
      await new TableKeeper(options).sync(signal);
      // flanneld makes a table for either family, and leaves that of the one that its network lacks without a rule.
      if (!this.#options.isOnly || (await printTable(NFT_TABLES[this.#family], signal)) !== undefined) return;
      const other = NFT_TABLES[this.#family === 4 ? 6 : 4];
      const text = await printTable(other, signal, true);
      if (text !== undefined && parseTable(text).every(({ rules }) => rules.length === 0))
        await deleteTable(other, signal);
    } catch (error) {
      // Without nft there is nothing of nft's to remove.
      if ((error as OverlayError).cause === undefined) throw error;
    }
  }

  /** Packets for a pod that does not exist must not follow the default route out and back in. */
  async #syncBlackhole(): Promise<void> {
    const { subnet, hasBlackhole, log } = this.#options;
    const { signal } = this.#closing;
    if (!hasBlackhole && this.#hasInstalled) return;
    const [ours, within] = await Promise.all([
      listRoutes({ protocol: ROUTE_PROTOCOL, family: this.#family }, signal),
      listRoutes({ within: subnet }, signal),
    ]);
    const isHole = (route: Route) => route.type === 'blackhole';
    const networks = [this.#options.network, this.#options.formerNetwork ?? this.#options.network];
    const isOurs = ({ prefix }: Route) => networks.some((network) => prefixCovers(network, prefix));
    for (const route of ours.filter((route) => isHole(route) && isOurs(route))) {
      if (hasBlackhole && prefixEquals(route.prefix, subnet)) continue;
      const prefix = formatPrefix(route.prefix);
      log.info({ prefix }, 'removing a former blackhole route');
      const words = ['proto', String(ROUTE_PROTOCOL), 'metric', String(route.metric)];
      await ip(['route', 'del', 'blackhole', prefix, ...words], signal);
    }
    if (!hasBlackhole || within.some((route) => isHole(route) && prefixEquals(route.prefix, subnet))) return;
    const words = ['proto', String(ROUTE_PROTOCOL), 'metric', String(BLACKHOLE_METRIC)];
    await ip(['route', 'add', 'blackhole', formatPrefix(subnet), ...words], signal);
  }
}
