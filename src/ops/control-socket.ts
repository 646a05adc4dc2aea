// The control socket: what the health server shows, for root on this host only. The program `twill` asks it.
//
// A socket that a dead daemon left is replaced; one that answers belongs to a daemon that runs, and is left alone.

import { connect } from 'node:net';
import { chmod, lstat, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { OverlayError } from '../core/errors.js';
import { makeFolder } from '../core/files.js';
import { type HttpOptions, type HttpServer, openHttpServer } from './http.js';

/** While an answer of this path lasts, a capture on the overlay's device sees all packets: see Backend.showAll(). */
export const CAPTURE_PATH = '/capture';

// sun_path of unix(7), its terminating zero left out.
const MAX_PATH_BYTES = 107;
const ANSWER_MS = 1_000;

/** Listens at `path`, mode 0600. Rejects with OverlayError E_SOCKET. */
export async function openControlSocket(
  path: string,
  options: Omit<HttpOptions, 'listen'>,
): Promise<HttpServer> {
  if (!path.startsWith('/') || Buffer.byteLength(path) > MAX_PATH_BYTES) {
    const expected = `expected an absolute path of at most ${MAX_PATH_BYTES} bytes`;
    throw new OverlayError('E_SOCKET', `Cannot listen on ${JSON.stringify(path)}: ${expected}`);
  }
  try {
    makeFolder(dirname(path), 0o755);
  } catch (error) {
    throw new OverlayError('E_SOCKET', `Cannot listen on ${path}: ${(error as Error).message}`, {
      cause: error,
    });
  }
  if (await answers(path)) {
    throw new OverlayError('E_SOCKET', `Cannot listen on ${path}: another daemon answers there`);
  }
  await removeDeadSocket(path);
  // Nobody else may connect between bind and chmod.
  const mask = process.umask(0o177);
  try {
    const server = await openHttpServer({ ...options, listen: { path } });
    await chmod(path, 0o600);
    return server;
  } finally {
    process.umask(mask);
  }
}

async function removeDeadSocket(path: string): Promise<void> {
  try {
    if (!(await lstat(path)).isSocket()) throw new Error('it is no socket');
    await unlink(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw new OverlayError('E_SOCKET', `Cannot replace ${path}: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const end = (isThere: boolean): void => {
      socket.destroy();
      resolve(isThere);
    };
    socket.setTimeout(ANSWER_MS, () => end(true)); // somebody listens but is slow
    socket.once('connect', () => end(true));
    // ENOTSOCK and the like are no answer either; removeDeadSocket() looks at what is there.
    socket.once('error', ({ code }: NodeJS.ErrnoException) => end(code === 'EACCES' || code === 'EAGAIN'));
  });
}
