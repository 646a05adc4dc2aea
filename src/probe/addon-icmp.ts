// The raw ICMP socket of the addon, which loads under every version of Node.

import { constants } from 'node:os';
import { getSystemErrorName } from 'node:util';
import type { Ipv4 } from '../net/ipv4.js';
import { parseIcmp, type Received } from './icmp-echo.js';
import type { IcmpSender } from './path-prober.js';

/** Room for one packet of the largest size, and for a batch of small ones before it. */
const BUFFER_BYTES = 2 * 65_536;
/** Packets that are read at once. */
const BATCH = 64;
/** The kernel has no room now. The probe is lost, and nothing follows from that about its peer. */
const NO_ROOM: readonly number[] = [constants.errno.EAGAIN, constants.errno.ENOBUFS, constants.errno.ENOMEM];

/** The part of the addon that is used here: see NativeIcmpSocket in native/native.ts. */
export interface IcmpAddon {
  readonly IcmpSocket: new (
    buffer: ArrayBuffer,
    ends: Uint32Array,
    onBatch: (count: number) => void,
  ) => {
    open(): number;
    send(to: number, message: Uint8Array): number;
    close(): void;
  };
}

/** Opens the socket. Throws an Error that names the capability. */
export function openAddonIcmp(addon: IcmpAddon, onReceived: (received: Received) => void): IcmpSender {
  const packets = Buffer.from(new ArrayBuffer(BUFFER_BYTES));
  const ends = new Uint32Array(BATCH);
  const socket = new addon.IcmpSocket(packets.buffer, ends, (count) => {
    for (let i = 0, start = 0; i < count; start = ends[i++]) {
      const received = parseIcmp(packets.subarray(start, ends[i]));
      if (received !== undefined) onReceived(received);
    }
  });
  const result = socket.open();
  if (result < 0)
    throw new Error(`no raw ICMP socket (${getSystemErrorName(result)}): CAP_NET_RAW is needed`);
  return {
    send: (to: Ipv4, packet, onTooLong, onRefused) => {
      const errno = -socket.send(to, packet);
      if (errno === constants.errno.EMSGSIZE) onTooLong();
      else if (errno !== 0 && !NO_ROOM.includes(errno)) onRefused?.(getSystemErrorName(-errno));
    },
    close: () => socket.close(),
  };
}
