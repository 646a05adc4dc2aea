// What can go wrong in the world outside the process, as typed errors with stable codes.
//
// There is one class; its `code` tells the failures apart. Operators search for the code, and docs/operations.md lists
// it. A caller's mistake is a TypeError or RangeError; an unwanted packet is counted and never an error.

/** Every code twill can fail with. A code is never reused for another meaning. */
export const ERROR_CODES = {
  E_USAGE: 'the command line or a FLANNELD_* variable is wrong',
  E_CONFIG: 'the network config is missing, unreadable or invalid',
  E_INTERFACE: 'no usable external interface or address',
  E_TUN: 'the TUN device cannot be opened or set up',
  E_SOCKET: 'the UDP socket cannot be opened',
  E_PRIVILEGE: 'a capability or device node is missing',
  E_RUNNING: 'another daemon on this host serves the same network, or uses the same device or file',
  E_LEASE: 'no lease can be had',
  E_LEASE_LOST: 'the own lease was taken or revoked',
  E_STORE: 'the lease store failed or refused',
  E_KERNEL: 'a kernel setting, link, address or route could not be applied',
  E_FIREWALL: 'firewall rules could not be applied',
  E_FILE: 'a file could not be read or written',
  E_BACKEND: 'the backend type or its settings are not usable here',
} as const;

/** A stable code; docs/operations.md says what each means. */
export type ErrorCode = keyof typeof ERROR_CODES;

/** A failure of the world, with the failed action and the state it met in its message. */
export class OverlayError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'OverlayError';
    this.code = code;
  }
}

/** What `error`, which may be anything that was thrown, says of itself. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The codes as a Markdown table. */
export function errorsMarkdown(): string {
  const rows = Object.entries(ERROR_CODES).map(([code, meaning]) => `| \`${code}\` | ${meaning} |`);
  return ['| code | meaning |', '| --- | --- |', ...rows].join('\n');
}
