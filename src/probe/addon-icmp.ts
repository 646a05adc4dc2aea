// The raw ICMP sockets of the addon, one of each family, which load under every version of Node.

import { constants } from 'node:os';
import { errnoName } from '../core/errno.js';
import { wordsOf } from '../net/address-words.js';
import type { FamilyName } from '../net/dual.js';
import { parseIcmp, parseIcmp6, type Received } from './icmp-echo.js';
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
    wide?: boolean,
  ) => {
    open(): number;
    send(to: number | readonly number[], message: Uint8Array): number;
    close(): void;
  };
}

/** Opens the socket. Throws an Error that names the capability. */
export function openAddonIcmp(
  addon: IcmpAddon,
  onReceived: (received: Received) => void,
  family: FamilyName = 'v4',
): IcmpSender {
  const parse = family === 'v4' ? parseIcmp : parseIcmp6;
  const packets = Buffer.from(new ArrayBuffer(BUFFER_BYTES));
  const ends = new Uint32Array(BATCH);
  const onBatch = (count: number): void => {
    for (let i = 0, start = 0; i < count; start = ends[i++]) {
      const received = parse(packets.subarray(start, ends[i]));
      if (received !== undefined) onReceived(received);
    }
  };
  const socket = new addon.IcmpSocket(packets.buffer, ends, onBatch, family === 'v6');
  const result = socket.open();
  if (result < 0)
    throw new Error(
      `no raw ${family === 'v4' ? 'ICMP' : 'ICMPv6'} socket (${errnoName(result)}): CAP_NET_RAW is needed`,
    );
  return {
    send: (to, packet, onTooLong, onRefused) => {
      const errno = -socket.send(typeof to === 'number' ? to : wordsOf(to), packet);
      if (errno === constants.errno.EMSGSIZE) onTooLong();
      else if (errno !== 0 && !NO_ROOM.includes(errno)) onRefused?.(errnoName(-errno));
    },
    close: () => socket.close(),
  };
}
