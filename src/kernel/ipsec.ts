// IPsec policies of this network namespace: which packets the kernel encrypts, and what it takes only when it was
// encrypted (ip-xfrm(8)). They are looked up for what sockets send and receive and for what is forwarded; programs that
// send by themselves pass by them.

import { OverlayError } from '../core/errors.js';
import { describe, runCommand } from './command.js';

const COUNT = ['xfrm', 'policy', 'count'] as const;

/**
 * Policies for what this host sends and receives, those of single sockets apart; 0 in a kernel without IPsec. Rejects
 * with OverlayError E_KERNEL when they cannot be counted.
 */
export async function countIpsecPolicies(): Promise<number> {
  const { status, stdout, stderr } = await runCommand('ip', COUNT);
  const count = status === 0 ? parsePolicyCount(stdout) : countOfRefusal(stderr);
  if (count !== undefined) return count;
  const said = (stderr || stdout).trim();
  throw new OverlayError(
    'E_KERNEL',
    `"${describe('ip', COUNT)}" failed: ${said}, expected numbers of policies`,
  );
}

/** The sum of IN and OUT in what `ip xfrm policy count` prints; undefined when it is something else. */
export function parsePolicyCount(text: string): number | undefined {
  const match = /\bIN\s+(\d+)\s+OUT\s+(\d+)/.exec(text);
  return match === null ? undefined : Number(match[1]) + Number(match[2]);
}

function countOfRefusal(message: string): number | undefined {
  // EPROTONOSUPPORT of socket(2) for NETLINK_XFRM: the kernel has no policies.
  return message.includes('Protocol not supported') ? 0 : undefined;
}
