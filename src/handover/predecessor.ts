// The side of the new daemon, which takes over from one that runs (--takeover): asks by its control socket.
//
//   GET /handover, Upgrade: twill-handover/1 ─►      ◄─ 101, then the descriptors; it forwards, and does nothing else
//   stop ─►                                          each worker ends its turn; then ◄─ what they have counted
//   taken ─►                                         it ends
//
//                          instead of all that ◄─ late: this process ends at once, and it starts again as it was
//
// Until "stop" it goes on when this process dies, and starts again as it was. Each line is JSON.

import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { errnoName } from '../core/errno.js';
import { messageOf, OverlayError } from '../core/errors.js';
import type { Logger } from '../core/log.js';
import { withinTime } from '../core/waiting.js';
import { native } from '../native/native.js';
import type { Predecessor } from './handover.js';
import { HANDOVER_PATH, HANDOVER_PROTOCOL, LATE } from './successor.js';

// It closes all but its data path first, which takes less than a second.
const ANSWER_MS = 5_000;
const STOP_MS = 5_000;
/** As long as the names of more queues than there may be. */
const MAX_ANSWER = 65_536;
const ENOENT = 2;
const EINTR = 4;
const ECONNREFUSED = 111;

export interface TakenOver {
  /** By name, the caller's to close. */
  readonly descriptors: Map<string, number>;
  readonly predecessor: Predecessor;
}

/**
 * Asks the daemon at `path` for its data path; undefined when no daemon is there. Blocks this thread, which has nothing
 * else to do yet. `onLate` is called when that daemon goes on instead: this process is to end at once then, before one
 * of its workers begins.
 *
 * @throws OverlayError E_RUNNING when it refuses or does not answer.
 */
export function takeOver(path: string, log: Logger, onLate: () => void): TakenOver | undefined {
  const socket = native.connectUnix(path);
  if (socket === -ENOENT || socket === -ECONNREFUSED) return undefined;
  if (socket < 0) throw refusal(path, errnoName(socket));
  const descriptors: number[] = [];
  try {
    const names = ask(path, socket, descriptors);
    const found = new Map(names.map((name, i) => [name, descriptors[i]]));
    return { descriptors: found, predecessor: new RunningPredecessor(socket, log, onLate) };
  } catch (error) {
    for (const fd of [socket, ...descriptors]) closeSync(fd);
    throw error;
  }
}

/** The names of what was put into `descriptors`, in its order. */
function ask(path: string, socket: number, descriptors: number[]): readonly string[] {
  const request = [
    `GET ${HANDOVER_PATH} HTTP/1.1`,
    'Host: localhost',
    'Connection: Upgrade',
    `Upgrade: ${HANDOVER_PROTOCOL}`,
  ];
  const sent = native.sendMessage(socket, `${request.join('\r\n')}\r\n\r\n`, []);
  if (sent < 0) throw refusal(path, errnoName(sent));
  const untilMs = performance.now() + ANSWER_MS;
  let text = '';
  for (;;) {
    const received = native.receiveMessage(socket, Math.max(0, untilMs - performance.now()));
    if (performance.now() > untilMs || text.length > MAX_ANSWER) throw refusal(path, 'no answer of use');
    if ('errno' in received) {
      if (received.errno === EINTR) continue;
      throw refusal(path, `${received.operation}: ${errnoName(received.errno)}`);
    }
    descriptors.push(...received.descriptors);
    text += received.text;
    const [head = '', body] = text.split('\r\n\r\n', 2);
    if (body !== undefined && !/^HTTP\/1\.1 101 /.test(head)) throw refusal(path, body.trim() || head);
    if (body?.endsWith('\n')) {
      const names = namesIn(body);
      if (names === undefined) throw refusal(path, `unexpected answer ${JSON.stringify(body.slice(0, 100))}`);
      if (names.length === descriptors.length) return names;
    }
    if (received.text === '') throw refusal(path, 'it has closed the connection');
  }
}

/** The names in an answer; undefined when it holds none. */
function namesIn(body: string): readonly string[] | undefined {
  try {
    const { names } = JSON.parse(body) as { readonly names?: unknown };
    return Array.isArray(names) && names.every((name) => typeof name === 'string') ? names : undefined;
  } catch {
    return undefined;
  }
}

function refusal(path: string, why: string): OverlayError {
  return new OverlayError('E_RUNNING', `Cannot take over from the daemon at ${path}: ${why}`);
}

class RunningPredecessor implements Predecessor {
  readonly gone: Promise<void>;
  readonly #socket: Socket;
  /** Its answer to "stop", JSON. */
  readonly #told: Promise<string>;

  constructor(fd: number, log: Logger, onLate: () => void) {
    this.#socket = new Socket({ fd, readable: true, writable: true });
    this.#socket.on('error', (error) => log.warn(`daemon before this one: ${messageOf(error)}`));
    this.gone = new Promise((resolve) => this.#socket.once('close', () => resolve()));
    this.#told = new Promise((resolve) => {
      const lines = createInterface({ input: this.#socket });
      lines.on('error', () => undefined); // the socket's
      lines.on('line', (line) => {
        if (line === LATE) onLate();
        else resolve(line);
      });
    });
    // What waits for nothing else must not keep the process alive.
    this.#socket.unref();
  }

  async stop(): Promise<unknown> {
    this.#socket.write('"stop"\n');
    const told = await withinTime(Promise.race([this.#told, this.gone]), STOP_MS);
    this.#socket.end('"taken"\n');
    try {
      return told === undefined ? undefined : JSON.parse(told);
    } catch {
      return undefined;
    }
  }
}
