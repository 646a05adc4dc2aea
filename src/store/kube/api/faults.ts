// What went wrong with one request to the API server.
//
//   WayFault (transport, credentials) ─┐
//   answer without 2xx ────────────────┼─► KubeFault: says which request it was
//   ERROR event of a watch ────────────┘
//
// The text of a server is not ours: one line of it is shown, of bounded length and without control characters.

import { messageOf, OverlayError } from '../../../core/errors.js';
import { isObject, textOf } from './api-object.js';
import type { ApiObject } from './client.js';

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
  /** How long the server wants to be left alone; at most ten minutes. */
  readonly retryAfterMs: number | undefined;

  constructor(status: number, reason: string, message: string, options: KubeFaultOptions = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined);
    this.name = 'KubeFault';
    this.status = status;
    this.reason = reason;
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** A fault that the parts of the client throw: they do not know which request they serve. */
export class WayFault extends Error {
  readonly reason: WayReason;
  /** The server has not carried out the request, or it changes nothing: it can be sent again on another connection. */
  readonly mayResend: boolean;

  constructor(reason: WayReason, message: string, options: { cause?: unknown; mayResend?: boolean } = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined);
    this.name = 'WayFault';
    this.reason = reason;
    this.mayResend = options.mayResend ?? false;
  }
}

// A wait that a server asks for in error must not keep a node away for hours.
const MAX_RETRY_AFTER_MS = 600_000;
const MAX_TEXT = 400;

/** What was tried, for messages: "patch nodes/status at https://10.96.0.1:443". */
export type Action = string;

/**
 * `error` of a part of the client as the fault of `action`: an OverlayError is that of a file. What listeners throw
 * must not come here.
 */
export function toKubeFault(error: unknown, action: Action): KubeFault {
  if (error instanceof KubeFault) return error;
  const ofFile = error instanceof OverlayError ? 'credentials' : 'broken';
  const reason = error instanceof WayFault ? error.reason : ofFile;
  return new KubeFault(0, reason, `cannot ${action}: ${oneLine(messageOf(error))}`, { cause: error });
}

/** The fault that an answer with this status stands for; `text` is its body, or the first part of it. */
export function faultOfAnswer(
  status: number,
  text: string,
  retryAfter: string | undefined,
  action: Action,
): KubeFault {
  const { reason, message } = readStatus(text);
  const said = [reason, message].filter((part) => part !== '').join(': ');
  return new KubeFault(status, reason, `cannot ${action}: ${status} ${oneLine(said)}`.trimEnd(), {
    retryAfterMs: retryAfterMs(retryAfter),
  });
}

/** The fault that the Status in an ERROR event stands for. */
export function faultOfStatus(status: ApiObject, action: Action): KubeFault {
  const code = Number.isSafeInteger(status['code']) ? (status['code'] as number) : 500;
  const details = isObject(status['details']) ? status['details'] : {};
  const seconds = details['retryAfterSeconds'];
  const retryAfter = typeof seconds === 'number' ? String(seconds) : undefined;
  return faultOfAnswer(code, JSON.stringify(status), retryAfter, action);
}

/** A Status, or whatever else came: text of the server, a page of a proxy. */
function readStatus(text: string): { reason: string; message: string } {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { reason: '', message: text };
  }
  if (!isObject(value)) return { reason: '', message: text };
  return { reason: textOf(value, 'reason').slice(0, 100), message: textOf(value, 'message') };
}

/** Seconds, or a date (RFC 9110, section 10.2.3). */
function retryAfterMs(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const ms = /^\d+$/.test(text.trim()) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(ms, 0), MAX_RETRY_AFTER_MS);
}

/** For a log: one line of at most MAX_TEXT characters. */
export function oneLine(text: string): string {
  const line = text
    .slice(0, 4 * MAX_TEXT)
    .replaceAll(/[\s\p{C}]+/gu, ' ')
    .trim();
  return line.length <= MAX_TEXT ? line : `${line.slice(0, MAX_TEXT)}…`;
}
