import { OverlayError } from '../../src/errors.js';
import type { NetworkConfig } from '../../src/config/network-config.js';
import { parseIpv4, parseCidr, prefixOf, sizeOf } from '../../src/net/ipv4.js';
export function parseNetworkConfig(text: string, source: string): NetworkConfig {
  let json: Record<string, unknown>;
  try {
    json = JSON.parse(text) as Record<string, unknown>;
  } catch (error) {
    throw new OverlayError('E_CONFIG', `Cannot use network config in ${source}: ${(error as Error).message}`);
  }
  const cidr = parseCidr(String(json.Network));
  if (cidr === undefined) throw new OverlayError('E_CONFIG', `Cannot use Network in ${source}`);
  const network = prefixOf(cidr.address, cidr.length);
  const subnetLength = Number(json.SubnetLen ?? 24);
  const size = sizeOf(subnetLength);
  return {
    network,
    subnetLength,
    subnetMin: json.SubnetMin === undefined ? network.address + size : parseIpv4(String(json.SubnetMin))!,
    subnetMax:
      json.SubnetMax === undefined
        ? network.address + sizeOf(network.length) - size
        : parseIpv4(String(json.SubnetMax))!,
    enableNftables: false,
    backendType: 'udp',
    backend: {},
  };
}
