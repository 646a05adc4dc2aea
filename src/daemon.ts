// The daemon: what is started in which order, and stopped in the reverse.
//
//   health server ─► store: config ─► external interface ─► backend: lease data ─► store: lease ─► backend: device
//   ─► store: watch ─► firewall, a second at most ─► subnet.env ─► kernel monitor ─► READY=1
//
// From then on everything is an event: leases from the store become a diff for the backend; changes in the kernel, and
// a timer, make the backend compare the kernel with what it wants. Nothing that happens at run time ends the daemon but
// a signal and the loss of the own lease; what is wrong is shown by /readyz until it is right again.

import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import type { Backend, PeerDetail } from './backend/backend.js';
import { DiffPacer } from './overlay/pacer.js';
import { BACKENDS } from './backend/registry.js';
import { type Condition, condition, conditionOfMany, makesUnready } from './core/conditions.js';
import type { Flags } from './config/flags.js';
import { leasableRange, type NetworkConfig } from './config/network-config.js';
import { offloadSwitches } from './config/options.js';
import { ClosingStack } from './core/closing.js';
import { OverlayError } from './core/errors.js';
import { Firewall } from './firewall/firewall.js';
import { hasNft } from './firewall/nft.js';
import { openNftMonitor } from './firewall/nft-monitor.js';
import { chooseExternalInterface, type ExternalInterface } from './kernel/underlay.js';
import { traceCommands } from './kernel/command.js';
import { checkHost } from './kernel/host-checks.js';
import { abandonedNetwork, HeldNames } from './kernel/held-names.js';
import { openMonitor } from './kernel/monitor.js';
import { describeInterface, UnderlayFollower } from './kernel/underlay-follower.js';
import { readNetstat } from './kernel/netstat.js';
import type { LeaseUpdate, Peer, PeerDiff } from './lease/lease.js';
import { type LeaseChange, LeaseView } from './lease/lease-view.js';
import { formatIpv4, type Ipv4, parseIpv4 } from './net/ipv4.js';
import { formatPrefix, type Prefix } from './net/prefix.js';
import { openControlSocket } from './ops/control-socket.js';
import { Health } from './ops/health.js';
import { logHealth } from './ops/health-log.js';
import { healthMetrics } from './ops/health-metrics.js';
import { type HttpOptions, openHttpServer } from './ops/http.js';
import type { Logger } from './core/log.js';
import { Metrics } from './ops/metrics.js';
import { ServiceNotifier, statusLine } from './ops/sd-notify.js';
import type { OverlayPeer } from './probe/overlay-prober.js';
import { Probers, type ProbersOptions } from './probe/probers.js';
import { firstConfig } from './overlay/first-config.js';
import { OwnHost } from './overlay/own-host.js';
import { ReconcileLoop } from './overlay/reconcile-loop.js';
import { openStore } from './store/registry.js';
import type { LeaseStore, Membership } from './store/store.js';
import { readSubnetFile } from './overlay/subnet-file.js';
import { SubnetFileKeeper } from './overlay/subnet-file-keeper.js';
import type { MetricFamily } from './core/metric.js';

// Events tell of changes at once; this is for what no event tells.
const RECONCILE_MS = 10_000;

// A signal ends the daemon within a second, whatever hangs: what is being done gets the first time, what is to be closed
// the second, of which a data path with a thread that hangs takes 750 ms.
const INTERRUPT_MS = 100;
const CLOSE_MS = 800;

/** How late a condition may be in the log, and its time of beginning. */
const HEALTH_MS = 1_000;

/**
 * Runs until `signal` aborts, then stops everything in reverse order and resolves. Rejects with OverlayError when it
 * cannot start, and with E_LEASE_LOST when the own lease is gone for good; everything is stopped by then as well.
 */
export async function runDaemon(
  flags: Flags,
  log: Logger,
  version: string,
  signal: AbortSignal,
): Promise<void> {
  const notifier = await openNotifier();
  try {
    let end: Ending = 'stopped';
    do {
      // The store has answered just now, so what is started again does not look at the saved table.
      const mayUseTable = end === 'stopped';
      if (!mayUseTable) notifier.startWatchdog(); // of the process: a wait for a lease is no hang
      end = await runOnce({ flags, log, version, notifier, mayUseTable }, signal);
    } while (end === 'again' && !signal.aborted);
  } finally {
    notifier.close();
  }
}

/** 'again': the store's config makes another overlay than the saved table, from which we had started. */
type Ending = 'stopped' | 'again';

/** Of a peer, before the probes are open. */
const STARTING = { state: 'unknown', reason: 'path probes are switched off' };

interface DaemonOptions {
  readonly flags: Flags;
  readonly log: Logger;
  readonly version: string;
  readonly notifier: ServiceNotifier;
  /** Whether to start from the saved table when the store does not answer. */
  readonly mayUseTable: boolean;
}

async function runOnce(options: DaemonOptions, signal: AbortSignal): Promise<Ending> {
  const over = new AbortController();
  const daemon = new Daemon(options, AbortSignal.any([signal, over.signal]));
  try {
    const interrupted = aborted(signal).then(() => delay(INTERRUPT_MS));
    return await Promise.race([daemon.run(), interrupted.then((): Ending => 'stopped')]);
  } catch (error) {
    if (!signal.aborted) throw error;
    return 'stopped';
  } finally {
    over.abort(new Error('daemon closed'));
    await daemon.close();
  }
}

class Daemon {
  readonly #flags: Flags;
  readonly #log: Logger;
  readonly #version: string;
  readonly #notifier: ServiceNotifier;
  readonly #mayUseTable: boolean;
  readonly #signal: AbortSignal;
  readonly #health = new Health();
  readonly #closing: ClosingStack;
  readonly #names: HeldNames;
  readonly #startedMs = performance.now();
  #store!: LeaseStore;
  #member: Membership | undefined;
  #backend: Backend | undefined;
  #pacer: DiffPacer | undefined;
  #probers: Probers<Peer> | undefined;
  #firewall: Firewall | undefined;
  #config: NetworkConfig | undefined;
  #underlay: UnderlayFollower | undefined;
  #ownSubnet: Prefix | undefined;
  #mtuBytes = 0;
  #view: LeaseView | undefined;
  #own: OwnHost | undefined;
  #publicIpFault: Condition | undefined;
  #configFault: string | undefined;
  readonly #subnetFile: SubnetFileKeeper;
  /** The backend's own, once it is open. */
  #device: string | undefined;
  readonly #reconciling: ReconcileLoop;
  /** What this host does while it is ready. */
  #duty = '';
  /** What the start waits for. */
  #phase: string | undefined = 'starting';
  #hasSnapshot = false;
  #lost: (error: OverlayError) => void = () => undefined;
  #startAgain: () => void = () => undefined;

  constructor(options: DaemonOptions, signal: AbortSignal) {
    this.#flags = options.flags;
    this.#log = options.log;
    this.#closing = new ClosingStack(options.log, CLOSE_MS);
    const owner = `pid ${process.pid}, ${options.version}, ${options.flags.store.kind}`;
    this.#names = this.#closing.add('names', new HeldNames(owner, (text) => options.log.warn(text)));
    this.#subnetFile = new SubnetFileKeeper(options.flags.files.subnetFile, options.log);
    this.#version = options.version;
    this.#notifier = options.notifier;
    this.#mayUseTable = options.mayUseTable;
    this.#signal = signal;
    const { log } = options;
    this.#reconciling = new ReconcileLoop({ run: () => this.#reconcile(), log, signal });
  }

  async run(): Promise<Ending> {
    const flags = this.#flags;
    const notifier = this.#notifier;
    const again = new Promise<Ending>((resolve) => (this.#startAgain = () => resolve('again')));
    const leaseLost = new Promise<never>((_resolve, reject) => (this.#lost = reject));
    leaseLost.catch(() => undefined); // it may come while something else is awaited

    await this.#names.holdSubnetFile(flags.files.subnetFile);
    this.#store = openStore(flags, this.#log);
    this.#closing.add('store', this.#store);
    traceCommands((command, end, ms) => this.#log.debug({ command, end, ms: Math.round(ms) }, 'command'));
    this.#openHealth(notifier);
    await this.#openServers();

    this.#phase = 'waiting for the network config';
    const first = await firstConfig(this.#store, this.#log, this.#signal, this.#mayUseTable);
    this.#signal.throwIfAborted();
    this.#phase = 'waiting for the external interface';
    const iface = await chooseExternalInterface(flags.underlay, leasableRange(first.config), {
      former: this.#store.savedStart?.formerPublicIp(),
      signal: this.#signal,
    });
    this.#underlay = new UnderlayFollower({
      iface,
      choose: () => this.#chooseInterface(),
      onChange: (changed) => this.#tellOfInterface(changed),
      lookSoon: () => void this.#reconciling.soon(),
      log: this.#log,
      signal: this.#signal,
    });
    this.#phase = 'waiting for the network config';
    const stored = await first.network(iface.publicIp);
    const { config } = stored;
    this.#config = config;
    for (const warning of config.warnings) this.#log.warn(warning);
    this.#log.info(
      `using interface ${iface.name} with address ${formatIpv4(iface.address)}, public IP ${formatIpv4(iface.publicIp)}`,
    );

    // Before anything is acquired or touched: two daemons would take each other's lease, routes and rules.
    await this.#names.holdNetwork(config.network);
    this.#phase = `waiting for the ${config.backendType} device`;
    const previous = await readSubnetFile(flags.files.subnetFile);
    for (const warning of previous.warnings) this.#log.warn(warning);
    const former = await abandonedNetwork(previous.network, config.network);
    const backend = await this.#openBackend(config, iface, former);
    const host = { publicIp: { v4: iface.publicIp }, backend: await backend.leaseData() };
    this.#phase = 'waiting for a lease';
    const member = await stored.join({ host, previousSubnet: previous.subnet }, this.#signal);
    this.#closing.add('membership', member);
    this.#member = member;
    this.#own = new OwnHost({
      host,
      publish: (next) => member.publish?.(next),
      readOnlyKind: member.publish === undefined ? this.#store.kind : undefined,
      onPublished: () => void this.#reconciling.soon(),
    });
    const ownSubnet = member.own;
    this.#ownSubnet = ownSubnet;
    this.#log.info(`own subnet is ${formatPrefix(ownSubnet)}`);
    this.#signal.throwIfAborted();

    this.#phase = `waiting for the ${backend.type} data path`;
    this.#mtuBytes = (await backend.open(ownSubnet)).mtuBytes;
    this.#device = backend.status().detail['device'] as string | undefined;
    this.#view = new LeaseView({
      network: config.network,
      leasable: leasableRange(config),
      ownSubnet,
      ownPublicIp: iface.publicIp,
    });
    // A firewall lock that somebody holds keeps neither peers nor pods waiting: see Firewall.open().
    member.watch({
      onLeases: (update) => this.#applyLeases(update),
      onConfig: (changed) => this.#noteConfig(changed),
      onConfirmed: (confirmed) => (this.#config = confirmed),
      onOutdated: () => this.#startAgain(),
      onOwnLeaseLost: (error) => this.#lost(error),
    });
    this.#phase = 'waiting for the firewall rules';
    await this.#openFirewall(config, ownSubnet, former);
    this.#signal.throwIfAborted();
    this.#closing.add('subnet file', this.#subnetFile);
    await this.#writeSubnetFile();
    const pathProbes = await this.#openProbers();
    this.#watchKernel();
    await this.#watchRules();
    this.#phase = undefined;
    this.#duty = `forwarding for ${formatPrefix(ownSubnet)} (${backend.type})`;
    notifier.ready();
    notifier.startWatchdog(() => backend.isAlive?.() ?? true);
    const afterMs = Math.round(performance.now() - this.#startedMs);
    this.#health.setStarted(true);
    if (this.#health.look().isReady) this.#log.info({ pathProbes }, `ready after ${afterMs} ms`);
    else this.#log.error({ pathProbes }, `not ready after ${afterMs} ms: see what is wrong above`);

    const end = await Promise.race([leaseLost, again, aborted(this.#signal)]);
    if (end === 'again') return end;
    notifier.stopping();
    return 'stopped';
  }

  async close(): Promise<void> {
    this.#health.setStarted(false);
    await this.#closing.close();
  }

  async #openServers(): Promise<void> {
    const { healthzIp, healthzPort, metricsIp, metricsPort, controlSocket } = this.#flags.servers;
    const metrics = new Metrics({
      backend: () => [...(this.#backend?.metrics() ?? []), ...(this.#firewall?.metrics() ?? [])],
      gauges: () => [
        ...this.#gauges(),
        ...(this.#member ?? this.#store).metrics(),
        ...(this.#probers?.metrics() ?? []),
      ],
      version: this.#version,
    });
    const served: Omit<HttpOptions, 'listen'> = {
      health: this.#health,
      metrics,
      status: () => this.#status(),
      log: this.#log,
    };
    if (healthzPort > 0) {
      const server = await openHttpServer({ ...served, listen: { ip: healthzIp, port: healthzPort } });
      this.#closing.add('health server', server);
    }
    if (metricsPort > 0) {
      const listen = { ip: metricsIp, port: metricsPort };
      const server = await openHttpServer({ ...served, listen, paths: new Set(['/metrics']) });
      this.#closing.add('metrics listener', server);
    }
    if (controlSocket === 'off') return;
    try {
      const socket = await openControlSocket(controlSocket, served);
      this.#closing.add('control socket', socket);
    } catch (error) {
      // An operator's view is no reason not to forward.
      this.#log.warn(`${messageOf(error)}; the program twill cannot ask this daemon`);
    }
  }

  async #openBackend(
    config: NetworkConfig,
    iface: ExternalInterface,
    former: Prefix | undefined,
  ): Promise<Backend> {
    const load = Object.hasOwn(BACKENDS, config.backendType) ? BACKENDS[config.backendType] : undefined;
    if (load === undefined) {
      const known = Object.keys(BACKENDS).join(', ');
      throw new OverlayError(
        'E_BACKEND',
        `Unknown backend type "${config.backendType}": expected one of ${known}`,
      );
    }
    const { sourceCheck, queues, vxlanTxChecksum } = this.#flags.backend;
    const offload = offloadSwitches(this.#flags.offloads);
    const factory = await load();
    this.#backend = factory({
      config,
      iface,
      sourceCheck,
      queues,
      offload,
      vxlanTxChecksum,
      networks: [config.network, ...(former === undefined ? [] : [former])],
      holdDevice: (name) => this.#names.holdDevice(name),
      log: this.#log,
    });
    this.#closing.add('backend', this.#backend);
    this.#pacer = new DiffPacer((diff) => this.#applyDiff(diff));
    this.#closing.add('lease changes', this.#pacer);
    return this.#backend;
  }

  async #openFirewall(
    config: NetworkConfig,
    subnet: Prefix,
    formerNetwork: Prefix | undefined,
  ): Promise<void> {
    const flags = this.#flags.firewall;
    this.#firewall = new Firewall({
      network: config.network,
      subnet,
      formerNetwork,
      useNftables: config.enableNftables,
      hasMasquerade: flags.ipMasq,
      isFullyRandom: !flags.isNotFullyRandom,
      hasForward: flags.hasForward,
      isForwardFirst: flags.isForwardFirst,
      hasBlackhole: flags.hasBlackhole,
      resyncMs: flags.resyncSeconds * 1000,
      signal: this.#signal,
      log: this.#log,
    });
    this.#closing.add('firewall', this.#firewall);
    await this.#firewall.open();
  }

  #writeSubnetFile(): Promise<void> {
    const network = this.#config!.network;
    const { ipMasq } = this.#flags.firewall;
    return this.#subnetFile.write({ network, subnet: this.#ownSubnet!, mtuBytes: this.#mtuBytes, ipMasq });
  }

  /** Says whose socket they have, or 'off'. */
  async #openProbers(): Promise<string> {
    const backend = this.#backend!;
    const options: ProbersOptions<Peer> = {
      fullBytes: () => this.#underlay!.iface.mtuBytes,
      onPathMtu: (publicIp, mtuBytes) => backend.pathMtuChanged?.(publicIp, mtuBytes),
      targetOf: (peer) => backend.echoTarget(peer),
      packetsOf: (peer) => backend.peerPackets?.(peer),
      nameOf,
      loadAddon: async () => (await import('./native/native.js')).native,
    };
    const { pathProbes } = this.#flags.probes;
    const probers = pathProbes ? await Probers.open(options) : Probers.off(options);
    this.#probers = this.#closing.add('path probes', probers);
    this.#setProbedPeers();
    probers.start();
    return probers.by;
  }

  #setProbedPeers(): void {
    this.#probers?.setPeers(() => overlayPeers(this.#view!.accepted()));
  }

  // --- events --------------------------------------------------------------------------------------------------

  /**
   * The own lease follows this host's public IP. Returns what is wrong until it does. The table
   * and the sockets know the new address already: what peers hear of us late is heard by nobody else.
   */
  #followPublicIp(publicIp: Ipv4): Condition | undefined {
    const view = this.#view!;
    if (publicIp !== view.ownPublicIp) {
      const change = view.ownPublicIpChanged(publicIp);
      // Before the first snapshot an empty change would mean that there are no leases.
      if (this.#hasSnapshot) this.#applyChange(change);
    }
    return this.#own!.follow(publicIp);
  }

  #applyLeases(update: LeaseUpdate): void {
    this.#applyChange(this.#view!.apply(update));
  }

  #applyChange({ diff, refusals }: LeaseChange): void {
    for (const { lease, text } of refusals) this.#log.warn({ lease: lease.id }, `lease refused: ${text}`);
    const isFirst = !this.#hasSnapshot;
    if (!isFirst && diff.added.length + diff.changed.length + diff.removed.length === 0) return;
    this.#hasSnapshot = true;
    this.#pacer!.push(diff);
  }

  #applyDiff(diff: PeerDiff): void {
    const { added, changed, removed } = diff;
    const counts = { added: added.length, changed: changed.length, removed: removed.length };
    this.#log.info({ ...counts, ...namesOf([...added, ...changed, ...removed]) }, 'leases changed');
    this.#backend!.apply(diff);
    this.#setProbedPeers();
  }

  /** Everything in the config shapes the device or the lease, so a change waits for a restart and says so. */
  #noteConfig(config: NetworkConfig): void {
    const isEqual = JSON.stringify(config) === JSON.stringify(this.#config);
    this.#configFault = isEqual
      ? undefined
      : 'the network config has changed in the store: restart to apply it';
  }

  #watchKernel(): void {
    this.#closing.add('comparison of the kernel', this.#reconciling);
    this.#reconciling.every(RECONCILE_MS);
    const monitor = openMonitor(() => this.#reconciling.soon(), { log: this.#log });
    this.#closing.add('kernel monitor', monitor);
  }

  /** Only where rules in nftables must not be missing for long: the source check, and rules made with nft. */
  async #watchRules(): Promise<void> {
    const backend = this.#backend!;
    const isGuarded = backend.rulesChanged !== undefined && this.#flags.backend.sourceCheck !== 'off';
    if (!(isGuarded || this.#firewall!.usesNft) || !(await hasNft(this.#signal))) return;
    const onChange = async (): Promise<void> => {
      void this.#firewall!.resync(); // it may wait for a lock, the source check must not
      await backend.rulesChanged?.();
    };
    this.#closing.add('nft monitor', openNftMonitor({ onChange, log: this.#log }));
  }

  async #reconcile(): Promise<void> {
    await this.#checkInterface();
    await this.#backend!.reconcile();
    await this.#subnetFile.check();
  }

  async #checkInterface(): Promise<void> {
    const isSeen = await this.#underlay!.look();
    this.#publicIpFault = isSeen ? this.#followPublicIp(this.#underlay!.iface.publicIp) : undefined;
  }

  #chooseInterface(): Promise<ExternalInterface> {
    const leasable = leasableRange(this.#config!);
    return chooseExternalInterface(this.#flags.underlay, leasable, { signal: this.#signal });
  }

  async #tellOfInterface(iface: ExternalInterface): Promise<void> {
    this.#probers?.interfaceChanged();
    const { mtuBytes } = await this.#backend!.interfaceChanged(iface);
    if (mtuBytes === this.#mtuBytes) return;
    this.#mtuBytes = mtuBytes;
    await this.#writeSubnetFile();
  }

  // --- what operators see --------------------------------------------------------------------------------------

  #openHealth(notifier: ServiceNotifier): void {
    this.#health.addSource('daemon', () => this.#conditions());
    this.#health.addSource('store', () => (this.#member ?? this.#store).conditions());
    this.#health.addSource('backend', () => this.#backend?.conditions() ?? []);
    this.#health.addSource('firewall', () => this.#firewall?.conditions() ?? []);
    this.#health.addSource('host', () => this.#hostConditions());
    this.#health.addSource('leases', () => (this.#view === undefined ? [] : leaseConditions(this.#view)));
    this.#health.addSource('peers', () => this.#probers?.peerConditions() ?? []);
    this.#health.onChange = (change) => logHealth(this.#log, change, this.#phase !== undefined);
    const look = (): void => notifier.status(statusLine(this.#health.look(), this.#duty));
    const timer = setInterval(look, HEALTH_MS);
    this.#closing.add('health', { close: () => clearInterval(timer) });
  }

  #conditions(): Condition[] {
    const found: Condition[] = [];
    if (this.#phase !== undefined) found.push(condition('starting', this.#phase));
    const interfaceFault = this.#publicIpFault ?? this.#underlay?.fault;
    if (interfaceFault !== undefined) found.push(interfaceFault);
    if (this.#configFault !== undefined) found.push(condition('config-changed', this.#configFault));
    found.push(...this.#subnetFile.conditions());
    found.push(...(this.#probers?.conditions() ?? []));
    found.push(...this.#reconciling.conditions());
    return found;
  }

  /** Once the device stands; before, the kernel has no settings for it. */
  #hostConditions(): Condition[] {
    const ownSubnet = this.#ownSubnet;
    if (this.#phase !== undefined || ownSubnet === undefined) return [];
    return checkHost({
      device: this.#device,
      ownSubnet,
      usesIptables: !this.#firewall!.usesNft,
    });
  }

  #gauges(): MetricFamily[] {
    const reversePathDrops = readNetstat('TcpExt', 'IPReversePathFilter');
    return [
      ...(reversePathDrops === undefined ? [] : [reversePathFamily(reversePathDrops)]),
      ...healthMetrics(this.#health.look()),
      {
        name: 'subnet_file_repairs_total',
        help: 'Times subnet.env was missing or changed and written again.',
        type: 'counter',
        values: [{ labels: {}, value: this.#subnetFile.repairs }],
      },
      {
        name: 'leases_refused',
        help: 'Leases in the store that are not used.',
        type: 'gauge',
        values: [{ labels: {}, value: this.#view?.refusals().length ?? 0 }],
      },
    ];
  }

  #withPath({ id, ...peer }: PeerDetail): Record<string, unknown> {
    const address = parseIpv4(String(peer['publicIp']));
    const path = address === undefined ? undefined : this.#probers?.pathOf(address);
    const reachability = this.#probers?.reachabilityOf(id) ?? STARTING;
    return { ...peer, ...(path === undefined ? {} : { path }), reachability };
  }

  #status(): Record<string, unknown> {
    const backend = this.#backend?.status();
    const { isReady, conditions } = this.#health.look();
    return {
      version: this.#version,
      uptimeSeconds: Math.round((performance.now() - this.#startedMs) / 1000),
      ready: isReady,
      degraded: conditions.filter(makesUnready).map(({ part, text }) => `${part}: ${text}`),
      conditions: conditions.map(({ sinceMs, ...rest }) => ({
        ...rest,
        since: new Date(sinceMs).toISOString(),
        seconds: Math.round((Date.now() - sinceMs) / 1000),
      })),
      network: this.#config && formatPrefix(this.#config.network),
      lease: this.#ownSubnet && { subnet: formatPrefix(this.#ownSubnet), mtuBytes: this.#mtuBytes },
      interface: this.#underlay && describeInterface(this.#underlay.iface),
      subnetFile: this.#flags.files.subnetFile,
      store: (this.#member ?? this.#store).status(),
      backend: { type: this.#backend?.type, ...backend?.detail },
      peers: (backend?.peers ?? []).map((peer) => this.#withPath(peer)),
      peerCounts: this.#probers?.peerCounts(),
      refusedLeases:
        this.#view?.refusals().map(({ lease, code, text }) => ({ key: lease.id, code, text })) ?? [],
      alarms: this.#view?.alarms() ?? [],
    };
  }
}

/** What messages and metrics call a peer. */
function nameOf({ subnets }: Peer): string {
  return formatPrefix(subnets.v4);
}

function* overlayPeers(peers: Iterable<Peer>): Generator<OverlayPeer<Peer>> {
  for (const peer of peers) yield { id: peer.id, publicIp: peer.host.publicIp.v4, lease: peer };
}

/** What is wrong with leases of other hosts, which this host does not send to. */
function leaseConditions(view: LeaseView): Condition[] {
  const found: Condition[] = [];
  const refused = view.refusals().map(({ lease, text }) => `lease ${lease.id}: ${text}`);
  if (refused.length > 0) found.push(conditionOfMany('lease-refused', refused));
  const alarms = view.alarms();
  if (alarms.length > 0) found.push(conditionOfMany('lease-nested', alarms));
  return found;
}

/** Leases named in one line of the log; the rest is a count. */
const NAMED_LEASES = 5;

function namesOf(leases: readonly Peer[]): Record<string, unknown> {
  const more = leases.length - NAMED_LEASES;
  const peers = leases
    .slice(0, NAMED_LEASES)
    .map(({ subnets, host }) => `${formatPrefix(subnets.v4)} of ${formatIpv4(host.publicIp.v4)}`);
  return { ...(peers.length > 0 && { peers: peers.join(', ') }), ...(more > 0 && { more }) };
}

/** The kernel counts these for all devices together, and drops them before a firewall rule or we see them. */
function reversePathFamily(value: number): MetricFamily {
  return {
    name: 'kernel_reverse_path_drops_total',
    help: 'Packets the kernel discarded on any device of this host by rp_filter.',
    type: 'counter',
    values: [{ labels: {}, value }],
  };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

/** The addon sends to AF_UNIX datagram sockets, which Node cannot; it is loaded only when systemd asks for it. */
async function openNotifier(): Promise<ServiceNotifier> {
  const isWanted = (process.env['NOTIFY_SOCKET'] ?? '') !== '';
  const send = isWanted ? (await import('./native/native.js')).sdNotify : () => 0;
  return new ServiceNotifier(process.env, send);
}
