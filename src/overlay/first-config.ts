// The network a daemon starts with: the store's, or that of the saved table when the store is away.
//
//   anybody listening? ─ no ───────────────────────────► saved table, if there is one
//        │ yes
//        ▼
//   readConfig, a second at most ─ answered ─► that network     (a saved table is not even looked at)
//        │ not answered, or with an invalid config
//        └──────────────────────────────────► saved table, if there is one; else wait for the answer
//
// The store goes on being asked: an answer that comes before anything is made from the table is used, and one that
// comes later is compared with it (rejoined.ts). A saved table holds for the public IP it was saved with; with another,
// this is another host, and the answer is waited for.

import type { NetworkConfig } from '../config/network-config.js';
import { OverlayError } from '../core/errors.js';
import { MONOTONIC_CLOCK, sleep, withinTime } from '../core/waiting.js';
import type { Logger } from '../core/log.js';
import { sameDual } from '../net/dual.js';
import type { DualAddress } from '../net/prefix.js';
import type { CachedTable, HostHints, LeaseStore, StoredNetwork } from '../store/store.js';
import { RejoinedMembership } from './rejoined.js';

// A store that is alive answers in some 150 ms, of which most is loading its client.
const ANSWER_MS = 1000;
/** While packets wait that hold back whole connections; the client is loaded then, most often. */
const URGENT_ANSWER_MS = 250;
const INVALID_RETRY_MS = 5000;

export interface FirstConfig {
  /** What the external interface is chosen by. */
  readonly config: NetworkConfig;
  readonly hints: HostHints;
  /**
   * The network to join, for a host of this public IP. Of the saved table, a later config of the store that is invalid
   * is logged and asked for again; else it rejects as LeaseStore.readConfig() does.
   */
  network(publicIp: DualAddress): Promise<StoredNetwork>;
}

export interface StartConditions {
  /** Whether a saved table is used, or the answer is waited for. @default true */
  readonly mayUseTable?: boolean | undefined;
  /** Whether packets wait for this start. @default false */
  readonly isUrgent?: boolean | undefined;
}

/** See the head of this file. Rejects as LeaseStore.readConfig() does, unless a saved table is used. */
export async function firstConfig(
  store: LeaseStore,
  log: Logger,
  signal: AbortSignal,
  { mayUseTable = true, isUrgent = false }: StartConditions = {},
): Promise<FirstConfig> {
  const saved = mayUseTable ? store.savedStart : undefined;
  let why = 'store does not answer';
  let reading: Promise<StoredNetwork> | undefined;
  if (saved === undefined || !(await saved.isAway())) {
    reading = store.readConfig(signal);
    // An edit must not end the hosts that start next while the others go on.
    const usable = reading.catch((error: unknown) => {
      if (!(saved !== undefined && error instanceof OverlayError && error.code === 'E_CONFIG')) throw error;
      why = 'the network config in the store is invalid';
      return undefined;
    });
    const answer = await (saved === undefined
      ? usable
      : withinTime(usable, isUrgent ? URGENT_ANSWER_MS : ANSWER_MS));
    if (answer !== undefined) return answered(answer);
  }
  const table = saved?.table();
  if (table === undefined) return answered(await (reading ?? store.readConfig(signal)));
  log.warn(`${why}: starting from the lease table of ${table.savedAt}`);
  return fromTable(table, { store, log, signal, reading });
}

function answered(network: StoredNetwork): FirstConfig {
  const { config, hints = {} } = network;
  return { config, hints, network: () => Promise.resolve(network) };
}

interface Asking {
  readonly store: LeaseStore;
  readonly log: Logger;
  readonly signal: AbortSignal;
  /** The answer that is waited for already. */
  readonly reading: Promise<StoredNetwork> | undefined;
}

function fromTable(table: CachedTable, asking: Asking): FirstConfig {
  const { store, log, signal } = asking;
  let answer: StoredNetwork | undefined;
  asking.reading?.then(
    (network) => (answer = network),
    () => undefined, // validNetwork() sees it too
  );
  const stored = (until: AbortSignal): Promise<StoredNetwork> => validNetwork(asking, until);
  const network: StoredNetwork = {
    config: table.config,
    hints: table.hints ?? {},
    join: ({ host }) => Promise.resolve(new RejoinedMembership({ table, host, store, stored, signal, log })),
  };
  const isOurs = (publicIp: DualAddress): boolean => sameDual(table.ownHost.publicIp, publicIp);
  return {
    config: table.config,
    hints: table.hints ?? {},
    network: async (publicIp) => answer ?? (isOurs(publicIp) ? network : await stored(signal)),
  };
}

/**
 * The store's network, when it comes. A daemon that forwards from its saved table is not ended by what somebody writes.
 */
async function validNetwork(asking: Asking, signal: AbortSignal): Promise<StoredNetwork> {
  let next = asking.reading;
  for (;;) {
    try {
      return await (next ?? asking.store.readConfig(signal));
    } catch (error) {
      if (signal.aborted || !(error instanceof OverlayError)) throw error;
      const { code, message } = error;
      asking.log.error({ code }, `network config not usable, keeping the saved one: ${message}`);
      next = undefined;
      await sleep(MONOTONIC_CLOCK, INVALID_RETRY_MS, signal);
    }
  }
}
