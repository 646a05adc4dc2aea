// How long the client waits for what. One place, so that tests can wait less.

export interface Timing {
  /** Between two HTTP/2 pings, also on an idle connection. */
  readonly pingMs: number;
  /** Longest wait for the answer to a ping, or for any other byte in its place. */
  readonly pongMs: number;
  /** For a name to be resolved. */
  readonly resolveMs: number;
  /** For a connection to be made: name, TCP, proxy and TLS together. */
  readonly connectMs: number;
  /** For a single object: connection, answer and its end. */
  readonly callMs: number;
  /** For the head of a list's or a watch's answer, and between two pieces of a list. */
  readonly idleMs: number;
  /** For an exec plugin. */
  readonly execMs: number;
}

/** A connection that is dead is noticed within 10 s over HTTP/2. */
export const TIMING: Timing = {
  pingMs: 5000,
  pongMs: 5000,
  resolveMs: 5000, // one name server's timeout (resolv.conf(5)); the next attempt joins a query that still runs
  connectMs: 8000, // less than callMs, so that a call names what it was that took so long
  callMs: 10_000,
  idleMs: 30_000,
  execMs: 30_000, // plugins ask clouds for tokens
};
