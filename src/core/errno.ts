// Names of error numbers of the kernel, for messages. libuv knows those that it maps itself.

import { constants } from 'node:os';
import { getSystemErrorMap } from 'node:util';

/** What neither libuv nor Node.js has a name for, of what the kernel answers us (errno(3)). */
const OTHERS: ReadonlyMap<number, string> = new Map([
  [77, 'EBADFD'], // a TUN device that was deleted
  [109, 'ETOOMANYREFS'], // too many descriptors on their way in unix sockets
]);

const NODE: ReadonlyMap<number, string> = new Map(
  Object.entries(constants.errno).map(([name, number]) => [number, name]),
);

/** "ESTALE" for 116 and for -116; "errno 999" for what has no name. */
export function errnoName(errno: number): string {
  const number = Math.abs(errno);
  const known = getSystemErrorMap().get(-number)?.[0];
  return known ?? NODE.get(number) ?? OTHERS.get(number) ?? `errno ${number}`;
}
