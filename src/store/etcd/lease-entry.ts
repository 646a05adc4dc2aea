// What is kept of a key in the lease range until it is a lease: little, whatever somebody wrote there. Pure.
//
// A key is known by the lease's id, which is its name below the prefix: one text for the mirror and all others. One
// whose name can be no lease's is known by a hash of it, and costs that much. A value longer than any lease needs to be
// is replaced by what is understood of it, written anew, or by what is wrong with it.

import { createHash } from 'node:crypto';
import {
  formatLeaseValue,
  MAX_LEASE_BYTES,
  MAX_VALUE_BYTES,
  parseLeaseKey,
  parseLeaseValue,
} from '../../lease/lease-codec.js';
import type { KvEntry } from './etcd-kv.js';
import { leaseKeyName, showKey } from './keys.js';
import type { KeyLayout } from './keys.js';

// No key of a range begins so, since a range begins with its prefix.
const ID_MARK = '\0';

/** What a key is known by: its name, or the hash of a key whose name can be no lease's. */
export function leaseKeyId(layout: KeyLayout, key: string): string {
  if (nameProblem(layout, key) === undefined) {
    // A copy: V8 makes a slice() of this length a view of the whole key, which then stays, too.
    return Buffer.from(key.slice(layout.leasePrefix.length), 'latin1').toString('latin1');
  }
  return ID_MARK + createHash('sha1').update(key, 'latin1').digest('base64').slice(0, 16);
}

/** `entry` with no more in it than a lease may take. */
export function trimEntry(layout: KeyLayout, entry: KvEntry): KvEntry {
  const wrongName = nameProblem(layout, entry.key);
  if (wrongName !== undefined) {
    const key = leaseKeyId(layout, entry.key);
    return { ...entry, key, shownKey: showKey(entry.key), value: undefined, problem: wrongName };
  }
  if (entry.value === undefined) {
    return { ...entry, problem: `value of ${entry.valueBytes} bytes (at most ${MAX_VALUE_BYTES})` };
  }
  if (entry.valueBytes <= MAX_LEASE_BYTES) return entry;
  const decoded = parseLeaseValue(entry.value);
  return decoded.ok
    ? { ...entry, value: formatLeaseValue(decoded.value) }
    : { ...entry, value: undefined, problem: decoded.problem };
}

function nameProblem(layout: KeyLayout, key: string): string | undefined {
  const name = leaseKeyName(layout, key);
  if (name === undefined) return 'not directly below the subnets directory';
  const subnet = parseLeaseKey(name);
  return subnet.ok ? undefined : subnet.problem;
}
