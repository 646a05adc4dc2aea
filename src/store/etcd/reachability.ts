// Whether anybody listens at one of the endpoints, asked with bare TCP.
//
// This decides, before etcd3 is even loaded (some 100 ms), between waiting for etcd and starting from the saved table.
// It says nothing about the health of what listens.

import { connect } from 'node:net';
import type { Endpoint } from './endpoints.js';

/** Resolves to true as soon as one endpoint accepts a connection, to false when all refuse or `timeoutMs` is over. */
export async function acceptsConnection(endpoints: readonly Endpoint[], timeoutMs: number): Promise<boolean> {
  const attempts = endpoints.map(({ target }) => tryConnect(target, timeoutMs));
  return Promise.any(attempts).then(
    () => true,
    () => false,
  );
}

function tryConnect(target: string, timeoutMs: number): Promise<void> {
  const colon = target.lastIndexOf(':');
  const host = target.slice(0, colon).replace(/^\[(.*)\]$/, '$1');
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port: Number(target.slice(colon + 1)) });
    const timer = setTimeout(() => finish(new Error('timeout')), timeoutMs);
    const finish = (error?: Error): void => {
      clearTimeout(timer);
      socket.destroy();
      if (error === undefined) resolve();
      else reject(error);
    };
    socket.once('connect', () => finish());
    socket.once('error', finish);
  });
}
