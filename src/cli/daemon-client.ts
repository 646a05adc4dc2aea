// Asks the daemon of this host on its control socket.

import { request } from 'node:http';
import { CAPTURE_PATH } from '../ops/control-socket.js';
import { type FamilyTexts, STATUS_VERSION, type StatusDocument, type UdpStatus } from '../ops/status.js';

/** The daemon cannot be asked; the message says why and what to do. */
export class DaemonUnreachable extends Error {
  /** Nobody listens there; otherwise somebody does, but did not answer. */
  readonly isAbsent: boolean;
  /** Only root may ask. */
  readonly isForbidden: boolean;

  constructor(message: string, isAbsent: boolean, isForbidden = false) {
    super(message);
    this.isAbsent = isAbsent;
    this.isForbidden = isForbidden;
  }
}

/** The udp mode's piece of the document; undefined in another mode. */
export function udpOf({ backend }: StatusDocument): UdpStatus | undefined {
  return backend.type === 'udp' ? backend : undefined;
}

/** The device of the overlay; undefined where there is none, or not yet. */
export function deviceOf({ backend }: StatusDocument): string | undefined {
  return 'device' in backend ? backend.device : undefined;
}

/** The device that carries each family's packets: in the vxlan mode each has its own. */
export function devicesOf(status: StatusDocument | undefined): FamilyTexts {
  if (status?.backend.type === 'vxlan') return status.backend.devices;
  const device = status && deviceOf(status);
  return device === undefined ? {} : { v4: device, v6: device };
}

const ANSWER_MS = 5_000;
const MAX_BYTES = 64 << 20;

/** The daemon's status. Rejects with DaemonUnreachable. */
export function fetchStatus(socketPath: string): Promise<StatusDocument> {
  return new Promise((resolve, reject) => {
    const fail = (why: string, hint: string): void => {
      const isAbsent = why === 'ENOENT' || why === 'ECONNREFUSED';
      const isForbidden = why === 'EACCES' || why === 'EPERM';
      const message = `Cannot ask the daemon on ${socketPath}: ${why} (${hint})`;
      reject(new DaemonUnreachable(message, isAbsent, isForbidden));
    };
    // A connection of its own: one kept from the last time may belong to a daemon that has ended since.
    const options = { socketPath, path: '/status', timeout: ANSWER_MS, agent: false as const };
    const asked = request(options, (response) => {
      const chunks: Buffer[] = [];
      let length = 0;
      response.on('data', (chunk: Buffer) => {
        chunks.push(chunk);
        length += chunk.length;
        if (length > MAX_BYTES) asked.destroy(new Error(`more than ${MAX_BYTES} bytes`));
      });
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString();
        if (response.statusCode !== 200) {
          fail(`status ${response.statusCode}`, text.trim());
          return;
        }
        try {
          const status = JSON.parse(text) as StatusDocument;
          const version: unknown = status.statusVersion; // of a daemon of another release it may be anything
          if (version === STATUS_VERSION) return resolve(status);
          const why = `its status is of version ${String(version)}, this program reads ${STATUS_VERSION}`;
          fail(why, `it is twill ${status.version}: restart it, or use the program that came with it`);
        } catch {
          fail('its answer is no JSON', 'is it a twilld that listens there?');
        }
      });
    });
    asked.on('timeout', () => asked.destroy(new Error(`no answer within ${ANSWER_MS} ms`)));
    asked.on('error', (error: NodeJS.ErrnoException) => fail(error.code ?? error.message, hintFor(error)));
    asked.end();
  });
}

/**
 * Has the daemon show all packets on its device until the result is called, or this process ends. Resolves with
 * undefined where it does not: it is of an earlier release, or has ended.
 */
export function askToShowAll(socketPath: string): Promise<(() => void) | undefined> {
  return new Promise((resolve) => {
    const asked = request({ socketPath, path: CAPTURE_PATH, timeout: ANSWER_MS, agent: false });
    const giveUp = (): void => {
      asked.destroy();
      resolve(undefined);
    };
    asked.once('response', (response) => {
      if (response.statusCode !== 200) return giveUp();
      asked.setTimeout(0);
      response.on('error', () => undefined).resume();
      resolve(() => asked.destroy());
    });
    asked.once('timeout', giveUp).on('error', giveUp);
    asked.end();
  });
}

function hintFor({ code }: NodeJS.ErrnoException): string {
  if (code === 'EACCES' || code === 'EPERM') return 'only root may ask: use sudo';
  if (code === 'ENOENT' || code === 'ECONNREFUSED') {
    return 'is twilld running, with the same --control-socket? See: systemctl status twilld';
  }
  return 'see the log of the daemon';
}
