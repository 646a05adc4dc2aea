// Whether a UDP port is free, asked before a lease is written that names this host.

import { createSocket } from 'node:dgram';
import { OverlayError } from '../core/errors.js';
import { formatIpv4, type Ipv4 } from '../net/ipv4.js';

/**
 * Rejects with OverlayError E_SOCKET when another socket has the port, one that would share it (SO_REUSEPORT) included.
 * An address that cannot be bound is not judged here.
 */
export async function checkPortIsFree(address: Ipv4, port: number): Promise<void> {
  const text = formatIpv4(address);
  const socket = createSocket({ type: 'udp4' });
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject);
      socket.bind({ address: text, port, exclusive: true }, resolve);
    });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') return;
    throw new OverlayError(
      'E_SOCKET',
      `UDP ${text}:${port} is in use by another process: end it, or give this network another port (Backend.Port)`,
      { cause: error },
    );
  } finally {
    socket.close();
  }
}
