// One host with a lane, whose peers are made of frames.
//
//        frames ──► flannel0 ── encap ──► eth0 ──┐
//        frames ◄── flannel0 ◄─ decap ── eth0 ◄──┴── switch ── frames (the peers)
//
//   10.5.1.0/24    this host, 172.20.0.1
//   10.5.2.0/24    peer 172.20.0.2, row 2
//   10.5.2.128/25  peer 172.20.0.4, row 4: nested in that of another
//   10.5.3.0/24    peer 172.20.0.3, row 3, of which the kernel knows no neighbour
//   10.5.6.0/24    peer 172.20.0.6, row 6, port 9999 and an MTU of 1000

import { type InnerPacket, buildPacket } from '../support/packets.js';
import { checksum } from '../support/pcap.js';
import { Lab } from '../support/lab.js';
import type { LaneTotal } from '../../src/native/counters.js';
import { DEVICE, LaneHost, type LaneLease, type LaneSettings, PORT } from './lane-host.js';
import { RawFrames } from './raw-frames.js';

export const HOST = '172.20.0.1';
export const PEER = '172.20.0.2';
export const NESTED_PEER = '172.20.0.4';
export const SMALL_PEER = '172.20.0.6';
export const ECHO = Buffer.from([8, 0, 0xf7, 0xff, 0, 0, 0, 0]);

const LEASES: readonly LaneLease[] = [
  { network: '10.5.2.0', length: 24, peer: PEER, row: 2 },
  { network: '10.5.2.128', length: 25, peer: NESTED_PEER, row: 4 },
  { network: '10.5.3.0', length: 24, peer: '172.20.0.3', row: 3 },
  { network: '10.5.6.0', length: 24, peer: SMALL_PEER, row: 6, port: 9999, mtu: 1000 },
];

/** A datagram as a lane sends it, and what may be wrong with it. */
export interface OuterPacket {
  readonly inner: Buffer;
  /** @default PEER */
  readonly source?: string;
  /** @default HOST */
  readonly destination?: string;
  /** @default 8285 */
  readonly port?: number;
  /** Of UDP. @default 0 */
  readonly checksum?: number;
  /** Flags and offset. @default 0x4000 */
  readonly fragment?: number;
  /** @default 17 */
  readonly protocol?: number;
  readonly options?: Buffer;
  /** Bytes that the length of UDP says too much. @default 0 */
  readonly udpExtra?: number;
  /** Added to the checksum of the header. @default 0 */
  readonly checksumError?: number;
  /** Behind the datagram in the frame. */
  readonly trailer?: Buffer;
  /** @default the host's */
  readonly mac?: Buffer;
  /** Between the addresses and the type of the frame. */
  readonly tag?: Buffer;
}

export class LaneWorld {
  readonly lane: LaneHost;
  readonly lab: Lab;
  /** At the TUN device. */
  readonly inside: RawFrames;
  /** At the peers. */
  readonly outside: RawFrames;
  readonly #mac: Buffer;

  private constructor(lab: Lab, lane: LaneHost, inside: RawFrames, outside: RawFrames, mac: Buffer) {
    this.lab = lab;
    this.lane = lane;
    this.inside = inside;
    this.outside = outside;
    this.#mac = mac;
  }

  static async open(settings: LaneSettings): Promise<LaneWorld> {
    const lab = Lab.open('lane-');
    const host = lab.addHost(1);
    const peers = lab.addServer('peers', 2);
    // Netfilter in a bridge would drop or trim what is wrong before it gets to the host.
    await lab.run(lab.switchNs, 'sysctl', ['-qew', 'net.bridge.bridge-nf-call-iptables=0']);
    const lane = await LaneHost.start(lab, host);
    const opened = await lane.open(settings);
    if ('errno' in opened) throw new Error(JSON.stringify(opened));
    await lane.set(...LEASES);
    await lane.attach();
    for (const peer of [PEER, NESTED_PEER, SMALL_PEER]) {
      lab.ip(host.ns, `neighbour replace ${peer} lladdr 02:00:00:00:00:02 dev eth0 nud permanent`);
    }
    const mac = /link\/ether ([0-9a-f:]+)/.exec(lab.ip(host.ns, 'link show eth0'))![1].replaceAll(':', '');
    const program = lab.compile('test/native/raw_frames.cc');
    const inside = await RawFrames.open(program, host.ns, DEVICE);
    const outside = await RawFrames.open(program, peers, 'eth0');
    return new LaneWorld(lab, lane, inside, outside, Buffer.from(mac, 'hex'));
  }

  async close(): Promise<void> {
    await this.lane.kill();
    this.inside.close();
    this.outside.close();
    await this.lab.close();
  }

  /** The frame of a datagram to this host. */
  frameOf(packet: OuterPacket): Buffer {
    const { inner, source = PEER, destination = HOST, options = Buffer.alloc(0), port = PORT } = packet;
    const { protocol = 17, fragment = 0x4000, udpExtra = 0, checksumError = 0, mac = this.#mac } = packet;
    const udp = Buffer.alloc(8);
    udp.writeUInt16BE(PORT, 0);
    udp.writeUInt16BE(port, 2);
    udp.writeUInt16BE(8 + inner.length + udpExtra, 4);
    udp.writeUInt16BE(packet.checksum ?? 0, 6);
    const payload = Buffer.concat([udp, inner]);
    const ip = buildPacket({ source, destination, protocol: 0, fragment, options, payload });
    const headerBytes = 20 + options.length;
    ip[9] = protocol;
    ip.writeUInt16BE(0, 10);
    ip.writeUInt16BE((checksum(ip.subarray(0, headerBytes)) + checksumError) & 0xffff, 10);
    return this.frameOfIp(Buffer.concat([ip, packet.trailer ?? Buffer.alloc(0)]), mac, packet.tag);
  }

  /** The frame of any IPv4 packet to this host; `tag` lies between the addresses and the type. */
  frameOfIp(packet: Buffer, mac = this.#mac, tag: Buffer = Buffer.alloc(0)): Buffer {
    const source = Buffer.from('020000000002', 'hex');
    return Buffer.concat([mac, source, tag, Buffer.from('0800', 'hex'), packet]);
  }

  /** The totals that `act` changes, by how much. */
  async change(act: () => Promise<void>): Promise<Partial<Record<LaneTotal, number>>> {
    const before = await this.lane.totals();
    await act();
    const after = await this.lane.totals();
    const changes: Partial<Record<LaneTotal, number>> = {};
    for (const name of Object.keys(after) as LaneTotal[]) {
      const change = (after[name] ?? 0) - (before[name] ?? 0);
      if (change !== 0) changes[name] = change;
    }
    return changes;
  }

  /** A peer proves itself, by an echo through its lane. */
  async prove(source = '10.5.2.2', peer = PEER): Promise<void> {
    const inner = echo({ source, destination: '10.5.1.2' });
    await this.outside.send(this.frameOf({ inner, source: peer }));
  }
}

/** An ICMP echo with a right checksum. */
export function echo(packet: InnerPacket): Buffer {
  return buildPacket({ protocol: 1, payload: ECHO, ...packet });
}

/** A TCP segment to port 9 with `bytes` of payload; its checksum is not filled in. */
export function segment(packet: InnerPacket, bytes = 1): Buffer {
  const tcp = Buffer.alloc(20 + bytes);
  tcp.writeUInt16BE(1234, 0);
  tcp.writeUInt16BE(9, 2);
  tcp[12] = 5 << 4;
  tcp[13] = 0x10;
  return buildPacket({ protocol: 6, payload: tcp, ...packet });
}
