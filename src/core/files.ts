// Folders: making one with all above it, and knowing one under whatever name. Files: replacing one in one step,
// and seeing that one was replaced.
//
// Node's own recursive mkdir never returns when the file system answers ENOENT for a folder whose parent exists, as
// procfs does.

import { constants, existsSync, mkdirSync, realpathSync, statSync } from 'node:fs';
import { type FileHandle, open, readdir, rename, unlink } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';

/**
 * Makes the folder `path` and its missing parents with this mode, before umask. Does nothing when it exists. Throws
 * ErrnoException.
 */
export function makeFolder(path: string, mode: number): void {
  if (existsSync(path)) return;
  const parent = dirname(path);
  if (parent !== path) makeFolder(parent, mode);
  try {
    mkdirSync(path, { mode });
  } catch (error) {
    // Another process was faster.
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

/**
 * The one name of a folder that may be spelt through links, as /var/run is /run; what is not there yet stays as given.
 */
export function realFolder(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    const parent = dirname(resolve(path));
    return parent === resolve(path) ? parent : join(realFolder(parent), basename(path));
  }
}

/**
 * Changes whenever the file at `path` is replaced, rewritten, appears or is gone. By identity, since inotify would miss
 * the swap of a link by which Kubernetes and cert-manager renew files.
 */
export function fileSignature(path: string): string {
  try {
    const stat = statSync(path, { bigint: true });
    return `${stat.dev}:${stat.ino}:${stat.size}:${stat.mtimeNs}`;
  } catch (error) {
    return `error:${(error as NodeJS.ErrnoException).code ?? ''}`;
  }
}

// Beside the file, so that both are on one file system; never through a link that somebody has put there.
const NEW_FILE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
const FOLDER = constants.O_RDONLY | constants.O_DIRECTORY;

/**
 * Replaces the file at `path`, or makes it, with this mode whatever the umask: whoever reads it sees what was there or
 * the new content, also after a crash. A link there is replaced, not followed. What a process that was killed in here
 * has left is removed; two at it at once may fail, so that one tries again. Rejects with ErrnoException, or with what
 * `write` rejects with, the file untouched.
 */
export async function replaceFile(
  path: string,
  mode: number,
  write: (file: FileHandle) => Promise<unknown>,
): Promise<void> {
  const folder = dirname(path);
  const stem = `.${basename(path)}.`;
  for (const name of await readdir(folder)) {
    if (name.startsWith(stem) && /^\d+$/.test(name.slice(stem.length)))
      await unlink(join(folder, name)).catch(() => undefined);
  }
  const temporary = join(folder, `${stem}${process.pid}`);
  try {
    await withFile(temporary, NEW_FILE, mode, async (file) => {
      await write(file);
      await file.chmod(mode);
      await file.sync();
    });
    await rename(temporary, path);
  } catch (error) {
    await unlink(temporary).catch(() => undefined);
    throw error;
  }
  await withFile(folder, FOLDER, 0, (file) => file.sync());
}

async function withFile(
  path: string,
  flags: number,
  mode: number,
  use: (file: FileHandle) => Promise<unknown>,
): Promise<void> {
  const file = await open(path, flags, mode);
  try {
    await use(file);
  } finally {
    await file.close();
  }
}
