// Names resolved by the C library, as all of the host does it, but with a bound.
//
// getaddrinfo(3) can block for half a minute, on one of Node's four threads, which files need too, and cannot be
// stopped. So nobody waits longer than told, and whoever asks for a name that is still being looked up joins that.

import { lookup, type LookupAddress } from 'node:dns';
import type { LookupFunction } from 'node:net';

const underWay = new Map<string, Promise<readonly LookupAddress[]>>();

/** For net.connect(). Fails with an Error of one line after `timeoutMs`. */
export function boundedLookup(timeoutMs: number): LookupFunction {
  return (hostname, options, callback) => {
    let isOver = false;
    const finish = (error: Error | null, addresses: readonly LookupAddress[]): void => {
      if (isOver) return;
      isOver = true;
      clearTimeout(timer);
      if (error !== null) callback(error, '');
      else if (options.all === true) callback(null, [...addresses]);
      else callback(null, addresses[0].address, addresses[0].family);
    };
    const timer = setTimeout(() => {
      finish(new Error(`name "${hostname}" not resolved within ${timeoutMs} ms`), []);
    }, timeoutMs);
    resolve(hostname).then(
      (addresses) => finish(null, addresses),
      (error: Error) => finish(error, []),
    );
  };
}

function resolve(hostname: string): Promise<readonly LookupAddress[]> {
  const known = underWay.get(hostname);
  if (known !== undefined) return known;
  const query = new Promise<readonly LookupAddress[]>((resolve, reject) => {
    lookup(hostname, { all: true }, (error, addresses) => {
      underWay.delete(hostname);
      if (error !== null) reject(error);
      else if (addresses.length === 0) reject(new Error(`name "${hostname}" has no address`));
      else resolve(addresses);
    });
  });
  underWay.set(hostname, query);
  return query;
}
