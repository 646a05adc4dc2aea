// The daemon: what is started in which order, and stopped in the reverse.
//
//   health server ─► store: config ─► external interface ─► backend: lease data ─► store: lease ─► backend: device
//   ─► firewall ─► subnet.env ─► store: watch ─► kernel monitor ─► READY=1
//
// From then on everything is an event: leases from the store become a diff for the backend; changes in the kernel, and
// a timer, make the backend compare the kernel with what it wants. Nothing that happens at run time ends the daemon but
// a signal and the loss of the own lease; what is wrong is shown by /readyz until it is right again.

import { randomBytes } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import type { Backend, BackendCounter } from './backend/backend.js';
import { DiffPacer } from './backend/diff-pacer.js';
import { BACKENDS } from './backend/registry.js';
import type { Flags } from './config/flags.js';
import { isLeasable, type NetworkConfig } from './config/network-config.js';
import { offloadSwitches } from './config/options.js';
import { OverlayError } from './errors.js';
import { Firewall } from './firewall/firewall.js';
import {
  chooseExternalInterface,
  type ExternalInterface,
  type Overlay,
} from './kernel/external-interface.js';
import { listLinks } from './kernel/link.js';
import { openMonitor } from './kernel/monitor.js';
import { UnderlayWatch } from './kernel/underlay-watch.js';
import { readNetstat } from './kernel/netstat.js';
import type { LeaseAttributes, LeaseDiff, LeaseUpdate } from './lease/lease.js';
import { type LeaseChange, LeaseView } from './lease/lease-view.js';
import { formatIpv4, formatPrefix, type Ipv4, parseIpv4, type Prefix, prefixEquals } from './net/ipv4.js';
import { openControlSocket } from './ops/control-socket.js';
import { Health } from './ops/health.js';
import { type HttpOptions, openHttpServer } from './ops/http.js';
import type { Logger } from './ops/log.js';
import { Metrics } from './ops/metrics.js';
import { ServiceNotifier } from './ops/sd-notify.js';
import { PathProber } from './probe/path-prober.js';
import { pathMetrics } from './probe/path-metrics.js';
import { openRawIcmp } from './probe/raw-icmp.js';
import { firstConfig } from './store/first-config.js';
import { openStore } from './store/registry.js';
import type { CachedTable, LeaseStore } from './store/store.js';
import { readSubnetFile, writeSubnetFile } from './subnet-file.js';

// Events tell of changes at once; this is for what no event tells.
const RECONCILE_MS = 10_000;

interface Closable {
  close(): unknown;
}

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
  const daemon = new Daemon(flags, log, version, signal);
  try {
    await daemon.run();
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    await daemon.close();
  }
}

class Daemon {
  readonly #flags: Flags;
  readonly #log: Logger;
  readonly #version: string;
  readonly #signal: AbortSignal;
  readonly #health = new Health();
  /** In order of opening; closed from the end. */
  readonly #opened: { name: string; resource: Closable }[] = [];
  readonly #startedMs = performance.now();
  #store!: LeaseStore;
  #backend: Backend | undefined;
  #pacer: DiffPacer | undefined;
  #prober: PathProber | undefined;
  #firewall: Firewall | undefined;
  #config: NetworkConfig | undefined;
  #iface: ExternalInterface | undefined;
  readonly #underlay = new UnderlayWatch();
  #ownSubnet: Prefix | undefined;
  #mtuBytes = 0;
  #view: LeaseView | undefined;
  /** What the own lease says, or is to say when it is acquired. */
  #attributes: LeaseAttributes | undefined;
  #isWatching = false;
  /** The public IP that is being published. */
  #publishing: Ipv4 | undefined;
  #publishFault: string | undefined;
  #interfaceFault: string | undefined;
  #configFault: string | undefined;
  #subnetFileFault: string | undefined;
  #reconcileFault: string | undefined;
  #hasSnapshot = false;
  #isReconciling = false;
  #isReconcileDue = false;
  #reconciled: Promise<void> = Promise.resolve();
  #lost: (error: OverlayError) => void = () => undefined;

  constructor(flags: Flags, log: Logger, version: string, signal: AbortSignal) {
    this.#flags = flags;
    this.#log = log;
    this.#version = version;
    this.#signal = signal;
  }

  async run(): Promise<void> {
    const flags = this.#flags;
    const leaseLost = new Promise<never>((_resolve, reject) => (this.#lost = reject));
    leaseLost.catch(() => undefined); // it may come while something else is awaited

    const notifier = await openNotifier();
    this.#opened.push({ name: 'systemd notifier', resource: notifier });
    this.#store = openStore(flags, this.#log);
    this.#opened.push({ name: 'store', resource: this.#store });
    this.#addHealthSources();
    await this.#openServers();

    const first = await firstConfig(this.#store, this.#log, this.#signal);
    this.#signal.throwIfAborted();
    const iface = await chooseExternalInterface(flags, overlayOf(first.config), this.#signal);
    this.#iface = iface;
    const cached = usableTable(first.cached, iface);
    const config = first.cached === cached ? first.config : await first.fromStore();
    this.#config = config;
    for (const warning of config.warnings) this.#log.warn(warning);
    this.#log.info(
      `using interface ${iface.name} with address ${formatIpv4(iface.address)}, public IP ${formatIpv4(iface.publicIp)}`,
    );

    const backend = await this.#openBackend(config, iface);
    const previous = await readSubnetFile(flags.subnetFile);
    for (const warning of previous.warnings) this.#log.warn(warning);
    const data = await backend.leaseData();
    const attributes = { publicIp: iface.publicIp, ...data };
    this.#attributes = attributes;
    const ownSubnet =
      cached?.ownSubnet ??
      (await this.#store.acquire({ config, attributes, previousSubnet: previous.subnet }, this.#signal));
    this.#ownSubnet = ownSubnet;
    this.#log.info(`own subnet is ${formatPrefix(ownSubnet)}`);
    this.#signal.throwIfAborted();

    this.#mtuBytes = (await backend.open(ownSubnet)).mtuBytes;
    this.#view = new LeaseView({ network: config.network, ownSubnet, ownPublicIp: iface.publicIp });
    // Known peers first: with a saved table the overlay was up a moment ago, and packets are waiting.
    if (cached !== undefined) this.#applyLeases({ kind: 'snapshot', leases: cached.leases });
    await this.#openFirewall(config, ownSubnet);
    await this.#writeSubnetFile();
    this.#openProber();
    if (cached === undefined) this.#watchStore();
    else this.#rejoinStore(first.fromStore);
    this.#watchKernel();
    this.#health.setReady(true);
    notifier.ready(`forwarding for ${formatPrefix(ownSubnet)} (${backend.type})`);
    notifier.startWatchdog(() => backend.isAlive?.() ?? true);
    this.#log.info(`ready after ${Math.round(performance.now() - this.#startedMs)} ms`);

    await Promise.race([leaseLost, aborted(this.#signal)]);
    notifier.stopping();
  }

  async close(): Promise<void> {
    this.#health.setReady(false);
    for (const { name, resource } of this.#opened.reverse()) {
      try {
        await resource.close();
      } catch (error) {
        this.#log.error({ err: error }, `closing the ${name} failed`);
      }
    }
  }

  async #openServers(): Promise<void> {
    const { healthzIp, healthzPort, controlSocket } = this.#flags;
    const metrics = new Metrics({
      backend: () => [...(this.#backend?.counters() ?? []), ...(this.#firewall?.counters() ?? [])],
      gauges: () => [...this.#gauges(), ...(this.#store.counters?.() ?? []), ...pathMetrics(this.#prober)],
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
      this.#opened.push({ name: 'health server', resource: server });
    }
    if (controlSocket === 'off') return;
    try {
      const socket = await openControlSocket(controlSocket, served);
      this.#opened.push({ name: 'control socket', resource: socket });
    } catch (error) {
      // An operator's view is no reason not to forward.
      this.#log.warn(`${messageOf(error)}; the program twill cannot ask this daemon`);
    }
  }

  async #openBackend(config: NetworkConfig, iface: ExternalInterface): Promise<Backend> {
    const load = Object.hasOwn(BACKENDS, config.backendType) ? BACKENDS[config.backendType] : undefined;
    if (load === undefined) {
      const known = Object.keys(BACKENDS).join(', ');
      throw new OverlayError(
        'E_BACKEND',
        `Unknown backend type "${config.backendType}": expected one of ${known}`,
      );
    }
    const { sourceCheck, queues } = this.#flags;
    const offload = offloadSwitches(this.#flags);
    const factory = await load();
    this.#backend = factory({ config, iface, sourceCheck, queues, offload, log: this.#log });
    this.#opened.push({ name: 'backend', resource: this.#backend });
    this.#pacer = new DiffPacer((diff) => this.#applyDiff(diff));
    this.#opened.push({ name: 'lease changes', resource: this.#pacer });
    return this.#backend;
  }

  async #openFirewall(config: NetworkConfig, subnet: Prefix): Promise<void> {
    const flags = this.#flags;
    this.#firewall = new Firewall({
      network: config.network,
      subnet,
      useNftables: config.enableNftables,
      hasMasquerade: flags.ipMasq,
      isFullyRandom: !flags.ipMasqFullyRandomDisable,
      hasForward: flags.iptablesForwardRules,
      hasBlackhole: flags.ipBlackholeRoute,
      resyncMs: flags.iptablesResync * 1000,
      log: this.#log,
    });
    this.#opened.push({ name: 'firewall', resource: this.#firewall });
    await this.#firewall.open();
  }

  async #writeSubnetFile(): Promise<void> {
    const { subnetFile, ipMasq } = this.#flags;
    const content = {
      network: this.#config!.network,
      subnet: this.#ownSubnet!,
      mtuBytes: this.#mtuBytes,
      ipMasq,
    };
    try {
      await writeSubnetFile(subnetFile, content);
      this.#subnetFileFault = undefined;
    } catch (error) {
      // The data path works without it; reconcile() tries again.
      const fault = messageOf(error);
      if (fault !== this.#subnetFileFault) this.#log.error(fault);
      this.#subnetFileFault = fault;
    }
  }

  /** Without the package or the capability everything else works as it does with them. */
  #openProber(): void {
    if (!this.#flags.pathProbes) return;
    try {
      const prober: PathProber = new PathProber({
        sender: openRawIcmp((received) => prober.receive(received)),
        fullBytes: () => this.#iface!.mtuBytes,
        onPathMtu: (peer, mtuBytes) => this.#backend!.pathMtuChanged?.(peer, mtuBytes),
        now: () => performance.now(),
        random: Math.random,
        randomBytes,
      });
      this.#prober = prober;
      this.#opened.push({ name: 'path probes', resource: prober });
      this.#setProbedPeers();
      prober.start();
    } catch (error) {
      this.#log.warn(`path probes are off: ${messageOf(error)}`);
    }
  }

  #setProbedPeers(): void {
    this.#prober?.setPeers(Array.from(this.#view!.accepted(), ({ attributes }) => attributes.publicIp));
  }

  // --- events --------------------------------------------------------------------------------------------------

  #watchStore(): void {
    this.#isWatching = true;
    this.#store.watch({
      onLeases: (update) => this.#applyLeases(update),
      onConfig: (config) => this.#noteConfig(config),
      onOwnLeaseLost: (reason) => this.#lost(new OverlayError('E_LEASE_LOST', `Own lease lost: ${reason}`)),
    });
  }

  /** After a start from the saved table: the lease is claimed, and the table compared, once the store answers. */
  #rejoinStore(fromStore: () => Promise<NetworkConfig>): void {
    const ownSubnet = this.#ownSubnet!;
    const rejoin = async (): Promise<void> => {
      const config = await fromStore();
      this.#noteConfig(config);
      // The address may have changed since the start.
      const attributes = { ...this.#attributes!, publicIp: this.#iface!.publicIp };
      const request = { config, attributes, previousSubnet: ownSubnet };
      const subnet = await this.#store.acquire(request, this.#signal);
      this.#attributes = attributes;
      if (!prefixEquals(subnet, ownSubnet)) {
        throw new OverlayError(
          'E_LEASE_LOST',
          `got ${formatPrefix(subnet)} instead of ${formatPrefix(ownSubnet)}`,
        );
      }
      this.#log.info(`store answers again: own subnet is still ${formatPrefix(ownSubnet)}`);
      this.#watchStore();
    };
    rejoin().catch((error: unknown) => {
      if (this.#signal.aborted) return;
      const message = `Own lease lost while the store was away: ${messageOf(error)}`;
      this.#lost(new OverlayError('E_LEASE_LOST', message, { cause: error }));
    });
  }

  /**
   * The own lease follows this host's public IP, under the same subnet. Returns what is wrong until it does. The table
   * and the sockets know the new address already: what peers hear of us late is heard by nobody else.
   */
  #followPublicIp(publicIp: Ipv4): string | undefined {
    const view = this.#view!;
    if (publicIp !== view.ownPublicIp) this.#applyChange(view.ownPublicIpChanged(publicIp));
    const published = this.#attributes!.publicIp;
    if (publicIp === (this.#publishing ?? published)) {
      if (publicIp === published) return undefined;
    } else if (this.#isWatching) this.#publish({ ...this.#attributes!, publicIp });
    const fault = `public IP is now ${formatIpv4(publicIp)}, but the lease says ${formatIpv4(published)}`;
    if (this.#store.publish === undefined)
      return `${fault}: only an operator writes the ${this.#store.kind} store`;
    return `${fault}: ${this.#publishFault ?? 'it is being published'}`;
  }

  #publish(attributes: LeaseAttributes): void {
    const { publicIp } = attributes;
    const publishing = this.#store.publish?.(attributes);
    if (publishing === undefined) return;
    this.#publishing = publicIp;
    publishing
      .then(
        () => {
          if (this.#publishing === publicIp) this.#attributes = attributes;
          this.#publishFault = undefined;
        },
        (error: unknown) => (this.#publishFault = messageOf(error)), // the next comparison tries again
      )
      .finally(() => {
        if (this.#publishing !== publicIp) return; // the address changed once more meanwhile
        this.#publishing = undefined;
        if (this.#publishFault === undefined) void this.#reconcileSoon();
      });
  }

  #applyLeases(update: LeaseUpdate): void {
    this.#applyChange(this.#view!.apply(update));
  }

  #applyChange({ diff, refusals }: LeaseChange): void {
    for (const { key, text } of refusals) this.#log.warn({ lease: key }, `lease refused: ${text}`);
    const isFirst = !this.#hasSnapshot;
    if (!isFirst && diff.added.length + diff.changed.length + diff.removed.length === 0) return;
    this.#hasSnapshot = true;
    this.#pacer!.push(diff);
  }

  #applyDiff(diff: LeaseDiff): void {
    const counts = { added: diff.added.length, changed: diff.changed.length, removed: diff.removed.length };
    this.#log.info(counts, 'leases changed');
    this.#backend!.apply(diff);
    this.#setProbedPeers();
  }

  /** Everything in the config shapes the device or the lease, so a change waits for a restart and says so. */
  #noteConfig(config: NetworkConfig): void {
    const isEqual = JSON.stringify(config) === JSON.stringify(this.#config);
    this.#configFault = isEqual
      ? undefined
      : 'the network config has changed in the store: restart to apply it';
    if (this.#configFault !== undefined) this.#log.warn(this.#configFault);
  }

  #watchKernel(): void {
    const monitor = openMonitor(() => this.#reconcileSoon(), { log: this.#log });
    const timer = setInterval(() => void this.#reconcileSoon(), RECONCILE_MS);
    const close = async (): Promise<void> => {
      clearInterval(timer);
      this.#isReconcileDue = false;
      await monitor.close();
      await this.#reconciled;
    };
    this.#opened.push({ name: 'kernel monitor', resource: { close } });
  }

  /** One run at a time; events during a run lead to exactly one more. Resolves when the kernel was compared. */
  #reconcileSoon(): Promise<void> {
    this.#isReconcileDue = true;
    if (this.#isReconciling) return this.#reconciled;
    this.#isReconciling = true;
    this.#reconciled = (async () => {
      while (this.#isReconcileDue && !this.#signal.aborted) {
        this.#isReconcileDue = false;
        await this.#reconcile();
      }
      this.#isReconciling = false;
    })();
    return this.#reconciled;
  }

  async #reconcile(): Promise<void> {
    try {
      await this.#checkInterface();
      await this.#backend!.reconcile();
      if (this.#subnetFileFault !== undefined) await this.#writeSubnetFile();
      this.#reconcileFault = undefined;
    } catch (error) {
      const fault = messageOf(error);
      if (fault !== this.#reconcileFault) this.#log.error(`cannot repair the kernel state: ${fault}`);
      this.#reconcileFault = fault;
    }
  }

  async #checkInterface(): Promise<void> {
    const before = this.#iface!;
    let fault: string | undefined;
    try {
      const state = this.#underlay.observe(before, await listLinks(this.#signal), performance.now());
      if (state.kind === 'faulty' || state.kind === 'gone') ({ fault } = state);
      // No event tells that time has passed.
      if (state.kind === 'faulty' && state.goneInMs !== undefined)
        setTimeout(() => void this.#reconcileSoon(), state.goneInMs).unref();
      if (state.kind === 'changed') await this.#changeInterface(state.iface);
      if (state.kind === 'gone') {
        const iface = await chooseExternalInterface(this.#flags, overlayOf(this.#config!), this.#signal);
        await this.#changeInterface(iface);
        fault = undefined;
      }
      fault = this.#followPublicIp(this.#iface!.publicIp) ?? fault;
    } catch (error) {
      fault = `${fault ?? `external interface ${before.name}`}: ${messageOf(error)}`;
    }
    if (fault !== undefined && fault !== this.#interfaceFault) this.#log.error(fault);
    this.#interfaceFault = fault;
  }

  async #changeInterface(iface: ExternalInterface): Promise<void> {
    const before = this.#iface!;
    this.#log.warn({ before: describe(before), now: describe(iface) }, 'external interface changed');
    this.#iface = iface;
    if (iface.mtuBytes !== before.mtuBytes) this.#prober?.restart();
    const { mtuBytes } = await this.#backend!.interfaceChanged(iface);
    if (mtuBytes === this.#mtuBytes) return;
    this.#mtuBytes = mtuBytes;
    await this.#writeSubnetFile();
  }

  // --- what operators see --------------------------------------------------------------------------------------

  #addHealthSources(): void {
    const own = (): string[] =>
      [this.#interfaceFault, this.#configFault, this.#subnetFileFault, this.#reconcileFault].filter(
        (reason) => reason !== undefined,
      );
    this.#health.addSource('daemon', own);
    this.#health.addSource('store', () => this.#store.degraded());
    this.#health.addSource('backend', () => this.#backend?.degraded() ?? []);
    this.#health.addSource('firewall', () => this.#firewall?.degraded() ?? []);
  }

  #gauges(): BackendCounter[] {
    const gauge = (name: string, help: string, value: number) => ({
      name,
      help,
      type: 'gauge' as const,
      values: [{ labels: {}, value }],
    });
    const reversePathDrops = readNetstat('TcpExt', 'IPReversePathFilter');
    return [
      ...(reversePathDrops === undefined ? [] : [reversePathFamily(reversePathDrops)]),
      gauge('ready', '1 when packets can flow and subnet.env is written.', this.#health.isReady ? 1 : 0),
      gauge('degraded_reasons', 'Number of reasons /readyz gives.', this.#health.reasons().length),
      gauge('leases_refused', 'Leases in the store that are not used.', this.#view?.refusals().length ?? 0),
    ];
  }

  #withPath(peer: Record<string, unknown>): Record<string, unknown> {
    const address = parseIpv4(String(peer['publicIp']));
    const path = address === undefined ? undefined : this.#prober?.report(address);
    return path === undefined ? peer : { ...peer, path };
  }

  #status(): Record<string, unknown> {
    const backend = this.#backend?.status();
    return {
      version: this.#version,
      uptimeSeconds: Math.round((performance.now() - this.#startedMs) / 1000),
      ready: this.#health.isReady,
      degraded: this.#health.reasons(),
      network: this.#config && formatPrefix(this.#config.network),
      lease: this.#ownSubnet && { subnet: formatPrefix(this.#ownSubnet), mtuBytes: this.#mtuBytes },
      interface: this.#iface && describe(this.#iface),
      subnetFile: this.#flags.subnetFile,
      store: { kind: this.#flags.store, ...this.#store.status() },
      backend: { type: this.#backend?.type, ...backend?.detail },
      peers: (backend?.peers ?? []).map((peer) => this.#withPath(peer)),
      refusedLeases: this.#view?.refusals().map(({ key, code, text }) => ({ key, code, text })) ?? [],
      alarms: this.#view?.alarms() ?? [],
    };
  }
}

/** The kernel counts these for all devices together, and drops them before a firewall rule or we see them. */
function reversePathFamily(value: number): BackendCounter {
  return {
    name: 'kernel_reverse_path_drops_total',
    help: 'Packets the kernel discarded on any device of this host by rp_filter.',
    type: 'counter',
    values: [{ labels: {}, value }],
  };
}

/** A saved table holds for the address it was saved with; with another, this is another host. */
function usableTable(table: CachedTable | undefined, iface: ExternalInterface): CachedTable | undefined {
  return table?.ownAttributes.publicIp === iface.publicIp ? table : undefined;
}

function overlayOf(config: NetworkConfig): Overlay {
  return { isLeasable: (address) => isLeasable(config, address) };
}

function describe(iface: ExternalInterface): Record<string, unknown> {
  return { ...iface, address: formatIpv4(iface.address), publicIp: formatIpv4(iface.publicIp) };
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
  const send = isWanted ? (await import('./dataplane/native.js')).sdNotify : () => 0;
  return new ServiceNotifier(process.env, send);
}
