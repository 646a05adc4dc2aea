// Where tests keep what is fetched or built once, in minutes: outside the tree, so that a fresh clone has it, too.

import { homedir } from 'node:os';
import { join } from 'node:path';

/** `$TWILL_KUBE_CACHE`, else `$XDG_CACHE_HOME/twill`, else `~/.cache/twill`. It may not be there yet. */
export function cacheFolder(): string {
  const { TWILL_KUBE_CACHE, XDG_CACHE_HOME } = process.env;
  return TWILL_KUBE_CACHE ?? join(XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'twill');
}
