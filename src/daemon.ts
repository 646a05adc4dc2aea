// The host: the servers and the service manager, which show its overlay to those who look from outside.
//
//   subnet file held ─► store, not yet asked ─► health ─► servers ─► overlay (overlay/overlay.ts) ─► READY=1
//
// All is stopped in the reverse order. An overlay chooses the interface to the other hosts by itself, since it must be
// one that no lease of its network may hold.

import { messageOf, OverlayError } from './core/errors.js';
import type { Flags } from './config/flags.js';
import { ClosingStack } from './core/closing.js';
import { condition, makesUnready } from './core/conditions.js';
import type { Logger } from './core/log.js';
import type { MetricFamily } from './core/metric.js';
import { aborted, orAbortAfter } from './core/waiting.js';
import { type Handover, NO_HANDOVER } from './handover/handover.js';
import type { ReturnableDataPath } from './handover/open.js';
import type { Successor } from './handover/successor.js';
import { traceCommands } from './kernel/command.js';
import { HeldNames } from './kernel/held-names.js';
import { reversePathMetrics } from './kernel/netstat.js';
import { formatPrefixes } from './net/prefix.js';
import { CAPTURE_PATH, openControlSocket } from './ops/control-socket.js';
import { Health } from './ops/health.js';
import { logHealth } from './ops/health-log.js';
import { healthMetrics } from './ops/health-metrics.js';
import { type HttpOptions, openHttpServer } from './ops/http.js';
import { Metrics } from './ops/metrics.js';
import { ServiceNotifier, statusLine } from './ops/sd-notify.js';
import { STATUS_VERSION, type StatusDocument } from './ops/status.js';
import { type Overlay, openOverlay } from './overlay/overlay.js';
import type { OverlayOptions } from './overlay/options.js';
import {
  beforeOpening,
  OVERLAY_CONDITIONS,
  overlayMetrics,
  type OverlayProgress,
  overlayStatus,
} from './overlay/parts.js';
import type { Surroundings } from './overlay/surroundings.js';
import { loadStore, openStore, storeKind } from './store/registry.js';
import type { LeaseStore } from './store/store.js';

/** What is being done when a signal comes gets this time to end by itself, as in openOverlay(). */
const INTERRUPT_MS = 100;
/** All is closed within a second of a signal: an overlay takes 800 ms at most, and the servers next to nothing. */
const CLOSE_MS = 850;

/** Crashes within a minute, from which on offloads are not used. */
const CRASH_LOOP = 5;

/** How late a condition may be in the log, and its time of beginning. */
const HEALTH_MS = 1_000;

/**
 * Runs until `signal` aborts, then stops everything in reverse order and resolves. Rejects with OverlayError when it
 * cannot start, and with E_LEASE_LOST when the own lease is gone for good; everything is stopped by then as well.
 * "replaced" when another daemon has taken over, of its own accord or an operator's.
 */
export async function runDaemon(
  flags: Flags,
  log: Logger,
  version: string,
  signal: AbortSignal,
  host: DaemonHost = {},
): Promise<'stopped' | 'replaced'> {
  traceCommands((command, end, ms) => log.debug({ command, end, ms: Math.round(ms) }, 'command'));
  const notifier = await openNotifier();
  let handover = await openHandover(flags, log, host.inherited);
  const { recentCrashes } = handover;
  const first = handover;
  try {
    let end: Ending = { kind: 'stopped' };
    do {
      // The store has answered just now, so what is started again does not look at the saved table.
      const mayUseTable = end.kind !== 'outdated';
      if (!mayUseTable) notifier.startWatchdog(); // of the process: a wait for a lease is no hang
      end = await runOnce(
        { flags, log, version, notifier, mayUseTable, host, handover, recentCrashes },
        signal,
      );
      if (end.kind === 'returned') handover = end.handover;
      else if (end.kind === 'outdated') handover.forgetAll();
    } while ((end.kind === 'outdated' || end.kind === 'returned') && !signal.aborted);
    return end.kind === 'replaced' ? 'replaced' : 'stopped';
  } finally {
    first.ended();
    notifier.close();
  }
}

/** Loads what a daemon with these flags would load on its way to forwarding, but for another mode than udp. */
export async function preload(flags: Flags): Promise<void> {
  const { keepSpareWorkers } = await import('./dataplane/workers.js');
  keepSpareWorkers(flags.backend.queues);
  await Promise.all([
    import('./handover/open.js'),
    import('./handover/successor.js'),
    import('./backend/udp/udp.js'),
    loadStore(flags),
  ]);
}

/**
 * "replaced": another daemon has taken over. "returned": one was to, and went away. "outdated": the store's config
 * makes another overlay than the saved table, from which we had started.
 */
type Ending =
  | { readonly kind: 'stopped' }
  | { readonly kind: 'replaced' }
  | { readonly kind: 'outdated' }
  | { readonly kind: 'returned'; readonly handover: Handover };

/** What the daemon uses of this host; tests have another. */
export interface DaemonHost {
  /** @default the store that --store names */
  readonly openStore?: () => LeaseStore | Promise<LeaseStore>;
  readonly surroundings?: Partial<Surroundings>;
  /** Descriptors that were kept for this process, by name. @default those that its environment tells of */
  readonly inherited?: Map<string, number> | undefined;
}

interface DaemonOptions {
  readonly flags: Flags;
  readonly log: Logger;
  readonly version: string;
  readonly notifier: ServiceNotifier;
  /** Whether to start from the saved table when the store does not answer. */
  readonly mayUseTable: boolean;
  readonly host: DaemonHost;
  readonly handover: Handover;
  readonly recentCrashes: number;
}

async function runOnce(options: DaemonOptions, signal: AbortSignal): Promise<Ending> {
  const { log, notifier } = options;
  const closing = new ClosingStack(log, CLOSE_MS);
  try {
    const overlayOptions = await orAbortAfter(prepare(options, closing, signal), signal, INTERRUPT_MS);
    const daemon = new Daemon(options, overlayOptions, closing);
    await orAbortAfter(daemon.openServers(), signal, INTERRUPT_MS);
    const overlay = await daemon.openOverlay();
    const end = await Promise.race([overlay.ended, aborted(signal), daemon.left(overlay)]);
    if (end?.kind === 'lost') throw end.error;
    if (end?.kind === 'outdated') return end;
    if (end?.kind === 'left') return await leaveTo(end, closing, signal, options);
    notifier.stopping();
    return { kind: 'stopped' };
  } catch (error) {
    if (!signal.aborted) throw error;
    return { kind: 'stopped' };
  } finally {
    await closing.close();
  }
}

interface Left {
  readonly kind: 'left';
  readonly successor: Successor;
  readonly path: ReturnableDataPath;
}

/** Lets go of all but the data path, which forwards until the other daemon is ready. */
async function leaveTo(
  { successor, path }: Left,
  closing: ClosingStack,
  signal: AbortSignal,
  { flags, handover, log }: DaemonOptions,
): Promise<Ending> {
  log.info('another daemon takes over: forwarding until it is ready');
  handover.leave(flags.servers.controlSocket);
  await closing.close();
  if (await successor.give(path, signal)) {
    path.close();
    handover.forgetAll();
    log.info('another daemon has taken over');
    return { kind: 'replaced' };
  }
  if (!signal.aborted) {
    handover.leave(undefined);
    log.warn('the daemon that was to take over went away: going on');
    return { kind: 'returned', handover: path.takeBack() };
  }
  await path.stop();
  path.close();
  return { kind: 'stopped' };
}

/**
 * What comes before anything that another daemon may have is touched, its control socket included. Contacts nothing.
 */
async function prepare(
  options: DaemonOptions,
  closing: ClosingStack,
  signal: AbortSignal,
): Promise<OverlayOptions> {
  const { flags, log, version, mayUseTable, host, handover } = options;
  const { subnetFile } = flags.files;
  const owner = `pid ${process.pid}, ${version}, ${storeKind(flags.store)}`;
  const warn = (text: string): void => log.warn(text);
  // Who is to take over, and can ask nobody, comes after who is there.
  const waits = flags.servers.takeover ? signal : undefined;
  const names = closing.add('names', new HeldNames(owner, warn, waits));
  await names.holdSubnetFile(subnetFile);
  const store = closing.add('store', await (host.openStore?.() ?? openStore(flags, log)));
  const { surroundings = {} } = host;
  const offloads = isCrashLoop(options) ? { ...flags.offloads, offload: 'off' as const } : flags.offloads;
  return { ...flags, offloads, store, subnetFile, names, mayUseTable, handover, log, signal, surroundings };
}

/** Whatever it is that crashes, it is most likely in what few others use: safe mode. */
function isCrashLoop({ recentCrashes }: DaemonOptions): boolean {
  return recentCrashes >= CRASH_LOOP;
}

/** One overlay with the servers that show it. */
class Daemon {
  readonly #options: DaemonOptions;
  readonly #overlayOptions: OverlayOptions;
  readonly #closing: ClosingStack;
  readonly #health = new Health();
  readonly #startedMs = performance.now();
  #overlay: OverlayProgress;
  /** What this host does while it is ready. */
  #duty = '';
  /** Set while a successor is welcome. */
  #onSuccessor: ((successor: Successor) => void) | undefined;

  constructor(options: DaemonOptions, overlayOptions: OverlayOptions, closing: ClosingStack) {
    this.#options = options;
    this.#overlayOptions = overlayOptions;
    this.#overlay = beforeOpening(overlayOptions);
    this.#closing = closing;
    this.#openHealth();
  }

  /** Resolves when packets flow and the service manager knows. */
  async openOverlay(): Promise<Overlay> {
    const { notifier, log } = this.#options;
    const onProgress = (progress: OverlayProgress): void => void (this.#overlay = progress);
    const overlay = await openOverlay({ ...this.#overlayOptions, onProgress });
    this.#closing.add('overlay', overlay);
    await this.#options.handover.settle();
    this.#duty = `forwarding for ${formatPrefixes(overlay.subnets)} (${overlay.backendType})`;
    notifier.ready();
    notifier.startWatchdog(() => overlay.isAlive());
    const afterMs = Math.round(performance.now() - this.#startedMs);
    this.#closing.add('readiness', { close: () => this.#health.setStarted(false) });
    this.#health.setStarted(true);
    const { pathProbes } = overlay;
    if (this.#health.look().isReady) log.info({ pathProbes }, `ready after ${afterMs} ms`);
    else log.error({ pathProbes }, `not ready after ${afterMs} ms: see what is wrong above`);
    return overlay;
  }

  /** Resolves when another daemon takes over from this one, which can do that now. */
  async left(overlay: Overlay): Promise<Left> {
    for (;;) {
      const successor = await new Promise<Successor>((resolve) => (this.#onSuccessor = resolve));
      this.#onSuccessor = undefined;
      const path = overlay.leave();
      const { ReturnableDataPath } = await import('./handover/open.js');
      if (path !== undefined) return { kind: 'left', successor, path: new ReturnableDataPath(path) };
      successor.refuse('its data path is not open');
    }
  }

  /** Somebody asks to take over. */
  #meet(successor: Successor | undefined): void {
    if (this.#onSuccessor !== undefined && successor !== undefined) this.#onSuccessor(successor);
    else successor?.refuse('it is starting, or another daemon takes over from it');
  }

  #openHealth(): void {
    const { notifier, log } = this.#options;
    for (const [part, ask] of Object.entries(OVERLAY_CONDITIONS))
      this.#health.addSource(part, () => ask(this.#overlay));
    if (isCrashLoop(this.#options)) {
      const text = `${this.#options.recentCrashes} crashes within a minute: offloads are off`;
      this.#health.addSource('handover', () => [condition('safe-mode', text)]);
    }
    this.#health.onChange = (change) => logHealth(log, change, this.#overlay.phase !== undefined);
    const { store } = this.#overlayOptions;
    const look = (): void => {
      const report = this.#health.look();
      notifier.status(statusLine(report, this.#duty));
      store.noteHealth?.(report.conditions);
    };
    const timer = setInterval(look, HEALTH_MS);
    this.#closing.add('health', { close: () => clearInterval(timer) });
  }

  async openServers(): Promise<void> {
    const { flags, log, version } = this.#options;
    const { healthzIp, healthzPort, metricsIp, metricsPort, controlSocket } = flags.servers;
    const metrics = new Metrics({ families: () => this.#metrics(), version });
    const status = (): object => this.#status();
    const served: Omit<HttpOptions, 'listen'> = { health: this.#health, metrics, status, log };
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
      const held = new Map([[CAPTURE_PATH, () => this.#overlay.backend?.showAll?.() ?? (() => undefined)]]);
      const upgrades = await this.#upgrades();
      const server = await openControlSocket(controlSocket, { ...served, held, upgrades });
      this.#closing.add('control socket', server);
    } catch (error) {
      // An operator's view is no reason not to forward.
      const why = messageOf(error);
      log.warn(`${why}; the program twill cannot ask this daemon`);
    }
  }

  /** Without the addon nobody can take over: descriptors are passed by it. */
  async #upgrades(): Promise<NonNullable<HttpOptions['upgrades']>> {
    try {
      const { HANDOVER_PATH, Successor } = await import('./handover/successor.js');
      const { log } = this.#options;
      return new Map([
        [HANDOVER_PATH, (socket, protocol) => this.#meet(Successor.of(socket, protocol, log))],
      ]);
    } catch {
      return new Map();
    }
  }

  #metrics(): MetricFamily[] {
    return [...overlayMetrics(this.#overlay), ...reversePathMetrics(), ...healthMetrics(this.#health.look())];
  }

  #status(): StatusDocument {
    const { isReady, conditions } = this.#health.look();
    return {
      statusVersion: STATUS_VERSION,
      version: this.#options.version,
      uptimeSeconds: Math.round((performance.now() - this.#startedMs) / 1000),
      ready: isReady,
      degraded: conditions.filter(makesUnready).map(({ part, text }) => `${part}: ${text}`),
      conditions: conditions.map(({ sinceMs, ...rest }) => ({
        ...rest,
        since: new Date(sinceMs).toISOString(),
        seconds: Math.round((Date.now() - sinceMs) / 1000),
      })),
      ...overlayStatus(this.#overlay),
    };
  }
}

/** Without the addon, nothing can be taken over: the udp mode says what is missing. */
async function openHandover(
  { servers }: Flags,
  log: Logger,
  inherited: Map<string, number> | undefined,
): Promise<Handover> {
  const { takeover, controlSocket } = servers;
  if (takeover && controlSocket === 'off')
    throw new OverlayError('E_USAGE', '--takeover asks the daemon by --control-socket, which is "off"');
  let open;
  try {
    open = await import('./handover/open.js');
  } catch {
    return NO_HANDOVER;
  }
  return open.openHandover(takeover ? controlSocket : undefined, log, inherited);
}

/** The addon sends to AF_UNIX datagram sockets, which Node cannot; it is loaded only when systemd asks for it. */
async function openNotifier(): Promise<ServiceNotifier> {
  const isWanted = (process.env['NOTIFY_SOCKET'] ?? '') !== '';
  const send = isWanted ? (await import('./native/native.js')).sdNotify : () => 0;
  return new ServiceNotifier(process.env, send);
}
