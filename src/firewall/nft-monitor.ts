// Tells that rules of ours were removed, by a long-lived `nft monitor destroy`: a `nft flush ruleset` by hand or by a
// reload of the host's firewall takes the source check with it, and until the next look anyone could send.
//
// Asking every half second was rejected (3.5 ms of CPU each time, for ever), and so was `monitor destroy tables`, which
// does not see a chain that is flushed. kube-proxy's own changes are many lines; those without our names are dropped
// here.

import { openMonitor, type Monitor } from '../kernel/monitor.js';
import type { Logger } from '../core/log.js';
import { GUARD_TABLE } from './member-guard.js';
import { NFT_TABLES } from './rules.js';

export interface NftMonitorOptions {
  /** Compares and repairs; neither throws nor rejects. Also called after each (re)start: nothing was heard before. */
  readonly onChange: () => Promise<void>;
  readonly log: Logger;
}

/** The source check is to be back within a second, whatever was repaired just before. */
const PAUSE_MAX_MS = 300;

const NAMES = new RegExp(` (${GUARD_TABLE}|${NFT_TABLES[4].name}|${NFT_TABLES[6].name}|FLANNEL-)`);

/** Starts to listen; there must be an nft. */
export function openNftMonitor({ onChange, log }: NftMonitorOptions): Monitor {
  return openMonitor(onChange, {
    log,
    command: ['nft', 'monitor', 'destroy'],
    pauseMaxMs: PAUSE_MAX_MS,
    isRelevant: (line) => NAMES.test(line),
  });
}
