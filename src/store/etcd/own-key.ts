// One conditional write of the own lease key, with everything that can go wrong around it.
//
//   grant a new etcd lease ─► txn: key as expected? put ─► done ─► revoke the etcd lease the key was moved off
//                                        │ no / no answer: read back
//                                        └► not written: revoke the new etcd lease
//
// The revocation after a missing answer is also a fence: a put that is still under way fails at the server once its
// etcd lease is gone.

import type { KvEntry, LeaseKv } from './etcd-kv.js';
import { EtcdFault } from './faults.js';
import type { Logger } from '../../core/log.js';
import type { Clock } from '../../core/waiting.js';

/** The own key as we last wrote or accepted it. */
export interface OwnKey {
  readonly key: string;
  readonly value: string;
  /** Changes when the key was deleted and made again, by whomever. */
  readonly createRevision: bigint;
  readonly modRevision: bigint;
  /** 0n: a reservation, which does not expire. */
  readonly leaseId: bigint;
  /** Clock.bootMs() at which the etcd lease runs out, counted from before the grant; Infinity for a reservation. */
  readonly expiresAtMs: number;
  /** What etcd granted; Infinity for a reservation. */
  readonly grantedMs: number;
}

export interface OwnKeyWrite {
  readonly key: string;
  readonly value: string;
  /** What the key is expected to hold; undefined: it must not exist. */
  readonly over: Pick<KvEntry, 'createRevision' | 'modRevision' | 'leaseId'> | undefined;
  /** Id of the etcd lease to grant; 0n to write a reservation, without etcd lease. */
  readonly newLeaseId: bigint;
}

interface WriteContext {
  readonly kv: LeaseKv;
  readonly log: Logger;
  readonly clock: Clock;
  readonly leaseTtlSeconds: number;
}

/**
 * Writes the own key if it is as expected. Resolves to what now stands there, or to undefined when the key was not as
 * expected and nothing was written. Rejects with EtcdFault when a call fails; nothing is left behind then, as far as
 * etcd can still be reached.
 */
export async function writeOwnKey(
  context: WriteContext,
  write: OwnKeyWrite,
  signal: AbortSignal,
): Promise<OwnKey | undefined> {
  const { kv, clock } = context;
  const startedAtMs = clock.bootMs();
  let ttlSeconds = Infinity;
  if (write.newLeaseId !== 0n) {
    try {
      ttlSeconds = await kv.grant(write.newLeaseId, context.leaseTtlSeconds, signal);
    } catch (error) {
      if (error instanceof EtcdFault && error.isUncertain) await discard(context, write.newLeaseId, signal);
      throw error;
    }
  }
  let modRevision: bigint | undefined;
  try {
    modRevision = await putIfExpected(kv, write, signal);
  } catch (error) {
    await discard(context, write.newLeaseId, signal);
    throw error;
  }
  if (modRevision === undefined) {
    await discard(context, write.newLeaseId, signal);
    return undefined;
  }
  const left = write.over?.leaseId ?? 0n;
  if (left !== 0n && left !== write.newLeaseId) await revokeIfEmpty(context, left, signal);
  return {
    key: write.key,
    value: write.value,
    createRevision: write.over?.createRevision ?? modRevision,
    modRevision,
    leaseId: write.newLeaseId,
    expiresAtMs: startedAtMs + ttlSeconds * 1000,
    grantedMs: ttlSeconds * 1000,
  };
}

/** The mod revision of our write, or undefined when the key was not as expected. */
async function putIfExpected(
  kv: LeaseKv,
  write: OwnKeyWrite,
  signal: AbortSignal,
): Promise<bigint | undefined> {
  const { key, value, over, newLeaseId } = write;
  try {
    const outcome =
      over === undefined
        ? await kv.create(key, value, newLeaseId, signal)
        : await kv.replace(key, value, newLeaseId, over.modRevision, signal);
    return outcome.isDone ? outcome.revision : undefined;
  } catch (error) {
    if (!(error instanceof EtcdFault) || !error.isUncertain) throw error;
    const entry = await kv.get(key, signal);
    const isOurs =
      entry !== undefined &&
      entry.value === value &&
      entry.leaseId === newLeaseId &&
      entry.modRevision > (over?.modRevision ?? 0n);
    if (!isOurs) throw error;
    return entry.modRevision;
  }
}

/** Revokes an etcd lease granted for a write that did not happen; best effort, it would run out by itself. */
async function discard(context: WriteContext, leaseId: bigint, signal: AbortSignal): Promise<void> {
  if (leaseId === 0n || signal.aborted) return;
  await context.kv.revoke(leaseId, signal).catch((error: unknown) => {
    context.log.debug({ error: (error as Error).message }, 'unused etcd lease not revoked: it will expire');
  });
}

/** Revokes the etcd lease that the key was moved off, unless somebody attached other keys to it. */
async function revokeIfEmpty(context: WriteContext, leaseId: bigint, signal: AbortSignal): Promise<void> {
  try {
    if ((await context.kv.attachedKeys(leaseId, signal)) === 0) await context.kv.revoke(leaseId, signal);
  } catch (error) {
    context.log.debug({ error: (error as Error).message }, 'previous etcd lease not revoked: it will expire');
  }
}
