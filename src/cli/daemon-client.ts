// Asks the daemon of this host on its control socket.

import { request } from 'node:http';
import type { ReachState } from '../probe/peer-reach.js';

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

/** A peer as /status shows it; which fields there are depends on the backend. */
export interface PeerStatus {
  readonly subnet: string;
  readonly publicIp: string;
  readonly refused?: string;
  readonly mtuBytes?: number;
  readonly packetsOut?: number;
  readonly bytesOut?: number;
  readonly packetsIn?: number;
  readonly bytesIn?: number;
  /** Of the kernel modes. */
  readonly state?: string;
  readonly reason?: string;
  readonly path?: { readonly rttMs?: number; readonly loss?: number; readonly mtuBytes?: number };
  /** Absent in older daemons. */
  readonly reachability?: Reachability;
}

/** Whether echoes through the overlay come back. */
export interface Reachability {
  readonly state: ReachState;
  /** RFC 3339; while it is neither ok nor unknown. */
  readonly since?: string;
  readonly lastHeard?: string;
  readonly rttMs?: number;
  readonly loss?: number;
  readonly reason?: string;
}

/** Peers by what is known of them. */
export interface PeerCounts {
  readonly total: number;
  readonly ok: number;
  readonly silentSince: number;
  readonly unreachable: number;
  readonly neverHeard: number;
  readonly unknown: number;
}

/** A condition as /status shows it. */
export interface ConditionStatus {
  readonly code: string;
  readonly severity: 'error' | 'warning';
  readonly scope: 'node' | 'peer' | 'cluster';
  readonly part: string;
  readonly text: string;
  /** What to do. */
  readonly action: string;
  /** RFC 3339. */
  readonly since: string;
  readonly seconds: number;
  readonly count: number;
}

/** What /status says, as far as the commands read it. */
export interface DaemonStatus {
  readonly version: string;
  readonly uptimeSeconds: number;
  readonly ready: boolean;
  /** Why it is not ready. */
  readonly degraded: readonly string[];
  /** Everything that holds, the worst first. Absent in older daemons. */
  readonly conditions?: readonly ConditionStatus[];
  readonly network?: string;
  readonly lease?: { readonly subnet: string; readonly mtuBytes: number };
  readonly interface?: {
    readonly name: string;
    readonly address: string;
    readonly publicIp: string;
    readonly mtuBytes: number;
  };
  readonly subnetFile: string;
  readonly store: Readonly<Record<string, unknown>> & { readonly kind: string };
  readonly backend: Readonly<Record<string, unknown>> & {
    readonly type?: string;
    readonly device?: string;
    readonly port?: number;
    readonly offloads?: Readonly<Record<string, unknown>>;
    readonly counters?: {
      readonly outbound: Readonly<Record<string, number>>;
      readonly inbound: Readonly<Record<string, number>>;
      readonly socketDrops: number;
    };
  };
  readonly peers: readonly PeerStatus[];
  /** Absent in older daemons, and without probes. */
  readonly peerCounts?: PeerCounts;
  readonly refusedLeases: readonly { readonly key: string; readonly code: string; readonly text: string }[];
  readonly alarms: readonly string[];
}

const ANSWER_MS = 5_000;
const MAX_BYTES = 64 << 20;

/** The daemon's status. Rejects with DaemonUnreachable. */
export function fetchStatus(socketPath: string): Promise<DaemonStatus> {
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
          resolve(JSON.parse(text) as DaemonStatus);
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

function hintFor({ code }: NodeJS.ErrnoException): string {
  if (code === 'EACCES' || code === 'EPERM') return 'only root may ask: use sudo';
  if (code === 'ENOENT' || code === 'ECONNREFUSED') {
    return 'is twilld running, with the same --control-socket? See: systemctl status twilld';
  }
  return 'see the log of the daemon';
}
