// What a failed etcd call means for us: one class, a kind per reaction.
//
// etcd3 turns gRPC statuses into classes and keeps the text; etcd says most things in the text alone ("etcdserver: …").
// So the kind is read from the text first and from the class second. Every TLS failure arrives as "unavailable".

import { messageOf, OverlayError } from '../../core/errors.js';

export type FaultKind =
  | 'unreachable' // no connection, or it broke
  | 'timeout' // no answer within the deadline
  | 'tls' // handshake or certificate refused
  | 'auth' // user or password refused, or one is needed
  | 'auth-off' // we have a user, the server has authentication disabled
  | 'token' // the token expired or was invalidated
  | 'permission' // the user may not do this
  | 'no-leader' // this member has no quorum
  | 'no-space' // quota alarm: writes are refused
  | 'too-large' // the answer exceeds the receive limit
  | 'compacted' // the revision asked for is gone
  | 'lease-missing' // the etcd lease expired or was revoked
  | 'lease-exists' // the etcd lease id is in use
  | 'closed' // we closed the client
  | 'other';

/** Kinds after which the same connection is not worth a second call. */
const BREAKS_SESSION: ReadonlySet<FaultKind> = new Set([
  'unreachable',
  'timeout',
  'tls',
  'auth',
  'auth-off',
  'token',
  'no-leader',
  'closed',
]);

/** Kinds with which etcd says that it did not execute the request. After any other a write may have happened. */
const REFUSED: ReadonlySet<FaultKind> = new Set([
  'tls',
  'auth',
  'auth-off',
  'token',
  'permission',
  'no-space',
  'compacted',
  'lease-missing',
  'lease-exists',
]);

/** A failed etcd call. `kind` is what the caller reacts to; the message names action, endpoint and cause. */
export class EtcdFault extends OverlayError {
  readonly kind: FaultKind;

  constructor(kind: FaultKind, message: string, options?: { cause?: unknown }) {
    super('E_STORE', message, options);
    this.name = 'EtcdFault';
    this.kind = kind;
  }

  get breaksSession(): boolean {
    return BREAKS_SESSION.has(this.kind);
  }

  /** Whether a write may have been executed although we have no answer. */
  get isUncertain(): boolean {
    return !REFUSED.has(this.kind);
  }
}

const TEXT_KINDS: readonly (readonly [RegExp, FaultKind])[] = [
  [/invalid auth token|auth: revision in header is old|old auth revision/i, 'token'],
  [/authentication is not enabled/i, 'auth-off'],
  [/authentication failed|user name is empty|user name not found|invalid user id or password/i, 'auth'],
  [/permission denied/i, 'permission'],
  [/database space exceeded|no space/i, 'no-space'],
  [/required revision has been compacted|required revision is a future revision/i, 'compacted'],
  [/requested lease not found|is expired or revoked/i, 'lease-missing'],
  [/lease already exists/i, 'lease-exists'],
  [
    /no leader|leader changed|not leader|server stopped|member is not started|rpc not supported for learner/i,
    'no-leader',
  ],
  [/received message larger than max|message larger than max/i, 'too-large'],
  [/etcdserver: request timed out|too many requests/i, 'timeout'],
  [/certificate|EPROTO|altname|\bssl|\btls|ERR_TLS|ERR_SSL|self-signed|secure TLS connection/i, 'tls'],
  [/client was already closed|Channel closed/i, 'closed'],
  // The way to etcd speaks, not etcd: a stream or connection that was ended, or a web proxy's page. gRPC gives these
  // the status of whatever is nearest, from INTERNAL to RESOURCE_EXHAUSTED. 404 is a gateway that lacks the method.
  [
    /Received RST_STREAM|Received HTTP status code (?!404)|Bandwidth exhausted|not secure enough/i,
    'unreachable',
  ],
  [/\bE(?:CONN(?:RESET|REFUSED|ABORTED)|HOSTUNREACH|NETUNREACH|NETDOWN|PIPE|TIMEDOUT)\b/, 'unreachable'],
];

const CLASS_KINDS: Readonly<Record<string, FaultKind>> = {
  GRPCUnavailableError: 'unreachable',
  GRPCCancelledError: 'unreachable',
  GRPCDeadlineExceededError: 'timeout',
  GRPCUnauthenticatedError: 'auth',
  GRPCResourceExhastedError: 'too-large',
  EtcdInvalidAuthTokenError: 'token',
  EtcdPermissionDeniedError: 'permission',
  EtcdWatchStreamEnded: 'unreachable',
  ClientClosedError: 'closed',
};

// gRPC status codes as etcd3 leaves them on stream errors, which it does not cast.
const CODE_KINDS: Readonly<Record<number, FaultKind>> = {
  1: 'unreachable',
  4: 'timeout',
  8: 'too-large',
  14: 'unreachable',
  16: 'auth',
};

// gRPC's statuses for what went wrong on its own side of a call: UNKNOWN, INTERNAL, DATA_LOSS. etcd uses them too, for
// its own errors, and these begin with its name.
const BROKEN_CLASSES: ReadonlySet<string> = new Set([
  'GRPCUnknownError',
  'GRPCInternalError',
  'GRPCDataLossError',
]);
const BROKEN_CODES: ReadonlySet<number> = new Set([2, 13, 15]);
const SAID_BY_ETCD = /\b(?:etcdserver|auth|lease|mvcc): /;

/** The kind that a text of etcd or gRPC stands for. */
export function kindOfText(text: string): FaultKind | undefined {
  return TEXT_KINDS.find(([pattern]) => pattern.test(text))?.[1];
}

/** `error` of etcd3 or gRPC as an EtcdFault; `action` is what failed, such as `Cannot read "/p/config"`. */
export function toFault(error: unknown, action: string, endpoint: string): EtcdFault {
  if (error instanceof EtcdFault) return error;
  const text = shortText(error);
  const code = typeof error === 'object' && error !== null && 'code' in error ? Number(error.code) : NaN;
  const className = error instanceof Error ? error.constructor.name : '';
  const isBroken = BROKEN_CLASSES.has(className) || BROKEN_CODES.has(code);
  const kind =
    kindOfText(text) ??
    (isBroken && !SAID_BY_ETCD.test(text) ? 'unreachable' : undefined) ??
    CLASS_KINDS[className] ??
    CODE_KINDS[code] ??
    'other';
  return new EtcdFault(kind, `${action} at ${endpoint}: ${text}`, { cause: error });
}

// gRPC puts several lines and notes into one message; the first sentence with the socket error is what helps.
function shortText(error: unknown): string {
  const text = messageOf(error);
  const last = /Last error: (.*?)(?:\. Resolution note:|$)/s.exec(text)?.[1];
  return (
    (last ?? text)
      .replace(/^\w*Error: /, '')
      .replace(/ \(\d{4}-\d\d-\d\dT[\d:.]+Z\)$/, '')
      .replaceAll(/\s+/g, ' ')
      .trim()
      .slice(0, 300) || 'unknown error'
  );
}
