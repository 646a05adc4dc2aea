// One lease as flannel stores it: key text and value text to a lease's subnet and host, and back. Pure.
//
//   key    10.5.1.0-24                        of both families  10.5.1.0-24&fd00:5:1::-64
//                                             of IPv6 alone     0.0.0.0-0&fd00:5:1::-64
//   value  {"PublicIP":"172.20.0.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"…"}}
//          of IPv6: "PublicIPv6":"2001:db8::1" and "BackendV6Data"; of IPv6 alone: "PublicIP":"0.0.0.0"
//
// Writing yields flannel's bytes: field order, no blanks, PublicIPv6 null, no BackendType for the udp backend; IPv6 as
// RFC 5952 has it.
// Reading follows Go's encoding/json (field names in any case, unknown fields ignored, the last duplicate wins) but is
// bounded and refuses what no host can mean. It returns problems instead of throwing: whoever can write to the store
// can write any bytes, and one bad key must not stop the rest.
//
// **Invariant:** one IPv4 subnet has one key text. "10.5.1.0-024", "10.5.1.7-24" and the like are refused. Of IPv6,
// flannel reads longer forms too, such as "fd00:5:1:0::", and so do we: two keys of one subnet are two leases, of which
// the elder is used. Upper case, which it does not read, is refused.

import { field, parseJson } from '../config/go-json.js';
import { isBogon, isLinkLocalIpv6 } from '../net/bogons.js';
import { dualOf, type FamilyName } from '../net/dual.js';
import { formatIpv4, parseIpv4 } from '../net/ipv4.js';
import { formatIpv6 } from '../net/ipv6.js';
import {
  type AddressOf,
  type DualAddress,
  type DualPrefix,
  type Family,
  formatAddress,
  hasHostBits,
  maskOf,
  parseAddress,
  parseCidr,
  type Prefix,
  prefixOf,
} from '../net/prefix.js';
import { type LeaseHost, leaseBackend } from './lease.js';

/** Longest key name looked at; the longest valid one is 62 bytes. */
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
/** As flannel's: of IPv6 no upper case, no dots, no zone. */
const KEY_NAME = /^([\d.]+)-(\d{1,2})(?:&([\da-f:]+)-(\d{1,3}))?$/;
/** What a host without IPv4 says in its place. */
const NO_ADDRESS = '0.0.0.0';
/** What stands for IPv4 in the key of a host without it. */
const NO_IPV4 = '0.0.0.0-0';

/** The subnets named by a key below "<prefix>/subnets/". */
export function parseLeaseKey(name: string): Decoded<DualPrefix> {
  const plain = plainKey(name);
  if (plain !== undefined) return { ok: true, value: { v4: plain } };
  if (name.length > MAX_KEY_BYTES) return bad(`key of ${name.length} bytes (at most ${MAX_KEY_BYTES})`);
  const match = KEY_NAME.exec(name);
  if (match === null) return bad('key is not <a.b.c.d>-<length> or <a.b.c.d>-<length>&<IPv6>-<length>');
  const [, address, length, address6, length6] = match as (string | undefined)[];
  const hasIpv6 = address6 !== undefined;
  const v4 = hasIpv6 && name.startsWith(`${NO_IPV4}&`) ? undefined : keyPart(address!, length!, 4);
  const v6 = hasIpv6 ? keyPart(address6, length6!, 6) : undefined;
  if (v4?.ok === false) return v4;
  if (v6?.ok === false) return v6;
  return { ok: true, value: dualOf(v4?.value, v6?.value) };
}

function keyPart<F extends Family>(
  text: string,
  lengthText: string,
  family: F,
): Decoded<Prefix<AddressOf[F]>> {
  const address = parseAddress(text, family);
  if (address === undefined) return bad(`"${text}" is no IPv${family} address`);
  const length = Number(lengthText);
  // flannel reads the length as a number of 5 or 7 bits, so the longest has never been valid; 0 would be everything.
  const longest = family === 4 ? 31 : 127;
  if (length < 1 || length > longest || String(length) !== lengthText)
    return bad(`prefix length "${lengthText}" is not 1 to ${longest}`);
  const prefix = { address, length };
  return hasHostBits(prefix) ? bad(`address ${text} has host bits set`) : { ok: true, value: prefix };
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
 * The ranges that a key keeps others from using, even when the key is not a valid lease: host bits, upper case and a
 * family that cannot be read are overlooked, because a host that wrote such a key still believes to own the range.
 */
export function blockedRanges(name: string): DualPrefix | undefined {
  const match = /^([\d.]+)-(\d{1,2})(?:&(?:([\da-f:]+)-(\d{1,3})$)?|$)/i.exec(name.slice(0, MAX_KEY_BYTES));
  if (match === null) return undefined;
  const [, address, length, address6, length6] = match as (string | undefined)[];
  const v6 = address6 === undefined ? undefined : parseCidr(`${address6}/${length6}`, 6);
  const isIpv6Only = v6 !== undefined && name.startsWith(`${NO_IPV4}&`);
  const v4 = isIpv6Only ? undefined : parseCidr(`${address}/${length}`);
  if (v4 === undefined && v6 === undefined) return undefined;
  return dualOf(v4 && prefixOf(v4.address, v4.length), v6 && prefixOf(v6.address, v6.length));
}

/** "10.5.1.0-24", "10.5.1.0-24&fd00:5:1::-64" or "0.0.0.0-0&fd00:5:1::-64". */
export function formatLeaseKey({ v4, v6 }: DualPrefix): string {
  const ipv4 = v4 === undefined ? NO_IPV4 : `${formatIpv4(v4.address)}-${v4.length}`;
  return v6 === undefined ? ipv4 : `${ipv4}&${formatIpv6(v6.address)}-${v6.length}`;
}

/** What a host published under its key. */
export function parseLeaseValue(text: string): Decoded<LeaseHost> {
  const plain = plainAddress(text);
  if (plain !== undefined) {
    const nothing = { v4: undefined, v6: undefined };
    return checkHost({ publicIp: { ...nothing, v4: plain }, backendType: '', data: nothing, isLong: false });
  }
  const parsed = parseData(text, 'value');
  if (!parsed.ok) return parsed;
  const json = parsed.value;
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    return bad('value is not a JSON object');
  return checkHost({
    publicIp: { v4: field(json, 'PublicIP'), v6: field(json, 'PublicIPv6') ?? undefined },
    backendType: field(json, 'BackendType') ?? '',
    data: {
      v4: field(json, 'BackendData') ?? undefined,
      v6: field(json, 'BackendV6Data') ?? undefined,
    },
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
  /** Undefined for none. */
  readonly publicIp: Readonly<Record<FamilyName, unknown>>;
  readonly backendType: unknown;
  /** Of the backend; undefined for none. */
  readonly data: Readonly<Record<FamilyName, unknown>>;
  /** Whether the data can be longer than is kept: it is measured only then. */
  readonly isLong: boolean;
}

/** What a host published, whatever the store keeps it in. */
export function checkHost({ publicIp, backendType, data, isLong }: HostFields): Decoded<LeaseHost> {
  const addresses = parsePublicIps(publicIp);
  if (!addresses.ok) return addresses;
  if (typeof backendType !== 'string') return bad(`BackendType is not a string: ${show(backendType)}`);
  if (backendType.length > 64) return bad(`BackendType of ${backendType.length} bytes (at most 64)`);
  for (const [name, value] of [
    ['BackendData', data.v4],
    ['BackendV6Data', data.v6],
  ] as const) {
    if (!isLong || value === undefined) continue;
    const { length } = JSON.stringify(value);
    if (length > MAX_LEASE_BYTES) return bad(`${name} of ${length} bytes (at most ${MAX_LEASE_BYTES})`);
  }
  const backend = leaseBackend(backendType, data.v4, data.v6);
  return { ok: true, value: { publicIp: addresses.value, backend } };
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

/** The value that flanneld would write for `host`, byte for byte. */
export function formatLeaseValue({ publicIp, backend }: LeaseHost): string {
  const { type, data } = backend;
  const ipv4 = publicIp.v4 === undefined ? NO_ADDRESS : formatIpv4(publicIp.v4);
  const ipv6 = publicIp.v6 === undefined ? 'null' : `"${formatIpv6(publicIp.v6)}"`;
  let text = `{"PublicIP":"${ipv4}","PublicIPv6":${ipv6}`;
  if (type !== '') text += `,"BackendType":${goJson(type)}`;
  if (data.v4 !== undefined) text += `,"BackendData":${goJson(data.v4)}`;
  if (data.v6 !== undefined) text += `,"BackendV6Data":${goJson(data.v6)}`;
  return `${text}}`;
}

/**
 * A host without IPv4 says 0.0.0.0, or nothing, and names its IPv6 address. Of a host without a global IPv6 address
 * flanneld publishes the link-local one, to which nobody can send: it has IPv4 alone then.
 */
function parsePublicIps({ v4, v6 }: HostFields['publicIp']): Decoded<DualAddress> {
  if (v4 === undefined && v6 === undefined) return bad('PublicIP is missing');
  // Go's net.ParseIP takes an IPv4-mapped IPv6 address for the IPv4 address in it.
  const plain = typeof v4 === 'string' ? v4.replace(/^::ffff:/i, '') : v4;
  const isIpv6Only = v6 !== undefined && (v4 === undefined || plain === NO_ADDRESS);
  const ipv4 = isIpv6Only ? undefined : parsePublicIp(plain, 4);
  const ipv6 = v6 === undefined ? undefined : parsePublicIp(v6, 6);
  if (ipv4?.ok === false) return ipv4;
  if (ipv4 !== undefined && isLinkLocal(v6)) return { ok: true, value: { v4: ipv4.value } };
  if (ipv6?.ok === false) return ipv6;
  return { ok: true, value: dualOf(ipv4?.value, ipv6?.value) };
}

function parsePublicIp<F extends Family>(value: unknown, family: F): Decoded<AddressOf[F]> {
  const key = family === 4 ? 'PublicIP' : 'PublicIPv6';
  const address = typeof value === 'string' ? parseAddress(value, family) : undefined;
  if (address === undefined) return bad(`${key} is not an IPv${family} address: ${show(value)}`);
  if (isBogon(address)) return bad(`${key} ${formatAddress(address)} is no address a host can have`);
  return { ok: true, value: address };
}

function isLinkLocal(value: unknown): boolean {
  const address = typeof value === 'string' ? parseAddress(value, 6) : undefined;
  return address !== undefined && isLinkLocalIpv6(address);
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
