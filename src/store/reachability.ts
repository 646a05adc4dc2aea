// Whether anybody listens where the store should be, asked with bare TCP.
//
// This decides, before a client is even loaded (etcd3 takes some 100 ms), between waiting for the store and starting
// from the saved table. It says nothing about the health of what listens.

import { lookup } from 'node:dns/promises';
import { connect, isIP } from 'node:net';
import { withinTime } from '../core/waiting.js';

/** Addresses of a name. Rejects when it has none. */
export type Resolve = (name: string) => Promise<readonly string[]>;

// A name server across the world answers within half a second; longer than a store itself may take nobody waits.
const RESOLVE_MS = 1000;

/** host:port; IPv6 in brackets. */
type Target = string;

const resolveName: Resolve = async (name) =>
  (await lookup(name, { all: true })).map(({ address }) => address);

/**
 * Resolves to true as soon as one of `targets` accepts a connection, to false when all refuse or have not within
 * `timeoutMs`. The time that names take to be resolved, at most a second, comes on top: it says nothing of the store.
 */
export async function acceptsConnection(
  targets: readonly Target[],
  timeoutMs: number,
  resolve: Resolve = resolveName,
): Promise<boolean> {
  const attempts = targets.map((target) => tryTarget(target, timeoutMs, resolve));
  return Promise.any(attempts).then(
    () => true,
    () => false,
  );
}

async function tryTarget(target: Target, timeoutMs: number, resolve: Resolve): Promise<void> {
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
