// Folders: how one is made together with its parents, and which is its one name. Node's own recursive mkdir never
// returns when the file system answers ENOENT for a folder whose parent exists, as procfs does.

import { existsSync, mkdirSync, realpathSync } from 'node:fs';
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
