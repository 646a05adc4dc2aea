// The key layout under --etcd-prefix, as real flanneld has it. Pure.
//
//   <prefix>/config                                   network config JSON
//   <prefix>/subnets/<a.b.c.d>-<len>                  one lease, of IPv4
//   <prefix>/subnets/<a.b.c.d>-<len>&<v6>-<len>       of both families
//   <prefix>/subnets/0.0.0.0-0&<v6>-<len>             of IPv6
//
// **Invariant:** twill writes no other key that begins with "<prefix>/subnets": flanneld reads that range without a
// trailing slash, and one key it cannot parse makes it withdraw all its peers.
//
// A key is a *binary string* here, one char per byte: two different byte strings never become one text, as they could
// with UTF-8 replacement characters. Only etcd-kv.ts turns it into bytes and back.

import { formatLeaseKey } from '../../lease/lease-codec.js';
import type { DualPrefix } from '../../net/prefix.js';

export interface KeyRange {
  readonly start: string;
  /** Exclusive; undefined for the one key `start`. */
  readonly end: string | undefined;
}

export interface KeyLayout {
  readonly prefix: string;
  readonly configKey: string;
  /** "<prefix>/subnets/". */
  readonly leasePrefix: string;
  readonly configRange: KeyRange;
  /** What flanneld lists and watches: the raw prefix, no slash. */
  readonly leaseRange: KeyRange;
}

/** The layout under `prefix`, joined and cleaned as Go's path.Join does (no double or trailing slashes, no dots). */
export function keyLayout(prefix: string): KeyLayout {
  const base = cleanPath(prefix);
  const below = (name: string): string => (base === '' || base === '/' ? base + name : `${base}/${name}`);
  const config = below('config');
  const subnets = below('subnets');
  const last = subnets.length - 1;
  return {
    prefix: base,
    configKey: config,
    leasePrefix: `${subnets}/`,
    configRange: { start: config, end: undefined },
    leaseRange: {
      start: subnets,
      end: subnets.slice(0, last) + String.fromCharCode(subnets.charCodeAt(last) + 1),
    },
  };
}

/** The key of the lease for `subnets`. */
export function leaseKey(layout: KeyLayout, subnets: DualPrefix): string {
  return layout.leasePrefix + formatLeaseKey(subnets);
}

/** The part of `key` after "<prefix>/subnets/", or undefined when it is not directly below it. */
export function leaseKeyName(layout: KeyLayout, key: string): string | undefined {
  if (!key.startsWith(layout.leasePrefix)) return undefined;
  const name = key.slice(layout.leasePrefix.length);
  return name.includes('/') ? undefined : name;
}

/** `key` for a log line: at most 128 chars, everything outside printable ASCII escaped. */
export function showKey(key: string): string {
  const cut = key.length > 128 ? `${key.slice(0, 128)}…(${key.length} bytes)` : key;
  return cut.replaceAll(/[^\x20-\x7e…]/g, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`);
}

function cleanPath(prefix: string): string {
  const bytes = Buffer.from(prefix, 'utf8').toString('latin1');
  const parts: string[] = [];
  for (const part of bytes.split('/')) {
    if (part === '' || part === '.') continue;
    if (part === '..') parts.pop();
    else parts.push(part);
  }
  return (bytes.startsWith('/') ? '/' : '') + parts.join('/');
}
