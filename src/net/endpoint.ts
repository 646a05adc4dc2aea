// Addresses with a port, as text.

import { familiesOf } from './dual.js';
import { type Address, type DualAddress, formatAddress } from './prefix.js';

/** "172.20.0.1:8285" or "[fd00::1]:8285" (RFC 3986 section 3.2.2). */
export function formatEndpoint(address: Address, port: number): string {
  const text = formatAddress(address);
  return typeof address === 'number' ? `${text}:${port}` : `[${text}]:${port}`;
}

/** Those of each family, joined by "and". */
export function formatEndpoints(addresses: DualAddress, port: number): string {
  return familiesOf(addresses)
    .map((family) => formatEndpoint(addresses[family]!, port))
    .join(' and ');
}
