// iproute2 as our way to the kernel's links, addresses, routes, neighbours and FDB: `ip`, `bridge`, and both in batch.
//
// Order of parts: one command, one query (JSON), batches, and the reading of refusals. Batches run with -force, so one
// refused line does not hold up the rest; "Command failed -:N" on stderr (ip-batch(8)) names the lines. A line that
// iproute2 cannot even parse makes it exit there and then and leaves the lines after it undone; such a batch is split
// in halves until the bad line is alone. So lines must be idempotent (replace, del), since a part may run twice.

import { describe, runCommand } from './command.js';
import { OverlayError } from '../core/errors.js';

/** Route protocol number of every route of ours, as BIRD has 12 and Babel 42. iproute2 names no 94 (rt_protos). */
export const ROUTE_PROTOCOL = 94;

/** Programs of iproute2 that run batches. */
export type BatchTool = 'ip' | 'bridge';

export interface BatchOptions {
  /** @default 'ip' */
  readonly tool?: BatchTool;
  readonly signal?: AbortSignal | undefined;
}

/** A batch line the kernel or iproute2 refused. */
export interface BatchFailure {
  /** Index into the lines given. */
  readonly index: number;
  readonly line: string;
  /** What iproute2 wrote about it, such as "RTNETLINK answers: Network is unreachable". */
  readonly message: string;
}

/**
 * Runs `ip <args>` and resolves with its stdout.
 * Rejects with OverlayError E_KERNEL, naming the command and its stderr, when it exits non-zero.
 */
export async function ip(args: readonly string[], signal?: AbortSignal): Promise<string> {
  return await runChecked('ip', args, signal);
}

/** Like ip(), for `bridge`. */
export async function bridge(args: readonly string[], signal?: AbortSignal): Promise<string> {
  return await runChecked('bridge', args, signal);
}

/**
 * Runs `ip -json <args>` and resolves with the objects it lists; iproute2 prints nothing at all for some empty lists.
 * `-N` is set: protocols, scopes and tables are numbers in text form, whatever the host's /etc/iproute2 names them.
 */
export async function ipJson<T>(args: readonly string[], signal?: AbortSignal): Promise<T[]> {
  return parseObjects(await runChecked('ip', ['-json', '-N', ...args], signal), 'ip', args);
}

/** Like ipJson(), for `bridge`. */
export async function bridgeJson<T>(args: readonly string[], signal?: AbortSignal): Promise<T[]> {
  return parseObjects(await runChecked('bridge', ['-json', ...args], signal), 'bridge', args);
}

/**
 * Runs every line as one command of `ip -batch` (or `bridge -batch`) and resolves with the refused ones, in order.
 * Cost: one process for any number of lines; 5,000 routes take about 40 ms. Rejects only when the tool cannot run.
 */
export async function ipBatch(lines: readonly string[], options: BatchOptions = {}): Promise<BatchFailure[]> {
  const failures: BatchFailure[] = [];
  await runBatchPart(lines, 0, lines.length, options, failures, undefined);
  return failures.sort((a, b) => a.index - b.index);
}

/**
 * Runs queries that print one JSON list each, such as "route get 192.0.2.1", as one batch. Resolves with one entry for
 * each line: what it listed, or undefined when it was refused.
 */
export async function ipBatchJson<T>(
  lines: readonly string[],
  signal?: AbortSignal,
): Promise<(T[] | undefined)[]> {
  const failures: BatchFailure[] = [];
  const printed: string[] = [];
  await runBatchPart(lines, 0, lines.length, { signal }, failures, printed);
  const refused = new Set(failures.map((failure) => failure.index));
  if (printed.length !== lines.length - refused.size) {
    throw new OverlayError(
      'E_KERNEL',
      `"ip -json -batch -" answered ${printed.length} of ${lines.length} queries`,
    );
  }
  let next = 0;
  return lines.map((_, index) => (refused.has(index) ? undefined : (JSON.parse(printed[next++]) as T[])));
}

async function runBatchPart(
  lines: readonly string[],
  start: number,
  end: number,
  options: BatchOptions,
  failures: BatchFailure[],
  printed: string[] | undefined,
): Promise<void> {
  if (start >= end) return;
  const tool = options.tool ?? 'ip';
  const input = lines.slice(start, end).join('\n') + '\n';
  const args = printed === undefined ? [] : ['-json', '-details', '-N'];
  const result = await runCommand(tool, [...args, '-force', '-batch', '-'], {
    input,
    signal: options.signal,
  });
  printed?.push(...result.stdout.split('\n').filter((text) => text !== ''));
  const report = parseBatchReport(result.stderr);
  for (const { lineNumber, message } of report.failed) {
    const index = start + lineNumber - 1;
    failures.push({ index, line: lines[index], message });
  }
  if (result.status === 0 || report.stoppedBy === undefined) return;
  // The tool gave up at an unknown line after the last one it reported.
  const next = start + (report.failed.at(-1)?.lineNumber ?? 0);
  if (end - next <= 1) {
    if (next < end) failures.push({ index: next, line: lines[next], message: report.stoppedBy });
    return;
  }
  if (printed !== undefined) throw new OverlayError('E_KERNEL', `"ip -batch -" stopped: ${report.stoppedBy}`);
  const middle = next + ((end - next) >> 1);
  await runBatchPart(lines, next, middle, options, failures, printed);
  await runBatchPart(lines, middle, end, options, failures, printed);
}

const FAILED_LINE = /^Command failed (?:-|.*):(\d+)$/;

/**
 * Reads the stderr of a batch: which line numbers (from 1) were refused and why, and in `stoppedBy` what was written
 * after the last of them, which means that the tool exited early; undefined when nothing was.
 */
export function parseBatchReport(stderr: string): {
  readonly failed: readonly { readonly lineNumber: number; readonly message: string }[];
  readonly stoppedBy: string | undefined;
} {
  const failed: { lineNumber: number; message: string }[] = [];
  let pending: string[] = [];
  for (const text of stderr.split('\n')) {
    if (text === '') continue;
    const match = FAILED_LINE.exec(text);
    if (match === null) {
      pending.push(text);
      continue;
    }
    failed.push({ lineNumber: Number(match[1]), message: pending.join('; ') || 'refused' });
    pending = [];
  }
  return { failed, stoppedBy: pending.length === 0 ? undefined : pending.join('; ') };
}

/**
 * Whether a refusal means that the thing to delete is not there, which a deletion takes for success: ESRCH for routes,
 * ENOENT for neighbours and FDB entries, ENODEV or iproute2's own text for devices, EADDRNOTAVAIL for addresses. Later
 * kernels say the last in words of their own (extack of inet_rtm_deladdr and inet6_addr_del), and that a device that is
 * too narrow for IPv6 has none of its addresses.
 */
export function meansGone(message: string): boolean {
  return (
    /No such (process|file or directory|device)/.test(message) ||
    /Cannot find device|does not exist|Cannot assign requested address/.test(message) ||
    /ipv[46]: address not found|ipv6: IPv6 is disabled on this device/i.test(message)
  );
}

async function runChecked(
  tool: string,
  args: readonly string[],
  signal: AbortSignal | undefined,
): Promise<string> {
  const result = await runCommand(tool, args, { signal });
  if (result.status !== 0) {
    const reason = result.stderr.trim().split('\n').join('; ') || `exit status ${result.status}`;
    throw new OverlayError('E_KERNEL', `"${describe(tool, args)}" failed: ${reason}`);
  }
  return result.stdout;
}

function parseObjects<T>(stdout: string, tool: string, args: readonly string[]): T[] {
  if (stdout.trim() === '') return [];
  try {
    return JSON.parse(stdout) as T[];
  } catch (cause) {
    throw new OverlayError(
      'E_KERNEL',
      `"${describe(tool, args)}" printed no valid JSON: ${stdout.slice(0, 80)}`,
      { cause },
    );
  }
}
