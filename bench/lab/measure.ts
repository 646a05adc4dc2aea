// Measurements between two namespaces with Debian's tools: iperf3 for rates, ping for round trips.

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

/** Bulk TCP; `isReverse` lets the server send. The first second does not count. */
export async function measureTcp(
  lab: Lab,
  clientNs: string,
  serverIp: string,
  seconds: number,
  streams = 1,
  isReverse = false,
): Promise<TcpResult> {
  const args = ['-c', serverIp, '-t', String(seconds), '-O', '1', '-P', String(streams), '-J'];
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
