// The config a daemon starts with: the store's, or that of the saved table when the store is away.
//
//   anybody listening? ─ no ───────────────────────────► saved table, if there is one
//        │ yes
//        ▼
//   readConfig, up to ANSWER_MS ─ answered ─► that config      (a saved table is not even looked at)
//        │ not answered, or with an invalid one
//        └──────────────────────────────────► saved table, if there is one; else wait for the answer
//
// The store goes on being asked: an answer that comes before anything is made from the table is used, and one that comes
// later is compared with it (config-shape.ts).

import type { NetworkConfig } from '../config/network-config.js';
import { OverlayError } from '../core/errors.js';
import { MONOTONIC_CLOCK, sleep } from '../core/waiting.js';
import type { Logger } from '../core/log.js';
import type { CachedTable, LeaseStore } from '../store/store.js';

// A store that is alive answers in some 150 ms, of which most is loading its client.
const ANSWER_MS = 1000;
const INVALID_RETRY_MS = 5000;

export interface FirstConfig {
  readonly config: NetworkConfig;
  /** Set when the store has not answered: `config` and all else is from here. */
  readonly cached: CachedTable | undefined;
  /** The store's config if it has come by now. */
  readonly answered: () => NetworkConfig | undefined;
  /** The store's config, when it comes. Does not reject but by `signal`: an invalid one is logged and asked for again. */
  readonly fromStore: () => Promise<NetworkConfig>;
}

/** See the head of this file; without `mayUseTable` the answer is waited for. Rejects as LeaseStore.readConfig() does, unless a saved table is used. */
export async function firstConfig(
  store: LeaseStore,
  log: Logger,
  signal: AbortSignal,
  mayUseTable = true,
): Promise<FirstConfig> {
  const hasTable = mayUseTable && store.cached !== undefined;
  let reading: Promise<NetworkConfig> | undefined;
  let answer: NetworkConfig | undefined;
  let why = 'store does not answer';
  const answered = (): NetworkConfig | undefined => answer;
  const fromStore = (): Promise<NetworkConfig> => validConfig(store, reading, log, signal);
  if (!hasTable || (await store.isAway?.()) !== true) {
    reading = store.readConfig(signal);
    reading.then(
      (config) => (answer = config),
      () => undefined, // fromStore() sees it too
    );
    // An edit must not end the hosts that start next while the others go on.
    const usable = reading.catch((error: unknown) => {
      if (!(hasTable && error instanceof OverlayError && error.code === 'E_CONFIG')) throw error;
      why = 'the network config in the store is invalid';
      return undefined;
    });
    const config = await (hasTable ? withinTime(usable) : usable);
    if (config !== undefined) return { config, cached: undefined, answered, fromStore };
  }
  const cached = hasTable ? store.cached?.() : undefined;
  if (cached === undefined) {
    const config = await (reading ?? store.readConfig(signal));
    return { config, cached, answered, fromStore };
  }
  log.warn(`${why}: starting from the lease table of ${cached.savedAt}`);
  return { config: cached.config, cached, answered, fromStore };
}

async function withinTime<T>(reading: Promise<T>): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => (timer = setTimeout(() => resolve(undefined), ANSWER_MS)));
  try {
    return await Promise.race([reading, late]);
  } finally {
    clearTimeout(timer);
  }
}

async function validConfig(
  store: LeaseStore,
  reading: Promise<NetworkConfig> | undefined,
  log: Logger,
  signal: AbortSignal,
): Promise<NetworkConfig> {
  let next = reading;
  for (;;) {
    try {
      return await (next ?? store.readConfig(signal));
    } catch (error) {
      if (signal.aborted || !(error instanceof OverlayError)) throw error;
      // A daemon that forwards from its saved table is not ended by what somebody wrote meanwhile.
      log.error({ code: error.code }, `network config not usable, keeping the saved one: ${error.message}`);
      next = undefined;
      await sleep(MONOTONIC_CLOCK, INVALID_RETRY_MS, signal);
    }
  }
}
