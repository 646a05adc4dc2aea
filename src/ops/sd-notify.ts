// What systemd is told: READY, STATUS, STOPPING and the watchdog (sd_notify(3), sd_watchdog_enabled(3)).

/** Sends one message to a notification socket; 0 or -errno. */
export type NotifySend = (path: string, text: string) => number;

/** Speaks to the service manager named by NOTIFY_SOCKET; without one it does nothing. */
export class ServiceNotifier {
  readonly #path: string;
  readonly #watchdogMs: number;
  readonly #send: NotifySend;
  #timer: NodeJS.Timeout | undefined;

  constructor(env: Readonly<Record<string, string | undefined>>, send: NotifySend) {
    this.#path = env['NOTIFY_SOCKET'] ?? '';
    const isForUs = env['WATCHDOG_PID'] === undefined || env['WATCHDOG_PID'] === String(process.pid);
    this.#watchdogMs = isForUs ? Number(env['WATCHDOG_USEC'] ?? 0) / 1000 : 0;
    this.#send = send;
  }

  ready(status: string): void {
    this.#notify(`READY=1\nSTATUS=${status}`);
  }

  stopping(): void {
    this.#notify('STOPPING=1');
  }

  /**
   * Reports at half the interval that the event loop turns, and that what `isAlive` looks at does so, too. Called again,
   * it looks at that instead.
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
