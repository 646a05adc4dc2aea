// Captures as tcpdump writes them (pcap, Ethernet), and the checks a datagram of the overlay must pass. The checksums
// here are summed byte by byte, on purpose not by the code under test.

export interface Captured {
  /** From the outer IP header on. */
  readonly ip: Buffer;
}

const ETHERNET = 1;
const ETHERNET_HEADER = 14;

/** Packets of a capture, in order. Throws when it is no little-endian Ethernet pcap. */
export function readPcap(file: Buffer): Captured[] {
  if (file.readUInt32LE(0) !== 0xa1b2c3d4 || file.readUInt32LE(20) !== ETHERNET)
    throw new Error('no Ethernet pcap');
  const packets: Captured[] = [];
  for (let at = 24; at + 16 <= file.length;) {
    const length = file.readUInt32LE(at + 8);
    packets.push({ ip: file.subarray(at + 16 + ETHERNET_HEADER, at + 16 + length) });
    at += 16 + length;
  }
  return packets;
}

/** RFC 1071, the slow way: 0 when the range includes a right checksum. */
export function checksum(data: Buffer, start = 0): number {
  let sum = start;
  for (let i = 0; i < data.length; i++) sum += i % 2 === 0 ? data[i] << 8 : data[i];
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return ~sum & 0xffff;
}

/** What the checks need of a header without options or extensions; undefined when there is no whole one. */
function layoutOf(ip: Buffer) {
  const version = ip.length === 0 ? 0 : ip[0] >> 4;
  if (version === 4 && ip.length >= 20)
    return {
      headerBytes: (ip[0] & 15) * 4,
      totalBytes: ip.readUInt16BE(2),
      protocol: ip[9],
      addresses: [12, 20],
      isFragment: (ip.readUInt16BE(6) & 0x3fff) !== 0,
    };
  if (version === 6 && ip.length >= 40)
    return {
      headerBytes: 40,
      totalBytes: 40 + ip.readUInt16BE(4),
      protocol: ip[6],
      addresses: [8, 40],
      isFragment: ip[6] === FRAGMENT,
    };
  return undefined;
}

const TCP = 6;
const UDP = 17;
const FRAGMENT = 44;
const ICMPV6 = 58;

/** Sum of the pseudo header for a packet of either family whose transport part has `length` bytes. */
export function pseudoSum(ip: Buffer, length: number): number {
  const { protocol, addresses } = layoutOf(ip)!;
  let sum = protocol + length;
  for (let i = addresses[0]; i < addresses[1]; i += 2) sum += ip.readUInt16BE(i);
  return sum;
}

/**
 * What is wrong with an outer packet whose payload must be inner packets of the overlay; empty when nothing is. On a
 * veth a GSO train is captured as one long datagram: its pieces are found by their own lengths.
 */
export function checkDatagram({ ip }: Captured): string[] {
  const payload = ip.subarray(layoutOf(ip)!.headerBytes + 8);
  const faults: string[] = [];
  let at = 0;
  while (at < payload.length) {
    const rest = payload.subarray(at);
    const layout = layoutOf(rest);
    if (layout === undefined || layout.totalBytes < layout.headerBytes || layout.totalBytes > rest.length)
      return [...faults, `offset ${at}: ${rest.length} bytes are no IP packet`];
    faults.push(...checkInner(rest.subarray(0, layout.totalBytes)));
    at += layout.totalBytes;
  }
  return faults;
}

/** What is wrong with an inner packet. */
export function checkInner(packet: Buffer): string[] {
  const layout = layoutOf(packet);
  if (layout === undefined) return ['neither IPv4 nor IPv6'];
  const { headerBytes, protocol, isFragment } = layout;
  const isV4 = packet[0] >> 4 === 4;
  if (isV4 && checksum(packet.subarray(0, headerBytes)) !== 0) return ['wrong header checksum'];
  if (isFragment || ![TCP, UDP, ICMPV6].includes(protocol)) return [];
  const transport = packet.subarray(headerBytes);
  // IPv6 has no datagrams without a checksum (RFC 8200 section 8.1).
  if (isV4 && protocol === UDP && transport.readUInt16BE(6) === 0) return [];
  return checksum(transport, pseudoSum(packet, transport.length)) === 0
    ? []
    : [`wrong checksum, protocol ${protocol}`];
}
