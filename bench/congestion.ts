// The congestion controls that bulk TCP is measured with. Which one a path likes is a property of the path: BBR paces
// by what it measures, Cubic fills queues until one drops.

import { readFileSync } from 'node:fs';

export interface Control {
  /** As `net.ipv4.tcp_available_congestion_control` has it; the sockets ask for it (TCP_CONGESTION of tcp(7)). */
  readonly name: string;
  /** As tables have it. */
  readonly title: string;
}

export const BBR: Control = { name: 'bbr', title: 'BBR' };
export const CUBIC: Control = { name: 'cubic', title: 'Cubic' };

/** Fails when the kernel has not both. */
export function requireControls(): void {
  const path = '/proc/sys/net/ipv4/tcp_available_congestion_control';
  const available = readFileSync(path, 'utf8').trim().split(/\s+/);
  for (const { name } of [BBR, CUBIC]) {
    if (!available.includes(name))
      throw new Error(
        `Cannot compare with ${name}: ${path} has ${available.join(', ')} (try modprobe tcp_${name})`,
      );
  }
}
