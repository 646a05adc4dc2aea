// subnet.env: what other programs (container runtimes, the CNI plugin) learn from the daemon, and what the daemon
// learns from its own previous run. The text is flannel's, byte for byte.
//
// It is sourced by scripts that run as root, so it is written only from numbers, replaced in one step, and never
// through a link; what is read back is taken only where it has exactly the form that is written.

import { lstat, readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { OverlayError } from '../core/errors.js';
import { makeFolder, replaceFile } from '../core/files.js';
import { dualOf, familiesOf } from '../net/dual.js';
import {
  type Address,
  type AddressOf,
  type DualPrefix,
  type Family,
  formatPrefix,
  parseCidr,
  type Prefix,
  prefixOf,
  stepped,
} from '../net/prefix.js';

export interface SubnetFile {
  readonly networks: DualPrefix;
  readonly subnets: DualPrefix;
  readonly mtuBytes: number;
  readonly ipMasq: boolean;
}

export interface PreviousSubnet {
  readonly networks: DualPrefix | undefined;
  readonly subnets: DualPrefix | undefined;
  readonly ipMasq: boolean | undefined;
  /** Lines that were not understood, in words. */
  readonly warnings: readonly string[];
}

const KEYS = {
  v4: { network: 'FLANNEL_NETWORK', subnet: 'FLANNEL_SUBNET' },
  v6: { network: 'FLANNEL_IPV6_NETWORK', subnet: 'FLANNEL_IPV6_SUBNET' },
} as const;
const BITS = { v4: 32, v6: 128 } as const;

const MODE = 0o644;
const MAX_BYTES = 4096;

/** The file's text. FLANNEL_SUBNET is the first address of the subnet, which the bridge takes; so of IPv6. */
export function formatSubnetFile(content: SubnetFile): string {
  const { networks, subnets, mtuBytes, ipMasq } = content;
  return [
    ...familiesOf(subnets).flatMap((family) => {
      const subnet: Prefix<Address> = subnets[family]!;
      const { length } = subnet;
      return [
        `${KEYS[family].network}=${formatPrefix(networks[family]!)}`,
        `${KEYS[family].subnet}=${formatPrefix({ address: stepped(subnet.address, BITS[family], 1), length })}`,
      ];
    }),
    `FLANNEL_MTU=${mtuBytes}`,
    `FLANNEL_IPMASQ=${ipMasq}`,
    '',
  ].join('\n');
}

/**
 * Writes the file in one step: a reader sees the old text or the new. Directories are made as needed. Rejects with
 * OverlayError E_FILE, the old file untouched; so it does when the path is a link or no regular file.
 */
export async function writeSubnetFile(path: string, content: SubnetFile): Promise<void> {
  try {
    makeFolder(dirname(path), 0o755);
    await refuseUnusual(path);
    await replaceFile(path, MODE, (file) => file.writeFile(formatSubnetFile(content)));
  } catch (error) {
    throw new OverlayError('E_FILE', `Cannot write subnet file ${path}: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

async function refuseUnusual(path: string): Promise<void> {
  const found = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (found?.isFile() === false) throw new Error('it is a link or no regular file');
}

/** Reads what an earlier run wrote. A missing file is an empty answer; what cannot be used is left out and named. */
export async function readSubnetFile(path: string): Promise<PreviousSubnet> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const warnings = code === 'ENOENT' ? [] : [`cannot read previous subnet file ${path}: ${code}`];
    return { networks: undefined, subnets: undefined, ipMasq: undefined, warnings };
  }
  return text.length > MAX_BYTES
    ? {
        networks: undefined,
        subnets: undefined,
        ipMasq: undefined,
        warnings: [`${path}: ${text.length} bytes: expected at most ${MAX_BYTES}`],
      }
    : parseSubnetFile(text, path);
}

/** Parses the text of a subnet file; `path` is for the warnings. */
export function parseSubnetFile(text: string, path: string): PreviousSubnet {
  const values = new Map<string, string>();
  for (const line of text.split('\n')) {
    const match = /^\s*(?:export\s+)?([A-Z0-9_]+)=(["']?)([^"']*)\2\s*$/.exec(line.replace(/\s#.*$/, ''));
    if (match !== null) values.set(match[1], match[3].trim());
  }
  const warnings: string[] = [];
  const prefix = <F extends Family>(key: string, family: F): Prefix<AddressOf[F]> | undefined => {
    const value = values.get(key);
    if (value === undefined) return undefined;
    // A list is what flannel wrote for several networks (v0.21 to v0.22).
    const cidrs = value.split(',').flatMap((part) => parseCidr(part.trim(), family) ?? []);
    if (cidrs.length !== 1) {
      warnings.push(`${path}: ${key} is ${JSON.stringify(value)}: expected one IPv${family} network`);
      return undefined;
    }
    return prefixOf(cidrs[0].address, cidrs[0].length);
  };
  const both = (key: 'network' | 'subnet'): DualPrefix | undefined => {
    const [v4, v6] = [prefix(KEYS.v4[key], 4), prefix(KEYS.v6[key], 6)];
    return v4 === undefined && v6 === undefined ? undefined : dualOf(v4, v6);
  };
  const masq = values.get('FLANNEL_IPMASQ');
  return {
    networks: both('network'),
    subnets: both('subnet'),
    ipMasq: masq === 'true' ? true : masq === 'false' ? false : undefined,
    warnings,
  };
}
