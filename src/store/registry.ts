// The stores by kind.

import type { Flags } from '../config/flags.js';
import { OverlayError } from '../errors.js';
import type { Logger } from '../ops/log.js';
import { StaticStore } from './static/static-store.js';
import type { LeaseStore } from './store.js';

/** Opens the store that --store names. Contacts nothing. */
export function openStore(flags: Flags, log: Logger): LeaseStore {
  if (flags.store === 'static') {
    if (flags.staticFile === '') throw new OverlayError('E_USAGE', '--store=static needs --static-file');
    return new StaticStore(flags.staticFile, log);
  }
  throw new OverlayError('E_USAGE', `--store=${flags.store} is not available`);
}
