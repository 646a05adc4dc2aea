// One lease as flannel stores it: key text and value text to a lease's subnet and host, and back. Pure.
//
//   key    10.5.1.0-24
//   value  {"PublicIP":"172.20.0.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"…"}}
//
// Writing yields flannel's bytes: field order, no blanks, PublicIPv6 null, no BackendType for the udp backend.
// Reading follows Go's encoding/json (field names in any case, unknown fields ignored, the last duplicate wins) but is
// bounded and refuses what no host can mean. It returns problems instead of throwing: whoever can write to the store
// can write any bytes, and one bad key must not stop the rest.
//
// **Invariant:** one subnet has one key text. "10.5.1.0-024", "10.5.1.7-24" and the like are refused.

import { field, parseJson } from '../config/go-json.js';
import { isBogon } from '../net/bogons.js';
import { formatIpv4, type Ipv4, parseIpv4 } from '../net/ipv4.js';
import { type DualPrefix, maskOf, type Prefix, prefixOf } from '../net/prefix.js';
import { type LeaseHost, leaseBackend } from './lease.js';

/** Longest key name looked at; the longest valid one is 18 bytes, dual-stack ones are below 64. */
export const MAX_KEY_BYTES = 128;
/** Longest lease value accepted; flannel's longest own value is below 400 bytes. etcd itself allows 1.5 MiB. */
export const MAX_VALUE_BYTES = 16 * 1024;
/** Longest BackendData kept, written without blanks; flannel's longest, two WireGuard keys, is below 150 bytes. */
export const MAX_LEASE_BYTES = 1024;
/** Deepest JSON nesting accepted; flannel's values have two levels. */
export const MAX_JSON_DEPTH = 16;

export type Decoded<T> =
  { readonly ok: true; readonly value: T } | { readonly ok: false; readonly problem: string };

const PLAIN_START = '{"PublicIP":"';
const PLAIN_END = '","PublicIPv6":null}';
const DIGIT_0 = 48;
const KEY_NAME = /^([\d.]+)-(\d{1,2})$/;
const DUAL_STACK_KEY = /^[\d.]+-\d{1,2}&/;

/** The subnet named by a key below "<prefix>/subnets/". */
export function parseLeaseKey(name: string): Decoded<DualPrefix> {
  const plain = plainKey(name);
  if (plain !== undefined) return { ok: true, value: { v4: plain } };
  if (name.length > MAX_KEY_BYTES) return bad(`key of ${name.length} bytes (at most ${MAX_KEY_BYTES})`);
  if (DUAL_STACK_KEY.test(name)) return bad('dual-stack key; only IPv4 leases are used');
  const match = KEY_NAME.exec(name);
  const address = match === null ? undefined : parseIpv4(match[1]);
  if (match === null || address === undefined) return bad('key is not <a.b.c.d>-<length>');
  const length = Number(match[2]);
  // flannel reads the length as a 5-bit number, so 32 has never been valid; 0 would be the whole of IPv4.
  if (length < 1 || length > 31 || String(length) !== match[2])
    return bad(`prefix length "${match[2]}" is not 1 to 31`);
  if ((address & ~maskOf(length)) !== 0) return bad('address has host bits set');
  return { ok: true, value: { v4: { address, length } } };
}

/** What nearly every key names, found without a regular expression; undefined where a closer look is needed. */
function plainKey(name: string): Prefix | undefined {
  const dash = name.indexOf('-');
  const digits = name.length - dash - 1;
  if (dash < 0 || digits < 1 || digits > 2) return undefined;
  const tens = digits === 1 ? 0 : name.charCodeAt(dash + 1) - DIGIT_0;
  const ones = name.charCodeAt(name.length - 1) - DIGIT_0;
  const isNumber = ones >= 0 && ones <= 9 && tens >= 0 && tens <= 3 && (tens > 0 || digits === 1);
  const length = 10 * tens + ones;
  if (!isNumber || length < 1 || length > 31) return undefined;
  const address = parseIpv4(name.slice(0, dash));
  return address === undefined || (address & ~maskOf(length)) !== 0 ? undefined : { address, length };
}

/**
 * The range that a key keeps others from using, even when the key is not a valid lease: host bits and a second address
 * family are overlooked, because a host that wrote such a key still believes to own the range.
 */
export function blockedRange(name: string): Prefix | undefined {
  const match = /^([\d.]+)-(\d{1,2})(?:&|$)/.exec(name.slice(0, MAX_KEY_BYTES));
  const address = match === null ? undefined : parseIpv4(match[1]);
  const length = Number(match?.[2]);
  return address === undefined || length > 32 ? undefined : prefixOf(address, length);
}

/** "10.5.1.0-24". */
export function formatLeaseKey(subnets: DualPrefix): string {
  const subnet = subnets.v4!;
  return `${formatIpv4(subnet.address)}-${subnet.length}`;
}

/** What a host published under its key. */
export function parseLeaseValue(text: string): Decoded<LeaseHost> {
  const plain = plainAddress(text);
  if (plain !== undefined) {
    return checkHost({ publicIp: plain, backendType: '', backendData: undefined, isLong: false });
  }
  const parsed = parseData(text, 'value');
  if (!parsed.ok) return parsed;
  const json = parsed.value;
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    return bad('value is not a JSON object');
  return checkHost({
    publicIp: field(json, 'PublicIP'),
    backendType: field(json, 'BackendType') ?? '',
    backendData: field(json, 'BackendData') ?? undefined,
    isLong: text.length > MAX_LEASE_BYTES,
  });
}

/** The address in the very bytes that a host of the udp backend writes: most leases are read as fast as that. */
function plainAddress(text: string): string | undefined {
  if (!text.startsWith(PLAIN_START) || !text.endsWith(PLAIN_END)) return undefined;
  const address = text.slice(PLAIN_START.length, -PLAIN_END.length);
  return parseIpv4(address) === undefined ? undefined : address;
}

/** JSON as a host may have written it. */
export interface HostFields {
  readonly publicIp: unknown;
  readonly backendType: unknown;
  /** Undefined for none. */
  readonly backendData: unknown;
  /** Whether the data can be longer than is kept: it is measured only then. */
  readonly isLong: boolean;
}

/** What a host published, whatever the store keeps it in. */
export function checkHost({ publicIp, backendType, backendData, isLong }: HostFields): Decoded<LeaseHost> {
  const address = parsePublicIp(publicIp);
  if (!address.ok) return address;
  if (typeof backendType !== 'string') return bad(`BackendType is not a string: ${show(backendType)}`);
  if (backendType.length > 64) return bad(`BackendType of ${backendType.length} bytes (at most 64)`);
  if (isLong && backendData !== undefined) {
    const { length } = JSON.stringify(backendData);
    if (length > MAX_LEASE_BYTES) return bad(`BackendData of ${length} bytes (at most ${MAX_LEASE_BYTES})`);
  }
  return {
    ok: true,
    value: { publicIp: { v4: address.value }, backend: leaseBackend(backendType, backendData) },
  };
}

/** JSON that anybody may have written; `what` names it in a problem. */
export function parseData(text: string, what: string): Decoded<unknown> {
  if (text.length > MAX_VALUE_BYTES)
    return bad(`${what} of ${text.length} bytes (at most ${MAX_VALUE_BYTES})`);
  let json: unknown;
  try {
    json = parseJson(text, { maxBytes: MAX_VALUE_BYTES, maxDepth: MAX_JSON_DEPTH });
  } catch (error) {
    return bad((error as Error).message);
  }
  return hasProtoKey(json) ? bad('field "__proto__" is not accepted') : { ok: true, value: json };
}

/** The value that flanneld would write for `host`, byte for byte. IPv4 only, as what is read. */
export function formatLeaseValue({ publicIp, backend }: LeaseHost): string {
  let text = `{"PublicIP":"${formatIpv4(publicIp.v4!)}","PublicIPv6":null`;
  if (backend.type !== '') text += `,"BackendType":${goJson(backend.type)}`;
  if (backend.data.v4 !== undefined) text += `,"BackendData":${goJson(backend.data.v4)}`;
  return `${text}}`;
}

function parsePublicIp(value: unknown): Decoded<Ipv4> {
  if (value === undefined) return bad('PublicIP is missing');
  // Go's net.ParseIP takes an IPv4-mapped IPv6 address for the IPv4 address in it.
  const address = typeof value === 'string' ? parseIpv4(value.replace(/^::ffff:/i, '')) : undefined;
  if (address === undefined) return bad(`PublicIP is not an IPv4 address: ${show(value)}`);
  if (isBogon(address)) return bad(`PublicIP ${formatIpv4(address)} is no address a host can have`);
  return { ok: true, value: address };
}

// Harmless here, where objects have no prototype; not so in whatever copies the backend data later.
function hasProtoKey(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return Object.entries(value).some(([key, item]) => key === '__proto__' || hasProtoKey(item));
}

/** JSON as Go's encoding/json writes it: <, > and & (and U+2028, U+2029) are escaped, inside a json.RawMessage too. */
export function goJson(value: unknown): string {
  return JSON.stringify(value).replaceAll(
    /[<>&\u2028\u2029]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

function show(value: unknown): string {
  const text = JSON.stringify(value) ?? 'undefined';
  return text.length > 64 ? `${text.slice(0, 64)}…` : text;
}

function bad(problem: string): { ok: false; problem: string } {
  return { ok: false, problem };
}
