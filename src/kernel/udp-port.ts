// Whether a UDP port is free, asked before a lease is written that names this host.

import { createSocket } from 'node:dgram';
import { OverlayError } from '../core/errors.js';
import { formatEndpoint } from '../net/endpoint.js';
import { type Address, formatAddress } from '../net/prefix.js';

/**
 * Rejects with OverlayError E_SOCKET when another socket has the port, one that would share it (SO_REUSEPORT) included.
 * An address that cannot be bound is not judged here.
 */
export async function checkPortIsFree(address: Address, port: number): Promise<void> {
  const endpoint = formatEndpoint(address, port);
  const socket = createSocket({ type: typeof address === 'number' ? 'udp4' : 'udp6' });
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject);
      socket.bind({ address: formatAddress(address), port, exclusive: true }, resolve);
    });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') return;
    throw new OverlayError(
      'E_SOCKET',
      `UDP ${endpoint} is in use by another process: end it, or give this network another port (Backend.Port)`,
      { cause: error },
    );
  } finally {
    socket.close();
  }
}
