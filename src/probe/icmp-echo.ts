// ICMP echo requests of both families, and what comes back: replies, "fragmentation needed" or "packet too big", and
// the other errors of a network that cannot deliver them (RFC 792, RFC 1191, RFC 4443). Pure.

import { ofWords } from '../net/address-words.js';
import { type Ipv4, ipv4 } from '../net/ipv4.js';
import type { Ipv6 } from '../net/ipv6.js';
import type { Address } from '../net/prefix.js';

const ECHO_REQUEST = 8;
const ECHO_REPLY = 0;
const UNREACHABLE = 3;
const FRAGMENTATION_NEEDED = 4;
const ICMP_HEADER_BYTES = 8;
const IP_HEADER_BYTES = 20;
const PROTOCOL_ICMP = 1;

const ECHO_REQUEST_6 = 128;
const ECHO_REPLY_6 = 129;
const UNREACHABLE_6 = 1;
const TOO_BIG_6 = 2;
const IPV6_HEADER_BYTES = 40;
const IPV6_SOURCE_BYTES = 16;
const PROTOCOL_ICMPV6 = 58;

/** Bytes of the smallest probe with its IP header: room for the token. */
export const MIN_PROBE_BYTES = 64;
export const TOKEN_BYTES = 8;

export interface Echo {
  readonly id: number;
  readonly sequence: number;
  /** Random: only who saw the request can know it. */
  readonly token: Buffer;
}

/** What a raw socket received, as far as it concerns probes. */
export type Received =
  | { readonly kind: 'reply'; readonly from: Address; readonly echo: Echo; readonly bytes: number }
  | {
      readonly kind: 'too-big';
      /** Where the probe that did not fit was going. */
      readonly destination: Address;
      readonly id: number;
      readonly sequence: number;
      /** Next-hop MTU; 0 from routers older than RFC 1191. */
      readonly mtuBytes: number;
    }
  | {
      readonly kind: 'unreachable';
      /** Where the echo was going. */
      readonly destination: Address;
      readonly id: number;
      readonly sequence: number;
    };

/** The echo request for a host, in a packet of `bytes` bytes. Throws RangeError for less than MIN_PROBE_BYTES. */
export function buildEchoTo(to: Address, echo: Echo, bytes: number): Buffer {
  return typeof to === 'number' ? buildEcho(echo, bytes) : buildEcho6(echo, bytes);
}

/**
 * An echo request that makes an IPv4 packet of `bytes` bytes in all. Throws RangeError for less than MIN_PROBE_BYTES.
 */
export function buildEcho(echo: Echo, bytes: number): Buffer {
  const packet = request(ECHO_REQUEST, echo, bytes, IP_HEADER_BYTES);
  packet.writeUInt16BE(checksum(packet), 2);
  return packet;
}

/**
 * Reads an IPv4 packet as a raw socket delivers it; undefined for whatever is no answer to a probe. Copies the token.
 */
export function parseIcmp(packet: Buffer): Received | undefined {
  const header = ipHeader(packet);
  if (header === undefined || header.protocol !== PROTOCOL_ICMP) return undefined;
  const icmp = packet.subarray(header.length);
  if (icmp.length < ICMP_HEADER_BYTES) return undefined;
  if (icmp[0] === ECHO_REPLY && icmp[1] === 0) {
    if (icmp.length < ICMP_HEADER_BYTES + TOKEN_BYTES || checksum(icmp) !== 0) return undefined;
    return { kind: 'reply', from: header.source, echo: echoOf(icmp), bytes: packet.length };
  }
  if (icmp[0] !== UNREACHABLE || checksum(icmp) !== 0) return undefined;
  const quote = icmp.subarray(ICMP_HEADER_BYTES);
  const quoted = ipHeader(quote);
  if (quoted === undefined || quoted.protocol !== PROTOCOL_ICMP) return undefined;
  const sent = quote.subarray(quoted.length);
  if (sent.length < ICMP_HEADER_BYTES || sent[0] !== ECHO_REQUEST) return undefined;
  const quotedEcho = { destination: quoted.destination, ...numbersOf(sent) };
  return icmp[1] === FRAGMENTATION_NEEDED
    ? { kind: 'too-big', ...quotedEcho, mtuBytes: icmp.readUInt16BE(6) }
    : { kind: 'unreachable', ...quotedEcho };
}

/** As buildEcho(), for an IPv6 packet. The checksum is the kernel's to fill in: addresses are in it (RFC 3542). */
export function buildEcho6(echo: Echo, bytes: number): Buffer {
  return request(ECHO_REQUEST_6, echo, bytes, IPV6_HEADER_BYTES);
}

/**
 * As parseIcmp(), for an ICMPv6 message behind the 16 bytes of its source, without an IPv6 header. The kernel has
 * verified its checksum.
 */
export function parseIcmp6(received: Buffer): Received | undefined {
  if (received.length < IPV6_SOURCE_BYTES + ICMP_HEADER_BYTES) return undefined;
  const icmp = received.subarray(IPV6_SOURCE_BYTES);
  if (icmp[0] === ECHO_REPLY_6 && icmp[1] === 0) {
    if (icmp.length < ICMP_HEADER_BYTES + TOKEN_BYTES) return undefined;
    const bytes = IPV6_HEADER_BYTES + icmp.length;
    return { kind: 'reply', from: ipv6At(received, 0), echo: echoOf(icmp), bytes };
  }
  if (icmp[0] !== UNREACHABLE_6 && icmp[0] !== TOO_BIG_6) return undefined;
  // What we sent has no extension headers.
  const quote = icmp.subarray(ICMP_HEADER_BYTES);
  const sent = quote.subarray(IPV6_HEADER_BYTES);
  if (sent.length < ICMP_HEADER_BYTES || quote[0] >> 4 !== 6 || quote[6] !== PROTOCOL_ICMPV6)
    return undefined;
  if (sent[0] !== ECHO_REQUEST_6) return undefined;
  const quotedEcho = { destination: ipv6At(quote, 24), ...numbersOf(sent) };
  return icmp[0] === TOO_BIG_6
    ? { kind: 'too-big', ...quotedEcho, mtuBytes: icmp.readUInt32BE(4) }
    : { kind: 'unreachable', ...quotedEcho };
}

/** A message without its checksum, for a packet of `bytes` bytes with an IP header of `headerBytes`. */
function request(type: number, { id, sequence, token }: Echo, bytes: number, headerBytes: number): Buffer {
  if (bytes < MIN_PROBE_BYTES) throw new RangeError(`${bytes} bytes: expected at least ${MIN_PROBE_BYTES}`);
  const message = Buffer.alloc(bytes - headerBytes);
  message[0] = type;
  message.writeUInt16BE(id, 4);
  message.writeUInt16BE(sequence, 6);
  token.copy(message, ICMP_HEADER_BYTES, 0, TOKEN_BYTES);
  return message;
}

function numbersOf(message: Buffer): Pick<Echo, 'id' | 'sequence'> {
  return { id: message.readUInt16BE(4), sequence: message.readUInt16BE(6) };
}

/** Of a message that is long enough for a token, which is copied. */
function echoOf(message: Buffer): Echo {
  const token = Buffer.from(message.subarray(ICMP_HEADER_BYTES, ICMP_HEADER_BYTES + TOKEN_BYTES));
  return { ...numbersOf(message), token };
}

function ipv6At(bytes: Buffer, at: number): Ipv6 {
  const word = (index: number): number => bytes.readInt32BE(at + 4 * index);
  return ofWords([word(0), word(1), word(2), word(3)]);
}

function ipHeader(
  packet: Buffer,
): { length: number; protocol: number; source: Ipv4; destination: Ipv4 } | undefined {
  if (packet.length < IP_HEADER_BYTES || packet[0] >> 4 !== 4) return undefined;
  const length = (packet[0] & 15) * 4;
  if (length < IP_HEADER_BYTES || length > packet.length) return undefined;
  return {
    length,
    protocol: packet[9],
    source: ipv4(packet.readUInt32BE(12)),
    destination: ipv4(packet.readUInt32BE(16)),
  };
}

/** The Internet checksum (RFC 1071); 0 over a packet whose field is right. */
function checksum(packet: Buffer): number {
  let sum = 0;
  for (let i = 0; i + 1 < packet.length; i += 2) sum += packet.readUInt16BE(i);
  if (packet.length % 2 === 1) sum += packet[packet.length - 1] << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
