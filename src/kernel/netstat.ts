// Counters of the network namespace under /proc/net/netstat: pairs of lines, names and then values, each with the same
// first word (see proc_net(5) and net/ipv4/proc.c).

import { readFileSync } from 'node:fs';
import type { MetricFamily } from '../core/metric.js';

/**
 * One counter, such as ("TcpExt", "IPReversePathFilter"); undefined when this kernel does not have it. The file is read
 * synchronously, since no disk is involved.
 */
export function readNetstat(group: string, name: string): number | undefined {
  let text: string;
  try {
    text = readFileSync('/proc/net/netstat', 'utf8');
  } catch {
    return undefined; // a metric that cannot be had is left out
  }
  return parseNetstat(text, group, name);
}

/** The kernel counts these for all devices together, and drops them before a firewall rule or we see them. */
export function reversePathMetrics(): MetricFamily[] {
  const value = readNetstat('TcpExt', 'IPReversePathFilter');
  if (value === undefined) return [];
  return [
    {
      name: 'kernel_reverse_path_drops_total',
      help: 'Packets the kernel discarded on any device of this host by rp_filter.',
      type: 'counter',
      values: [{ labels: {}, value }],
    },
  ];
}

/** The counter in the text of that file. */
export function parseNetstat(text: string, group: string, name: string): number | undefined {
  const [names, values] = text
    .split('\n')
    .filter((line) => line.startsWith(`${group}: `))
    .map((line) => line.split(' '));
  const at = names?.indexOf(name) ?? -1;
  return at < 1 || values?.[at] === undefined ? undefined : Number(values[at]);
}
