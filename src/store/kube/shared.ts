// What the parts of one Kubernetes store share.

import type { Logger } from '../../core/log.js';
import { type Clock, MONOTONIC_CLOCK } from '../../core/waiting.js';
import type { KubeClient } from './api/client.js';

export interface KubeTuning {
  /** How long leases that vanished with a restored API server are kept. */
  readonly graceMs: number;
  readonly clock: Clock;
  readonly random: () => number;
  /** Wall clock, in milliseconds. */
  readonly now: () => number;
}

export const DEFAULT_TUNING: KubeTuning = {
  graceMs: 600_000,
  clock: MONOTONIC_CLOCK,
  random: Math.random,
  now: Date.now,
};

export interface KubeShared extends KubeTuning {
  readonly client: KubeClient;
  /** What names of annotations begin with, as annotationPrefix() gives it. */
  readonly prefix: string;
  /** Path of net-conf.json. */
  readonly netConfigPath: string;
  readonly setsNetworkUnavailable: boolean;
  /** Where the last good table is kept; undefined: nowhere. */
  readonly tablePath: string | undefined;
  readonly log: Logger;
}
