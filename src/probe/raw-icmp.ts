// The raw ICMP socket: by the package raw-socket where it loads, else by the addon.
//
// The package is optional and is built for one Node ABI when it is installed; the addon loads in every Node. Both need
// CAP_NET_RAW, so when one of them lacks it the other is not tried.
//
// The package is for IPv4 alone: it has no filter for ICMPv6, and would wake us for every neighbour's message.
//
// Both work alike: one socket on the main thread, held for as long as the daemon runs; received packets are
// views of one shared buffer, so they are read at once and nothing of them is kept.

import { createRequire } from 'node:module';
import type { FamilyName } from '../net/dual.js';
import { formatAddress } from '../net/prefix.js';
import { type IcmpAddon, openAddonIcmp } from './addon-icmp.js';
import { parseIcmp, type Received } from './icmp-echo.js';
import type { IcmpSender } from './path-prober.js';

const IPPROTO_IP = 0;
const IP_MTU_DISCOVER = 10;
/** Sets DF and ignores what the kernel believes of the path: ip(7). */
const IP_PMTUDISC_PROBE = 3;
const RECEIVE_BYTES = 65_536;
const SOL_RAW = 255;
const ICMP_FILTER = 1;
/**
 * A bit for each type that is not wanted: all but echo reply (0) and unreachable (3), so that nobody's pings wake us.
 */
const UNWANTED = ~((1 << 0) | (1 << 3)) >>> 0;

/** What is used of raw-socket, which has no types. */
interface RawSocketModule {
  readonly Protocol: { readonly ICMP: number };
  readonly AddressFamily: { readonly IPv4: number };
  createSocket(options: { protocol: number; addressFamily: number; bufferSize: number }): RawSocket;
}

interface RawSocket {
  on(event: 'message', listener: (packet: Buffer, source: string) => void): void;
  on(event: 'error', listener: (error: Error) => void): void;
  on(event: 'close', listener: () => void): void;
  setOption(level: number, option: number, value: number): void;
  send(
    packet: Buffer,
    offset: number,
    length: number,
    address: string,
    after: (error: Error | null, bytes: number) => void,
  ): void;
  close(): void;
}

export interface RawIcmp {
  readonly sender: IcmpSender;
  /** Whether the package or the addon opened the socket; for the addon also why it was not the package. */
  readonly by: string;
}

/** Opens a socket of each family. Rejects with an Error that says what is missing: the capability, or the addon. */
export async function openRawIcmp(
  onReceived: (received: Received) => void,
  loadAddon: () => Promise<IcmpAddon>,
  families: readonly FamilyName[] = ['v4'],
): Promise<RawIcmp> {
  const v4 = families.includes('v4') ? await openRawIcmp4(onReceived, loadAddon) : undefined;
  if (!families.includes('v6') && v4 !== undefined) return v4;
  let wide: IcmpSender;
  try {
    wide = openAddonIcmp(await loadAddon(), onReceived, 'v6');
  } catch (error) {
    v4?.sender.close();
    throw error;
  }
  if (v4 === undefined) return { sender: wide, by: 'addon' };
  const { sender, by } = v4;
  return {
    by,
    sender: {
      send: (to, ...rest) => (typeof to === 'number' ? sender : wide).send(to, ...rest),
      close: () => {
        sender.close();
        wide.close();
      },
    },
  };
}

async function openRawIcmp4(
  onReceived: (received: Received) => void,
  loadAddon: () => Promise<IcmpAddon>,
): Promise<RawIcmp> {
  let raw;
  try {
    raw = loadPackage();
  } catch (error) {
    const why = whyNotLoaded(error as NodeJS.ErrnoException);
    const addon = await loadAddon().catch((cause: unknown) => {
      throw new Error(`${why}; nor can the addon be loaded: ${(cause as Error).message}`, { cause });
    });
    return { sender: openAddonIcmp(addon, onReceived), by: `addon (${why})` };
  }
  return { sender: openRawSocket(raw, onReceived), by: 'raw-socket' };
}

function openRawSocket(raw: RawSocketModule, onReceived: (received: Received) => void): IcmpSender {
  let socket: RawSocket | undefined;
  try {
    const { Protocol, AddressFamily } = raw;
    socket = raw.createSocket({
      protocol: Protocol.ICMP,
      addressFamily: AddressFamily.IPv4,
      bufferSize: RECEIVE_BYTES,
    });
    socket.setOption(IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
    socket.setOption(SOL_RAW, ICMP_FILTER, UNWANTED);
  } catch (error) {
    socket?.close();
    throw new Error(`no raw ICMP socket (${(error as Error).message}): CAP_NET_RAW is needed`, {
      cause: error,
    });
  }
  socket.on('message', (packet) => {
    const received = parseIcmp(packet);
    if (received !== undefined) onReceived(received);
  });
  // Errors of single sends come to their callbacks; what is left is ICMP that the socket was told of.
  socket.on('error', () => undefined);
  return {
    send: (to, packet, onTooLong, onRefused) => {
      socket?.send(packet, 0, packet.length, formatAddress(to), (error) => {
        if (error === null) return;
        // The package gives texts, no codes.
        if (/message too long/i.test(error.message)) onTooLong();
        else onRefused?.(error.message);
      });
    },
    close: () => {
      socket?.close();
      socket = undefined; // a call after close() would make it open a new one
    },
  };
}

function loadPackage(): RawSocketModule {
  return createRequire(import.meta.url)('raw-socket') as RawSocketModule;
}

/** What to do differs: install it, build it, or build it again for the Node that runs. */
export function whyNotLoaded({ code, message }: NodeJS.ErrnoException): string {
  if (code === 'MODULE_NOT_FOUND' && /'raw-socket'/.test(message))
    return 'the optional package raw-socket is not installed';
  if (code === 'MODULE_NOT_FOUND') return 'the package raw-socket is not built: npm rebuild raw-socket';
  if (code === 'ERR_DLOPEN_FAILED' || message.includes('NODE_MODULE_VERSION')) {
    const abi = process.versions.modules;
    const [detail] = message.split('\n', 1);
    return (
      `the package raw-socket is built for another Node than ${process.version} (ABI ${abi}), or another system: ` +
      `npm rebuild raw-socket (${detail})`
    );
  }
  return `the package raw-socket cannot be loaded: ${message}`;
}
