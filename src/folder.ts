// Makes a folder with all above it. Node's own recursive mkdir never returns when the file system answers ENOENT for a
// folder whose parent exists, as procfs does.

import { existsSync, mkdirSync } from 'node:fs';
import { dirname } from 'node:path';

/** Makes `path` and what is missing above it, with this mode before umask; nothing when it is there. Throws ErrnoException. */
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
