// Measurements between two namespaces with Debian's tools: iperf3 for rates, ping for round trips; and the machine's
// busy time beside them.

import { readFileSync } from 'node:fs';
import type { Lab, Task } from './lab.js';

export interface TcpResult {
  readonly gigabitsPerSecond: number;
  readonly retransmits: number;
}

export interface PingResult {
  readonly sent: number;
  readonly received: number;
  readonly minMs: number;
  readonly averageMs: number;
  readonly maxMs: number;
}

/** An iperf3 server that waits for clients. */
export function startIperfServer(lab: Lab, ns: string): Promise<Task> {
  return lab.spawnUntil(ns, 'iperf3', ['-s', '--forceflush'], /Server listening/);
}

export interface BulkOptions {
  /** How much of the beginning does not count. @default 1 */
  readonly skipSeconds?: number;
  /** Congestion control of both ends. @default as their namespaces have it */
  readonly control?: string;
}

/** Bulk TCP; `isReverse` lets the server send. */
export async function measureTcp(
  lab: Lab,
  clientNs: string,
  serverIp: string,
  seconds: number,
  streams = 1,
  isReverse = false,
  { skipSeconds = 1, control }: BulkOptions = {},
): Promise<TcpResult> {
  const length = ['-t', String(seconds), '-O', String(skipSeconds)];
  const args = ['-c', serverIp, ...length, '-P', String(streams), '-J'];
  if (control !== undefined) args.push('-C', control);
  const { stdout } = await lab.run(clientNs, 'iperf3', isReverse ? [...args, '-R'] : args, {
    timeoutMs: (seconds + 20) * 1000,
  });
  const { end } = JSON.parse(stdout) as {
    end: { sum_received: { bits_per_second: number }; sum_sent: { retransmits?: number } };
  };
  return {
    gigabitsPerSecond: end.sum_received.bits_per_second / 1e9,
    retransmits: end.sum_sent.retransmits ?? 0,
  };
}

/** ICMP echo, `count` times, 10 ms apart. */
export async function measurePing(lab: Lab, ns: string, ip: string, count: number): Promise<PingResult> {
  const { stdout } = await lab.run(ns, 'ping', ['-q', '-c', String(count), '-i', '0.01', '-W', '1', ip], {
    mustSucceed: false,
  });
  const packets = /(\d+) packets transmitted, (\d+) received/.exec(stdout);
  const times = /= ([\d.]+)\/([\d.]+)\/([\d.]+)/.exec(stdout);
  return {
    sent: Number(packets?.[1] ?? count),
    received: Number(packets?.[2] ?? 0),
    minMs: Number(times?.[1] ?? NaN),
    averageMs: Number(times?.[2] ?? NaN),
    maxMs: Number(times?.[3] ?? NaN),
  };
}

const TICKS_PER_SECOND = 100; // USER_HZ

/** Seconds all cores together were busy since boot, interrupts and stolen time included (proc(5), /proc/stat). */
function busySeconds(): number {
  const [user, nice, system, , , irq, softirq, steal] = readFileSync('/proc/stat', 'utf8')
    .split('\n', 1)[0]
    .trim()
    .split(/\s+/)
    .slice(1)
    .map(Number);
  return (user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND;
}

/** Runs `work` and says how many cores of the machine were busy meanwhile, its first and last tenth left out. */
export async function withBusyCores<T>(
  seconds: number,
  work: () => Promise<T>,
): Promise<{ result: T; cores: number }> {
  let cores = NaN;
  const sample = async (): Promise<void> => {
    await new Promise((resolve) => setTimeout(resolve, seconds * 100));
    const [busy, startedAtMs] = [busySeconds(), performance.now()];
    await new Promise((resolve) => setTimeout(resolve, seconds * 800));
    cores = ((busySeconds() - busy) * 1000) / (performance.now() - startedAtMs);
  };
  const [result] = await Promise.all([work(), sample()]);
  return { result, cores };
}

/** The value in the middle; of an even count, the upper one. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

/** Rows of text in columns, the first row as heading. */
export function formatTable(rows: readonly (readonly string[])[]): string {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  return rows
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i]))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
