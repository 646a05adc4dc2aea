// The steps by which an overlay is opened. Each has what the steps before it have made, and adds its own part.

import type { Backend } from '../backend/backend.js';
import { leasableRange, type NetworkConfig, prefixesOf } from '../config/network-config.js';
import { offloadSwitches } from '../config/options.js';
import type { ClosingStack } from '../core/closing.js';
import { NO_HANDOVER } from '../handover/handover.js';
import { abandonedNetworks, type FormerNetworks, type HeldNames } from '../kernel/held-names.js';
import type { ExternalInterface } from '../kernel/underlay.js';
import { UnderlayFollower } from '../kernel/underlay-follower.js';
import type { LeaseHost } from '../lease/lease.js';
import { familiesOf } from '../net/dual.js';
import { type DualPrefix, formatAddress, formatAddresses, formatPrefixes } from '../net/prefix.js';
import type { Membership, MembershipListener, StoredNetwork } from '../store/store.js';
import { ConfigInForce } from './config-in-force.js';
import { firstConfig } from './first-config.js';
import type { OverlayEnd, OverlayOptions } from './options.js';
import { OwnHost } from './own-host.js';
import { OwnSubnet } from './own-subnet.js';
import { beforeOpening, type OverlayParts, type OverlayProgress } from './parts.js';
import { Peers } from './peers.js';
import { ReconcileLoop } from './reconcile-loop.js';
import { readSubnetFile } from './subnet-file.js';
import { SubnetFileKeeper } from './subnet-file-keeper.js';
import type { OverlayFirewall, Surroundings } from './surroundings.js';

// Events tell of changes at once; this is for what no event tells.
const RECONCILE_MS = 10_000;

export interface OpeningOptions extends OverlayOptions {
  readonly names: HeldNames;
  readonly surroundings: Surroundings;
  /** Aborts when the overlay is closed, too. */
  readonly signal: AbortSignal;
  readonly closing: ClosingStack;
}

/** The network to join, and the interface to the other hosts. */
interface Entry {
  readonly network: StoredNetwork;
  readonly config: NetworkConfig;
  readonly iface: ExternalInterface;
  readonly underlay: UnderlayFollower;
  readonly inForce: ConfigInForce;
}

/** What the run before has left, as far as it is this host's to take over. */
interface Former {
  readonly subnets: DualPrefix | undefined;
  readonly networks: FormerNetworks;
}

export class OverlayOpening {
  /** Resolves when the overlay cannot go on. */
  readonly ended: Promise<OverlayEnd>;
  readonly #options: OpeningOptions;
  readonly #file: SubnetFileKeeper;
  #end: (end: OverlayEnd) => void = () => undefined;
  #progress: OverlayProgress;
  #membership: Membership | undefined;

  constructor(options: OpeningOptions) {
    this.#options = options;
    this.ended = new Promise((resolve) => (this.#end = resolve));
    this.#file = new SubnetFileKeeper(options.subnetFile, options.log);
    this.#progress = { ...beforeOpening(options), subnetFile: this.#file };
  }

  /** All steps. Rejects as openOverlay() does, and leaves what it has opened in the closing stack. */
  async run(): Promise<OverlayParts & OverlayProgress> {
    const { names, subnetFile } = this.#options;
    this.#has({});
    await names.holdSubnetFile(subnetFile);
    const entry = await this.#enter();
    const former = await this.#claim(entry.config);
    this.#options.closing.add('membership', { close: () => this.#membership?.close() });
    const backend = await this.#openBackend(entry, former);
    const host = { publicIp: entry.iface.publicIp, backend: await backend.publish() };
    const membership = await this.#join(entry, host, former);
    const own = await this.#openDataPath(entry, backend, membership);
    const peers = this.#watch(entry, backend, membership);
    const firewall = await this.#openFirewall(entry.config, own, former);
    await this.#announce(own, peers, membership);
    const parts = {
      subnetFile: this.#file,
      store: membership,
      underlay: entry.underlay,
      config: entry.inForce,
      backend,
      own,
      peers,
      firewall,
    };
    const { ownHost, reconciling } = this.#follow(parts, host, membership);
    await this.#watchRules(backend, firewall);
    return this.#has({ ...parts, ownHost, reconciling, phase: undefined });
  }

  // --- steps, in their order -----------------------------------------------------------------------------------

  /** The network of the store, or of the saved table; and the interface to the other hosts. */
  async #enter(): Promise<Entry> {
    const { store, log, signal, mayUseTable, handover, surroundings, underlay: flags } = this.#options;
    this.#phase('waiting for the network config');
    const isUrgent = handover?.isUrgent;
    const first = await firstConfig(store, log, signal, { mayUseTable, isUrgent });
    this.#phase('waiting for the external interface');
    const former = store.savedStart?.formerPublicIp();
    const { chooseInterface, checkFamilies, listLinks, now } = surroundings;
    await checkFamilies(first.config);
    const { publicIp: hinted, publicIpFrom } = first.hints;
    const wanted = {
      ...flags,
      ...(hinted?.v4 === undefined
        ? {}
        : { publicIp: formatAddress(hinted.v4), publicIpFrom: publicIpFrom?.v4 }),
      ...(hinted?.v6 === undefined
        ? {}
        : { publicIpv6: formatAddress(hinted.v6), publicIpv6From: publicIpFrom?.v6 }),
    };
    const iface = await chooseInterface(wanted, leasableRange(first.config), { former, signal });
    this.#phase('waiting for the network config');
    const network = await first.network(iface.publicIp);
    const { config } = network;
    const inForce = new ConfigInForce(config);
    const underlay = new UnderlayFollower({
      iface,
      // By what the host has now: the address of the last run is no better than another.
      choose: () => chooseInterface(wanted, leasableRange(inForce.config), { signal }),
      log,
      signal,
      list: listLinks,
      now,
    });
    this.#has({ underlay, config: inForce });
    for (const warning of config.warnings) log.warn(warning);
    const { name, address, publicIp } = iface;
    log.info(
      `using interface ${name} with address ${formatAddresses(address)}, public IP ${formatAddresses(publicIp)}`,
    );
    return { network, config, iface, underlay, inForce };
  }

  /** Before anything is acquired or touched: two daemons would take each other's lease, routes and rules. */
  async #claim(config: NetworkConfig): Promise<Former> {
    const { names, subnetFile, log } = this.#options;
    const held = prefixesOf(config);
    for (const family of familiesOf(held)) await names.holdNetwork(held[family]!);
    this.#phase(`waiting for the ${config.backendType} device`);
    const { subnets, networks, warnings } = await readSubnetFile(subnetFile);
    for (const warning of warnings) log.warn(warning);
    return { subnets, networks: await abandonedNetworks(networks, held) };
  }

  async #openBackend({ network, config, iface }: Entry, former: Former): Promise<Backend> {
    const { surroundings, names, log, offloads } = this.#options;
    const { sourceCheck, queues, lane, vxlanTxChecksum } = this.#options.backend;
    const backend = await surroundings.openBackend({
      config,
      iface,
      sourceCheck,
      queues,
      lane,
      vxlanTxChecksum,
      formerBackend: network.hints?.backend,
      log,
      offload: offloadSwitches(offloads),
      networks: [prefixesOf(config), former.networks]
        .flatMap(({ v4, v6 }) => [v4, v6])
        .filter((one) => one !== undefined),
      holdDevice: (name) => names.holdDevice(name),
      handover: this.#options.handover ?? NO_HANDOVER,
    });
    this.#options.closing.add('backend', backend);
    this.#has({ backend });
    return backend;
  }

  async #join({ network }: Entry, host: LeaseHost, former: Former): Promise<Membership> {
    const { signal, log } = this.#options;
    this.#phase('waiting for a lease');
    const membership = await network.join({ host, previousSubnets: former.subnets }, signal);
    // Closed after the backend, which goes on for its peers until then; see run().
    this.#membership = membership;
    if (signal.aborted) await membership.close();
    signal.throwIfAborted();
    this.#has({ store: membership });
    log.info(`own subnet is ${formatPrefixes(membership.own)}`);
    return membership;
  }

  async #openDataPath({ config }: Entry, backend: Backend, membership: Membership): Promise<OwnSubnet> {
    this.#phase(`waiting for the ${backend.type} data path`);
    const { mtuBytes } = await backend.start(membership.own);
    const { ipMasq } = this.#options.firewall;
    const networks = prefixesOf(config);
    const own = new OwnSubnet({ networks, subnets: membership.own, mtuBytes, ipMasq, file: this.#file });
    this.#has({ own });
    return own;
  }

  /** Peers before rules: with a saved table the overlay was up a moment ago, and packets are waiting. */
  #watch({ config, underlay, inForce }: Entry, backend: Backend, membership: Membership): Peers {
    const judge = {
      networks: prefixesOf(config),
      leasable: leasableRange(config),
      own: membership.own,
      ownPublicIp: underlay.iface.publicIp,
    };
    const fullBytes = (): number => underlay.iface.mtuBytes;
    const peers = new Peers({ judge, backend, fullBytes, log: this.#options.log });
    this.#options.closing.add('peers', peers);
    this.#has({ peers });
    const listener: MembershipListener = {
      onLeases: (update) => peers.apply(update),
      onConfig: (stored) => inForce.noteStored(stored),
      onConfirmed: (stored) => inForce.confirm(stored),
      onOutdated: () => this.#end({ kind: 'outdated' }),
      onOwnLeaseLost: (error) => this.#end({ kind: 'lost', error }),
    };
    membership.watch(listener);
    return peers;
  }

  /** A lock that somebody holds keeps neither peers nor pods waiting: see Firewall.open(). */
  async #openFirewall(config: NetworkConfig, own: OwnSubnet, former: Former): Promise<OverlayFirewall> {
    const { firewall: flags, surroundings, closing, signal, log } = this.#options;
    this.#phase('waiting for the firewall rules');
    const firewall = surroundings.openFirewall({
      networks: prefixesOf(config),
      subnets: own.subnets,
      formerNetworks: former.networks,
      useNftables: config.enableNftables,
      hasMasquerade: flags.ipMasq,
      isFullyRandom: !flags.isNotFullyRandom,
      hasForward: flags.hasForward,
      isForwardFirst: flags.isForwardFirst,
      hasBlackhole: flags.hasBlackhole,
      resyncMs: flags.resyncSeconds * 1000,
      signal,
      log,
    });
    closing.add('firewall', firewall);
    this.#has({ firewall });
    await firewall.open();
    signal.throwIfAborted();
    return firewall;
  }

  /** From the moment that subnet.env is there, pods are started. */
  async #announce(own: OwnSubnet, peers: Peers, membership: Membership): Promise<void> {
    const { closing, probes, surroundings } = this.#options;
    closing.add('subnet file', this.#file);
    await own.write();
    membership.announce?.();
    if (probes.pathProbes) await peers.probers.open(surroundings.openIcmp);
  }

  /** From now on the kernel, the interface and the lease are kept to what they should be. */
  #follow(
    parts: Omit<OverlayParts, 'ownHost' | 'reconciling'>,
    host: LeaseHost,
    membership: Membership,
  ): Pick<OverlayParts, 'ownHost' | 'reconciling'> {
    const { store, log, signal, closing, surroundings } = this.#options;
    signal.throwIfAborted();
    const ownHost = new OwnHost({
      host,
      publish: membership.publish?.bind(membership),
      store: store.kind,
      onPublished: () => void reconciling.soon(),
    });
    const lookAgain = (afterMs: number): void =>
      void setTimeout(() => void reconciling.soon(), afterMs).unref();
    const run = (): Promise<void> => compare({ ...parts, ownHost }, lookAgain);
    const reconciling = new ReconcileLoop({ run, log, signal });
    closing.add('comparison of the kernel', reconciling);
    this.#has({ ownHost, reconciling });
    reconciling.every(RECONCILE_MS);
    closing.add(
      'kernel monitor',
      surroundings.watchKernel(() => reconciling.soon(), log),
    );
    return { ownHost, reconciling };
  }

  /** Only where rules in nftables must not be missing for long: the source check, and rules made with nft. */
  async #watchRules(backend: Backend, firewall: OverlayFirewall): Promise<void> {
    const { surroundings, closing, log, signal } = this.#options;
    const isGuarded = backend.rulesChanged !== undefined && this.#options.backend.sourceCheck !== 'off';
    if (!(isGuarded || firewall.usesNft)) return;
    const onChange = async (): Promise<void> => {
      void firewall.resync(); // it may wait for a lock, the source check must not
      await backend.rulesChanged?.();
    };
    const monitor = await surroundings.watchRules(onChange, log, signal);
    if (monitor !== undefined) closing.add('nft monitor', monitor);
  }

  // --- how far it is -------------------------------------------------------------------------------------------

  /** The next step waits for this. */
  #phase(phase: string): void {
    this.#options.signal.throwIfAborted();
    this.#has({ phase });
  }

  #has<T extends Partial<OverlayProgress>>(more: T): OverlayProgress & T {
    const progress = { ...this.#progress, ...more };
    this.#progress = progress;
    this.#options.onProgress?.(progress);
    return progress;
  }
}

/**
 * Compares what is outside with what it should be. The table and the sockets know a new public IP before the store
 * does: what peers hear of us late is heard by nobody else.
 */
async function compare(
  parts: Omit<OverlayParts, 'reconciling'>,
  lookAgain: (afterMs: number) => void,
): Promise<void> {
  const { underlay, backend, own, peers, ownHost, subnetFile } = parts;
  const { isDone, againInMs } = await underlay.look(async (iface) => {
    peers.probers.interfaceChanged();
    const { mtuBytes } = await backend.underlayChanged(iface);
    peers.interfaceChanged();
    await own.setMtu(mtuBytes);
  });
  if (againInMs !== undefined) lookAgain(againInMs);
  const { publicIp } = underlay.iface;
  if (isDone) peers.ownPublicIpIs(publicIp);
  ownHost.follow(isDone ? publicIp : undefined);
  await backend.reconcile();
  await subnetFile.check();
}
