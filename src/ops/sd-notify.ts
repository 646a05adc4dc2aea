// What systemd is told: READY, STATUS, STOPPING and the watchdog (sd_notify(3), sd_watchdog_enabled(3)).

import type { HealthReport } from './health.js';

/** Sends one message to a notification socket; 0 or -errno. */
export type NotifySend = (path: string, text: string) => number;

// A line break would begin another assignment, and a condition may hold text of the store.
const CONTROL = /\p{Cc}+/gu;

/**
 * systemd drops messages above 4,096 bytes (PIPE_BUF, src/core/manager.c); UTF-8 has at most 3 bytes for a UTF-16 unit.
 */
const MAX_STATUS = 1_000;

/** One line on what holds: the worst first, and how many more. `duty` is what this host does while nothing is wrong. */
export function statusLine({ state, conditions }: HealthReport, duty: string): string {
  const [worst] = conditions;
  if (worst === undefined) return state === 'ready' ? duty : state;
  const more = conditions.length > 1 ? ` (and ${conditions.length - 1} more: twill status)` : '';
  const head = { starting: 'starting', ready: `${duty}; ${worst.severity}`, degraded: 'not ready' }[state];
  return `${head}: ${worst.text}${more}`;
}

/** Speaks to the service manager named by NOTIFY_SOCKET; without one it does nothing. */
export class ServiceNotifier {
  readonly #path: string;
  readonly #watchdogMs: number;
  readonly #send: NotifySend;
  #timer: NodeJS.Timeout | undefined;
  #status = '';

  constructor(env: Readonly<Record<string, string | undefined>>, send: NotifySend) {
    this.#path = env['NOTIFY_SOCKET'] ?? '';
    const isForUs = env['WATCHDOG_PID'] === undefined || env['WATCHDOG_PID'] === String(process.pid);
    this.#watchdogMs = isForUs ? Number(env['WATCHDOG_USEC'] ?? 0) / 1000 : 0;
    this.#send = send;
  }

  ready(): void {
    this.#notify('READY=1');
  }

  /** What `systemctl status` shows; sent when it differs from what was sent last. */
  status(text: string): void {
    const status = text.replace(CONTROL, ' ').slice(0, MAX_STATUS);
    if (status === this.#status) return;
    this.#status = status;
    this.#notify(`STATUS=${status}`);
  }

  stopping(): void {
    this.#notify('STOPPING=1');
    this.status('stopping');
  }

  /**
   * Feeds the watchdog at half its interval, while the event loop turns and `isAlive` returns true. Called again, it
   * asks the new `isAlive` instead.
   */
  startWatchdog(isAlive: () => boolean = () => true): void {
    if (!(this.#watchdogMs > 0)) return;
    clearInterval(this.#timer);
    this.#timer = setInterval(() => {
      if (isAlive()) this.#notify('WATCHDOG=1');
    }, this.#watchdogMs / 2);
  }

  /** Idempotent. */
  close(): void {
    clearInterval(this.#timer);
  }

  #notify(text: string): void {
    // A manager that does not listen is not our failure.
    if (this.#path !== '') this.#send(this.#path, text);
  }
}
