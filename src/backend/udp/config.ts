// Settings of the udp backend in the network config's Backend object. Pure.

import { UDP_PORT } from '../../core/defaults.js';
import { OverlayError } from '../../core/errors.js';
import { field } from '../../config/go-json.js';
import { unknownKeys } from '../../config/reader.js';

export interface UdpSettings {
  /** UDP port every host of the network listens on. @default 8285 */
  readonly port: number;
  /** Keys of the Backend object that mean nothing here, as they were spelled. */
  readonly unknownKeys: readonly string[];
}

/** Reads the Backend object of a config whose type is udp. Throws OverlayError E_CONFIG naming key and value. */
export function parseUdpBackend(backend: Readonly<Record<string, unknown>>): UdpSettings {
  const port = field(backend, 'Port') ?? UDP_PORT;
  // Go's decoder leaves 0 for a missing port or a null, so an explicit 0 means the default as well.
  const ignored = unknownKeys(backend, ['Type', 'Port']);
  if (port === 0) return { port: UDP_PORT, unknownKeys: ignored };
  if (typeof port !== 'number' || !Number.isInteger(port) || port < 1 || port > 65535) {
    throw new OverlayError(
      'E_CONFIG',
      `Backend.Port is ${JSON.stringify(port)}: expected an integer from 1 to 65535`,
    );
  }
  return { port, unknownKeys: ignored };
}
