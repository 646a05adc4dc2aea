// Counters of the network namespace under /proc/net/netstat: pairs of lines, names and then values, each with the same
// first word (see proc_net(5) and net/ipv4/proc.c).

import { readFileSync } from 'node:fs';

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

/** The counter in the text of that file. */
export function parseNetstat(text: string, group: string, name: string): number | undefined {
  const [names, values] = text
    .split('\n')
    .filter((line) => line.startsWith(`${group}: `))
    .map((line) => line.split(' '));
  const at = names?.indexOf(name) ?? -1;
  return at < 1 || values?.[at] === undefined ? undefined : Number(values[at]);
}
