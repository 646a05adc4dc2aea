// Whether this host forwards, and what is wrong if it does not do so fully. Asked, never told: each part of the daemon
// gives its reasons when /readyz, /metrics or /status wants them.

/** The state behind /readyz. */
export class Health {
  readonly #sources = new Map<string, () => readonly string[]>();
  #isReady = false;

  /** The lease is held, the device is up and packets can flow. */
  get isReady(): boolean {
    return this.#isReady;
  }

  setReady(isReady: boolean): void {
    this.#isReady = isReady;
  }

  /** `reasons` returns what is wrong with the part `name` at this moment. */
  addSource(name: string, reasons: () => readonly string[]): void {
    this.#sources.set(name, reasons);
  }

  /** All reasons, each with its part: "store: …". */
  reasons(): string[] {
    return [...this.#sources].flatMap(([name, reasons]) => reasons().map((reason) => `${name}: ${reason}`));
  }
}
