// The Backend object of the host-gw type. Pure.

import { type RawBackend, unknownKeys } from '../../config/reader.js';

/** The host-gw backend has no settings; what it does not know is listed. */
export function parseHostGwConfig(backend: RawBackend): { readonly unknownKeys: readonly string[] } {
  return { unknownKeys: unknownKeys(backend, ['Type']) };
}
