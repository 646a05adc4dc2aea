// How long each piece of work of a comparison takes: the whole run, or one that fits three minutes.

/** Lengths of the workloads. Of TCP, iperf3 knows whole seconds only. */
export interface Pace {
  /** Of a TCP run, what counts of it. */
  readonly tcpSeconds: number;
  /** What does not count, before it. */
  readonly tcpSkipSeconds: number;
  readonly roundTripMs: number;
  /** Beside bulk: how long bulk runs before, and how long round trips are taken. */
  readonly loadedAfterMs: number;
  readonly loadedMs: number;
  readonly connectMs: number;
  readonly udpStepMs: number;
  /** Packets a second of the last step. */
  readonly udpHigh: number;
}

/** The rates of UDP end above twice what the machine's own veth pair carries. */
export const WHOLE: Pace = {
  tcpSeconds: 2,
  tcpSkipSeconds: 1,
  roundTripMs: 1000,
  loadedAfterMs: 800,
  loadedMs: 2000,
  connectMs: 1000,
  udpStepMs: 100,
  udpHigh: 700_000,
};

/**
 * A second of TCP from its start: with round trips of at most some milliseconds, slow start is over after a tenth of
 * it.
 */
export const QUICK: Pace = {
  tcpSeconds: 1,
  tcpSkipSeconds: 0,
  roundTripMs: 500,
  loadedAfterMs: 500,
  loadedMs: 1000,
  connectMs: 500,
  udpStepMs: 80,
  udpHigh: 600_000,
};
