// Whether anybody listens at one of the endpoints, asked with bare TCP.
//
// This decides, before etcd3 is even loaded (some 100 ms), between waiting for etcd and starting from the saved table.
// It says nothing about the health of what listens.

import { lookup } from 'node:dns/promises';
import { connect, isIP } from 'node:net';
import { withinTime } from '../../core/waiting.js';
import type { Endpoint } from './endpoints.js';

/** Addresses of a name. Rejects when it has none. */
export type Resolve = (name: string) => Promise<readonly string[]>;

// A name server across the world answers within half a second; longer than an etcd itself may take nobody waits.
const RESOLVE_MS = 1000;

const resolveName: Resolve = async (name) =>
  (await lookup(name, { all: true })).map(({ address }) => address);

/**
 * Resolves to true as soon as one endpoint accepts a connection, to false when all refuse or have not within
 * `timeoutMs`. The time that names take to be resolved, at most a second, comes on top: it says nothing about etcd.
 */
export async function acceptsConnection(
  endpoints: readonly Endpoint[],
  timeoutMs: number,
  resolve: Resolve = resolveName,
): Promise<boolean> {
  const attempts = endpoints.map(({ target }) => tryEndpoint(target, timeoutMs, resolve));
  return Promise.any(attempts).then(
    () => true,
    () => false,
  );
}

async function tryEndpoint(target: string, timeoutMs: number, resolve: Resolve): Promise<void> {
  const colon = target.lastIndexOf(':');
  const host = target.slice(0, colon).replace(/^\[(.*)\]$/, '$1');
  const port = Number(target.slice(colon + 1));
  const addresses = isIP(host) === 0 ? await withinTime(resolve(host), RESOLVE_MS) : [host];
  if (addresses === undefined) throw new Error(`${host} is not resolved within ${RESOLVE_MS} ms`);
  await Promise.any(addresses.map((address) => tryConnect(address, port, timeoutMs)));
}

function tryConnect(host: string, port: number, timeoutMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port });
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
