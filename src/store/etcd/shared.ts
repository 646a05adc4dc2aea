// What the parts of one etcd store share.

import type { Condition, ConditionCode } from '../../core/conditions.js';
import { condition } from '../../core/conditions.js';
import type { Logger } from '../../core/log.js';
import { type Clock, MONOTONIC_CLOCK } from '../../core/waiting.js';
import { type OpenClient, openEtcd3 } from './client.js';
import type { EtcdConnection } from './connection.js';
import type { LeaseKv } from './etcd-kv.js';
import type { KeyLayout } from './keys.js';

export interface EtcdTuning {
  /** flannel's lease lifetime. */
  readonly leaseTtlSeconds: number;
  /** Silence on a watch after which the server is asked for a sign of life, and time for its answer. */
  readonly progressMs: number;
  /** Between two comparisons of a watched range with a fresh list. */
  readonly resyncMs: number;
  /** How long leases that vanished with a wiped store are kept. */
  readonly graceMs: number;
  /** Between two looks at certificate files and alarms. */
  readonly recheckMs: number;
  readonly clock: Clock;
  readonly random: () => number;
  readonly openClient: OpenClient;
}

export const DEFAULT_TUNING: EtcdTuning = {
  leaseTtlSeconds: 86_400,
  progressMs: 5000,
  resyncMs: 300_000,
  graceMs: 600_000,
  recheckMs: 30_000,
  clock: MONOTONIC_CLOCK,
  random: Math.random,
  openClient: openEtcd3,
};

export interface EtcdShared extends EtcdTuning {
  readonly connection: EtcdConnection;
  readonly kv: LeaseKv;
  readonly layout: KeyLayout;
  readonly log: Logger;
  /** --subnet-lease-renew-margin. */
  readonly renewMarginMs: number;
  /** Where the last good table is kept; undefined: nowhere. */
  readonly tablePath: string | undefined;
}

/** What tells one overlay's saved table from another's: the public IP inside the table does the rest. */
export function tableSource({ prefix }: KeyLayout): string {
  return `etcd:${prefix}`;
}

/** Adds what is not said yet: what holds up one thing holds up the next, and the first says it. */
export function addUnsaid(found: Condition[], code: ConditionCode, text: string | undefined): void {
  if (text !== undefined && !found.some((known) => known.text.includes(text)))
    found.push(condition(code, text));
}
