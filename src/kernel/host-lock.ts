// Names that one daemon of a host holds: its network, its device, its subnet file. A second daemon that wants one of
// them is told so before it has touched anything.
//
// A lock is an abstract Unix socket (unix(7)). It belongs to a network namespace, as devices and routes do, so that
// hosts in namespaces that share a file system do not exclude each other, and the kernel lets go of it when the process
// dies, however it dies. The name is padded to the full 108 bytes: Node.js up to 20 binds abstract names so, later
// versions in their own length, and the two would not exclude each other.

import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { connect, createServer, type Server } from 'node:net';
import { OverlayError } from '../core/errors.js';
import { type Address, parseAnyPrefix, type Prefix } from '../net/prefix.js';

const NAME_BYTES = 108; // sun_path
const PREFIX = 'twill/';

// A supervisor that starts the next daemon at once may be ahead of the end of the one before.
const RETRY_MS = 50;
const RETRIES = 10;
const ASK_MS = 500;

/** A name that is held until it is closed. */
export interface HostLock {
  close(): Promise<void>;
}

function addressOf(name: string): string {
  // Of a path that is too long the name holds a hash.
  const short = Buffer.byteLength(name) <= 90 ? name : createHash('sha256').update(name).digest('hex');
  return `\0${PREFIX}${short}`.padEnd(NAME_BYTES, '\0');
}

/**
 * Holds `name`. Resolves with undefined when another process still holds it after half a second. `owner` is one line of
 * text for whoever asks who holds it. Rejects with the error of bind(2) when this process may not have such sockets.
 */
export async function holdName(name: string, owner: string): Promise<HostLock | undefined> {
  for (let attempt = 0; ; attempt++) {
    try {
      const server = await listen(addressOf(name), owner);
      return { close: () => new Promise((resolve) => server.close(() => resolve())) };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
      if (attempt === RETRIES) return undefined;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

function listen(address: string, owner: string): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer((client) => {
      client.on('error', () => undefined);
      client.end(`${owner}\n`, () => client.destroy()); // whoever stays connected would hold up close()
    });
    server.maxConnections = 8; // any local user may connect
    server.once('error', reject);
    server.listen({ path: address }, () => {
      server.unref();
      resolve(server);
    });
  });
}

/** What the holder of `name` says of itself, one line; undefined when it says nothing in time. */
export function askHolder(name: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ path: addressOf(name) });
    let text = '';
    const end = (): void => {
      clearTimeout(timer);
      socket.destroy();
      const [line] = text.split('\n');
      resolve(line === '' ? undefined : line.slice(0, 200).replaceAll(/[^\x20-\x7e]/g, '?'));
    };
    const timer = setTimeout(end, ASK_MS);
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => {
      text += chunk;
      if (text.length > 1000) end();
    });
    socket.on('end', end);
    socket.on('error', end);
  });
}

/** Names that are held in this network namespace, by whomever. */
export async function heldNames(): Promise<string[]> {
  return parseHeldNames(await readFile('/proc/net/unix', 'utf8'));
}

/** Networks that daemons of this network namespace serve, our own among them. */
export async function heldNetworks(): Promise<Prefix<Address>[]> {
  const names = await heldNames().catch(() => []);
  return names
    .filter((name) => name.startsWith('network/'))
    .map((name) => parseAnyPrefix(name.slice('network/'.length)))
    .filter((network) => network !== undefined);
}

/** Reads the names out of /proc/net/unix, which shows a NUL as "@". Pure. */
export function parseHeldNames(text: string): string[] {
  const names = text.split('\n').map((line) => new RegExp(`@${PREFIX}([^@]+)@*$`).exec(line)?.[1]);
  return [...new Set(names.filter((name) => name !== undefined))];
}

/**
 * Holds `name`, or rejects with OverlayError E_RUNNING, whose message says that another daemon holds `what` and that
 * `way` is what to do. Where a security policy forbids abstract sockets, it warns and goes on without a lock.
 */
export async function holdOrRefuse(
  name: string,
  owner: string,
  what: string,
  way: string,
  warn: (text: string) => void,
): Promise<HostLock> {
  let lock: HostLock | undefined;
  try {
    lock = await holdName(name, owner);
  } catch (error) {
    warn(`cannot make sure that no other daemon has ${what}: ${(error as Error).message}`);
    return { close: () => Promise.resolve() };
  }
  if (lock !== undefined) return lock;
  const holder = await askHolder(name);
  throw new OverlayError(
    'E_RUNNING',
    `Another daemon${holder === undefined ? '' : ` (${holder})`} has ${what}: ${way}`,
  );
}
