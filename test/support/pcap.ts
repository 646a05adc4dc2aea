// Captures as tcpdump writes them (pcap, Ethernet), and the checks a datagram of the overlay must pass. The checksums
// here are summed byte by byte, on purpose not by the code under test.

export interface Captured {
  /** From the outer IPv4 header on. */
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

/** Sum of the pseudo header of TCP and UDP for a packet whose transport part has `length` bytes. */
export function pseudoSum(ip: Buffer, length: number): number {
  let sum = ip[9] + length;
  for (let i = 12; i < 20; i += 2) sum += ip.readUInt16BE(i);
  return sum;
}

/**
 * What is wrong with an outer packet whose payload must be inner packets of the overlay; empty when nothing is. On a
 * veth a GSO train is captured as one long datagram: its pieces are found by their own lengths.
 */
export function checkDatagram({ ip }: Captured): string[] {
  const payload = ip.subarray((ip[0] & 15) * 4 + 8);
  const faults: string[] = [];
  let at = 0;
  while (at < payload.length) {
    const rest = payload.subarray(at);
    const total = rest.length < 20 ? 0 : rest.readUInt16BE(2);
    if (total < 20 || total > rest.length)
      return [...faults, `offset ${at}: ${rest.length} bytes are no IPv4 packet`];
    faults.push(...checkInner(rest.subarray(0, total)));
    at += total;
  }
  return faults;
}

/** What is wrong with an inner IPv4 packet. */
export function checkInner(packet: Buffer): string[] {
  const headerLength = (packet[0] & 15) * 4;
  if (packet[0] >> 4 !== 4) return ['not IPv4'];
  if (checksum(packet.subarray(0, headerLength)) !== 0) return ['wrong header checksum'];
  const isFragment = (packet.readUInt16BE(6) & 0x3fff) !== 0;
  const transport = packet.subarray(headerLength);
  const protocol = packet[9];
  if (isFragment || (protocol !== 6 && protocol !== 17)) return [];
  if (protocol === 17 && transport.readUInt16BE(6) === 0) return [];
  return checksum(transport, pseudoSum(packet, transport.length)) === 0
    ? []
    : [`wrong checksum, protocol ${protocol}`];
}
