// Runs one system tool (ip, bridge, nft, iptables-restore) without a shell and waits for its end.
//
// Invariants: nothing is interpolated into a command line, input goes over stdin; the environment holds PATH and the C
// locale only, so that messages can be matched and no loader option of ours leaks into a child; every run has a time
// limit and its output a cap. A non-zero exit is a result here, not an error: callers know what it means.

import { type ChildProcess, spawn, type StdioOptions } from 'node:child_process';
import { OverlayError } from '../core/errors.js';
import type { ErrorCode } from '../core/errors.js';

export interface CommandOptions {
  /** Written to the tool's stdin, which is then closed. @default no stdin */
  readonly input?: string;
  readonly signal?: AbortSignal | undefined;
  /** @default 30000 */
  readonly timeoutMs?: number;
  /** Cap of the output kept, in bytes; a tool that writes more is ended. @default 64 MiB */
  readonly maxOutputBytes?: number;
  /** Code of the error when the tool cannot be run at all. @default 'E_KERNEL' */
  readonly errorCode?: ErrorCode;
}

export interface CommandResult {
  /** Exit status. */
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

type OnEnd = (command: string, end: number | string | null, ms: number) => void;
let onEnd: OnEnd = () => undefined;

/** From now on `told` is called when a command ends, with its exit status or the signal: for the log at --v=1. */
export function traceCommands(told: OnEnd): void {
  onEnd = told;
}

/** 30 s: far above any run of ours (40 ms for 5,000 routes), below what an operator takes for a hang. */
const DEFAULT_TIMEOUT_MS = 30_000;

/** 64 MiB holds the JSON of about 400,000 routes. */
const DEFAULT_MAX_OUTPUT_BYTES = 64 << 20;

/** A service manager's PATH may lack the sbin folders that hold iproute2 and iptables on many distributions. */
const TOOL_PATH = [process.env['PATH'], '/usr/local/sbin', '/usr/sbin', '/sbin', '/usr/bin', '/bin']
  .filter((part) => part !== undefined && part !== '')
  .join(':');

/** Environment of every child: messages in English, and nothing of ours that would change how a tool works. */
export const TOOL_ENVIRONMENT: NodeJS.ProcessEnv = { PATH: TOOL_PATH, LC_ALL: 'C' };

/**
 * Starts `tool` and resolves once it runs, before any event of it; rejects with the system's error when it cannot.
 *
 * Without a free descriptor Node returns a child that has no streams and fails later; for lack of memory it throws.
 */
export function startTool(tool: string, args: readonly string[], stdio: StdioOptions): Promise<ChildProcess> {
  return new Promise((resolve, reject) => {
    const child = spawn(tool, args, { env: TOOL_ENVIRONMENT, stdio });
    child.once('error', reject);
    child.once('spawn', () => {
      child.off('error', reject);
      resolve(child);
    });
  });
}

/**
 * Runs `tool` with `args` and resolves with its exit status and output.
 *
 * Rejects with OverlayError (`errorCode`) when the tool is missing, is ended by a signal, exceeds its time limit or its
 * output cap; with the signal's reason on abort. The child is ended (SIGKILL) in each of these cases.
 */
export async function runCommand(
  tool: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const { input, signal, errorCode = 'E_KERNEL' } = options;
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  const maxOutputBytes = options.maxOutputBytes ?? DEFAULT_MAX_OUTPUT_BYTES;
  const fail = (what: string, cause?: unknown) =>
    new OverlayError(errorCode, `Cannot run "${describe(tool, args)}": ${what}`, { cause });
  const failBy = (error: NodeJS.ErrnoException) =>
    fail(error.code === 'ENOENT' ? 'not found' : error.message, error);

  signal?.throwIfAborted();
  const startedMs = performance.now();
  const stdio: StdioOptions = [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'];
  const child = await startTool(tool, args, stdio).catch((error: NodeJS.ErrnoException) => {
    throw failBy(error);
  });
  return new Promise((resolve, reject) => {
    let failure: unknown;
    const endWith = (reason: unknown) => {
      failure ??= reason;
      child.kill('SIGKILL');
    };
    const timer = setTimeout(() => endWith(fail(`no end within ${timeoutMs} ms`)), timeoutMs);
    const onAbort = () => endWith(signal?.reason);
    if (signal?.aborted) onAbort();
    signal?.addEventListener('abort', onAbort, { once: true });

    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    let keptBytes = 0;
    const collect = (into: Buffer[]) => (chunk: Buffer) => {
      keptBytes += chunk.length;
      if (keptBytes > maxOutputBytes) endWith(fail(`more than ${maxOutputBytes} bytes of output`));
      else into.push(chunk);
    };
    child.stdout!.on('data', collect(stdout));
    child.stderr!.on('data', collect(stderr));
    // A tool that stops at a bad line closes its stdin early: EPIPE then says nothing that its exit status does not.
    child.stdin?.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') endWith(fail(error.message, error));
    });
    child.stdin?.end(input);

    const finish = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    };
    child.once('error', (error: NodeJS.ErrnoException) => {
      finish();
      reject(failure instanceof Error ? failure : failBy(error));
    });
    child.once('close', (status, killedBy) => {
      finish();
      onEnd(describe(tool, args), status ?? killedBy, performance.now() - startedMs);
      // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- an abort reason may be any value
      if (failure !== undefined) reject(failure);
      else if (status === null) reject(fail(`ended by ${killedBy}`));
      else
        resolve({
          status,
          stdout: Buffer.concat(stdout).toString(),
          stderr: Buffer.concat(stderr).toString(),
        });
    });
  });
}

/** The command as an operator would type it, shortened to 200 characters for messages. */
export function describe(tool: string, args: readonly string[]): string {
  const text = [tool, ...args].join(' ');
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}
