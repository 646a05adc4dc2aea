// Inner packets made by hand, right and wrong, and a way to send them as datagrams from any address.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { wordsOf } from '../../src/net/address-words.js';
import { parseIpv6 } from '../../src/net/ipv6.js';
import type { Lab } from './lab.js';
import { checksum, pseudoSum } from './pcap.js';

export interface InnerPacket {
  readonly source: string;
  readonly destination: string;
  /** @default 64 */
  readonly ttl?: number;
  /** @default 17 (UDP, to port 9) */
  readonly protocol?: number;
  readonly payload?: Buffer;
  /** IPv4 options, a multiple of 4 bytes. */
  readonly options?: Buffer;
  /** IPv6 extension headers: type and all bytes, of which the first is filled in. */
  readonly extensions?: readonly (readonly [type: number, bytes: readonly number[]])[];
  /** Flags and offset as on the wire. */
  readonly fragment?: number;
}

/** A datagram to port 9, without a checksum. */
function udpOf(payload: Buffer): Buffer {
  const header = Buffer.from([0, 9, 0, 9, 0, 0, 0, 0]);
  header.writeUInt16BE(8 + payload.length, 4);
  return Buffer.concat([header, payload]);
}

function addressBytes(address: string): number[] {
  return address.split('.').map(Number);
}

/** A whole IPv6 packet with a UDP datagram to port 9, whose checksum is right, behind its extension headers. */
export function buildPacket6({
  source,
  destination,
  ttl = 64,
  payload = Buffer.from('x'),
  extensions = [],
}: InnerPacket): Buffer {
  const transport = udpOf(payload);
  const header = Buffer.alloc(40);
  header[0] = 0x60;
  const types = [...extensions.map(([type]) => type), 17];
  const between = Buffer.concat(
    extensions.map(([, bytes], i) => Buffer.from([types[i + 1], ...bytes.slice(1)])),
  );
  header.writeUInt16BE(between.length + transport.length, 4);
  header[6] = types[0];
  header[7] = ttl;
  for (const [at, text] of [
    [8, source],
    [24, destination],
  ] as const)
    wordsOf(parseIpv6(text)!).forEach((word, i) => header.writeInt32BE(word, at + 4 * i));
  const pseudo = Buffer.concat([header.subarray(8), Buffer.from([0, 0, 0, 0, 0, 0, 0, 17])]);
  pseudo.writeUInt32BE(transport.length, 32);
  transport.writeUInt16BE(checksum(Buffer.concat([pseudo, transport])), 6);
  return Buffer.concat([header, between, transport]);
}

/** A whole IPv4 packet with right checksums; UDP when nothing else is asked for. */
export function buildPacket(packet: InnerPacket): Buffer {
  const { protocol = 17, options = Buffer.alloc(0), payload = Buffer.from('x') } = packet;
  const headerLength = 20 + options.length;
  const transport = protocol === 17 ? udpOf(payload) : payload;
  const header = Buffer.alloc(headerLength);
  header[0] = 0x40 | (headerLength / 4);
  header.writeUInt16BE(headerLength + transport.length, 2);
  header.writeUInt16BE(packet.fragment ?? 0, 6);
  header[8] = packet.ttl ?? 64;
  header[9] = protocol;
  header.set(addressBytes(packet.source), 12);
  header.set(addressBytes(packet.destination), 16);
  options.copy(header, 20);
  header.writeUInt16BE(checksum(header), 10);
  if (protocol === 17) transport.writeUInt16BE(checksum(transport, pseudoSum(header, transport.length)), 6);
  return Buffer.concat([header, transport]);
}

/** One datagram to send. */
export interface Injection {
  /** Address to send from; the namespace must own it. */
  readonly from: string;
  readonly payload: Buffer;
  /** How often. @default 1 */
  readonly times?: number;
  /** Without a UDP checksum, as a kernel lane sends it. @default false */
  readonly isUnchecked?: boolean;
}

const SENDER = `
import base64, json, socket, sys
SO_NO_CHECK = 11
items = json.load(open(sys.argv[1]))
target = (sys.argv[2], 8285)
sockets = {}
for item in items:
    key = (item['from'], item.get('isUnchecked', False))
    if key not in sockets:
        s = socket.socket(socket.AF_INET6 if ':' in key[0] else socket.AF_INET, socket.SOCK_DGRAM)
        if key[1]: s.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        s.bind((key[0], 0))
        sockets[key] = s
    data = base64.b64decode(item['payload'])
    for _ in range(item.get('times', 1)): sockets[key].sendto(data, target)
`;

/** Sends datagrams to port 8285 of a host, in order. */
export async function inject(
  lab: Lab,
  ns: string,
  target: string,
  items: readonly Injection[],
): Promise<void> {
  const file = join(lab.dir, 'injections.json');
  const encoded = items.map(({ payload, ...rest }) => ({ ...rest, payload: payload.toString('base64') }));
  writeFileSync(file, JSON.stringify(encoded));
  await lab.run(ns, 'python3', ['-c', SENDER, file, target], { timeoutMs: 120_000 });
}
