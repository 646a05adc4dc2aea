// What went wrong with one request to the API server.

/** Reasons of a request that got no answer, or only a part of one. */
export type WayReason =
  | 'unreachable' // no connection
  | 'timeout' // no answer, or none to its end, in time
  | 'broken' // the connection or the stream ended too early, or what came is no answer
  | 'tls' // handshake or certificate refused, by either side
  | 'closed' // we closed the client
  | 'credentials'; // there are none to send: a file or an exec plugin failed

/** What a fault may have besides its message. */
export interface KubeFaultOptions {
  readonly retryAfterMs?: number | undefined;
  readonly cause?: unknown;
}

/**
 * A failed request. The message is one line and names server, verb and resource:
 * `cannot patch nodes/status at https://10.96.0.1:443: 403 Forbidden: …`.
 */
export class KubeFault extends Error {
  /** HTTP status, or the code of the Status in an ERROR event; 0: no answer. */
  readonly status: number;
  /** Reason of the Status ("Expired", "Forbidden", …), or "" when it has none; a WayReason for status 0. */
  readonly reason: string;
  /** How long the server wants to be left alone. */
  readonly retryAfterMs: number | undefined;

  constructor(status: number, reason: string, message: string, options: KubeFaultOptions = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined);
    this.name = 'KubeFault';
    this.status = status;
    this.reason = reason;
    this.retryAfterMs = options.retryAfterMs;
  }
}
