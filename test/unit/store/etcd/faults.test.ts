import t from 'tap';
import { EtcdFault, toFault } from '../../../../src/store/etcd/faults.js';
import type { FaultKind } from '../../../../src/store/etcd/faults.js';

t.test('toFault() tells the kinds apart by what etcd, gRPC and OpenSSL really say', (t) => {
  const named = (name: string, message: string): Error =>
    new (class extends Error {
      static override readonly name: string = name;
    })(message);
  const cases: [Error, FaultKind, boolean][] = [
    [
      named(
        'GRPCUnavailableError',
        '14 UNAVAILABLE: No connection established. Last error: connect ECONNREFUSED 127.0.0.1:1. Resolution note: ',
      ),
      'unreachable',
      true,
    ],
    [
      named(
        'GRPCUnavailableError',
        '14 UNAVAILABLE: No connection established. ' +
          'Last error: unable to verify the first certificate. Resolution note: ',
      ),
      'tls',
      false,
    ],
    [named('GRPCUnavailableError', '14 UNAVAILABLE: etcdserver: request timed out'), 'timeout', true],
    [named('GRPCUnavailableError', '14 UNAVAILABLE: etcdserver: no leader'), 'no-leader', true],
    [named('GRPCUnavailableError', '14 UNAVAILABLE: etcdserver: leader changed'), 'no-leader', true],
    [
      named('GRPCDeadlineExceededError', '4 DEADLINE_EXCEEDED: Deadline exceeded after 5.000s'),
      'timeout',
      true,
    ],
    [
      named('GRPCResourceExhastedError', '8 RESOURCE_EXHAUSTED: etcdserver: mvcc: database space exceeded'),
      'no-space',
      false,
    ],
    [
      named('GRPCResourceExhastedError', '8 RESOURCE_EXHAUSTED: Received message larger than max (5 vs. 4)'),
      'too-large',
      true,
    ],
    [
      named('EtcdInvalidAuthTokenError', '16 UNAUTHENTICATED: etcdserver: invalid auth token'),
      'token',
      false,
    ],
    [
      named(
        'EtcdAuthenticationFailedError',
        '3 INVALID_ARGUMENT: etcdserver: authentication failed, invalid user ID or password',
      ),
      'auth',
      false,
    ],
    [
      named(
        'GRPCFailedPreconditionError',
        '9 FAILED_PRECONDITION: etcdserver: authentication is not enabled',
      ),
      'auth-off',
      false,
    ],
    [
      named('EtcdPermissionDeniedError', '7 PERMISSION_DENIED: etcdserver: permission denied'),
      'permission',
      false,
    ],
    [
      named('GRPCOutOfRangeError', '11 OUT_OF_RANGE: etcdserver: mvcc: required revision has been compacted'),
      'compacted',
      false,
    ],
    [named('EtcdLeaseInvalidError', 'Lease 5 is expired or revoked'), 'lease-missing', false],
    [Object.assign(new Error('14 UNAVAILABLE: Connection dropped'), { code: 14 }), 'unreachable', true],
    [new Error('something new'), 'other', true],
  ];
  for (const [error, kind, isUncertain] of cases) {
    const fault = toFault(error, 'Cannot read "/k"', 'http://e:1');
    t.equal(fault.kind, kind, error.message);
    t.equal(fault.isUncertain, isUncertain, `${kind}: uncertain`);
    t.ok(fault.message.startsWith('Cannot read "/k" at http://e:1: '));
    t.equal(fault.code, 'E_STORE');
  }
  t.end();
});

t.test('toFault() takes a connection that was killed for unreachable, whatever status gRPC gives it', (t) => {
  const RST = 'Received RST_STREAM with code';
  const cases: [code: number, className: string, text: string, kind: FaultKind][] = [
    [1, 'GRPCCancelledError', '1 CANCELLED: Call cancelled', 'unreachable'],
    [2, 'GRPCUnknownError', '2 UNKNOWN: Received HTTP status code 418', 'unreachable'],
    [2, 'GRPCUnknownError', '2 UNKNOWN: something broke', 'unreachable'],
    [2, 'GRPCUnknownError', '2 UNKNOWN: etcdserver: something of its own', 'other'],
    [2, 'GRPCUnknownError', '2 UNKNOWN: auth: something of its own', 'other'],
    [7, 'GRPCGenericError', '7 PERMISSION_DENIED: Received HTTP status code 403', 'unreachable'],
    [7, 'GRPCGenericError', '7 PERMISSION_DENIED: Protocol not secure enough', 'unreachable'],
    [8, 'GRPCResourceExhastedError', '8 RESOURCE_EXHAUSTED: Bandwidth exhausted or memory', 'unreachable'],
    [12, 'GRPCNotImplementedError', '12 UNIMPLEMENTED: Received HTTP status code 404', 'other'],
    [13, 'GRPCInternalError', `13 INTERNAL: ${RST} 0 (Call ended without gRPC status)`, 'unreachable'],
    [13, 'GRPCInternalError', `13 INTERNAL: ${RST} 2 (Internal server error)`, 'unreachable'],
    [
      13,
      'GRPCInternalError',
      `13 INTERNAL: ${RST} 2 triggered by internal client error: read ECONNABORTED`,
      'unreachable',
    ],
    [13, 'GRPCInternalError', `13 INTERNAL: ${RST} 11`, 'unreachable'],
    [13, 'GRPCInternalError', '13 INTERNAL: Received HTTP status code 400', 'unreachable'],
    [13, 'GRPCInternalError', '13 INTERNAL: Response message parsing error: x', 'unreachable'],
    [13, 'GRPCInternalError', '13 INTERNAL: etcdserver: something of its own', 'other'],
    [15, 'GRPCDataLossError', '15 DATA_LOSS: stream truncated', 'unreachable'],
    [15, 'GRPCDataLossError', '15 DATA_LOSS: etcdserver: corrupt cluster', 'other'],
    [14, 'GRPCUnavailableError', '14 UNAVAILABLE: read ECONNRESET', 'unreachable'],
    [NaN, 'Error', 'connect EHOSTUNREACH 192.0.2.1:2379', 'unreachable'],
    [NaN, 'Error', 'write EPIPE', 'unreachable'],
  ];
  for (const [code, className, text, kind] of cases) {
    const named = class extends Error {
      static override readonly name: string = className;
    };
    t.equal(toFault(new named(text), 'a', 'b').kind, kind, `class: ${text}`);
    t.equal(toFault(Object.assign(new Error(text), { code }), 'a', 'b').kind, kind, `stream: ${text}`);
    if (kind === 'unreachable') t.ok(toFault(new named(text), 'a', 'b').isUncertain);
  }
  t.end();
});

t.test('toFault() shortens the text and leaves an EtcdFault alone', (t) => {
  const fault = new EtcdFault('closed', 'x');
  t.equal(toFault(fault, 'a', 'b'), fault);
  t.ok(toFault(new Error('x'.repeat(5000)), 'a', 'b').message.length < 400);
  t.equal(
    toFault(new Error('SSL alert number 42 (2026-11-21T02:14:29.687Z)'), 'a', 'b').message,
    'a at b: SSL alert number 42',
  );
  t.equal(toFault('text', 'a', 'b').message, 'a at b: text');
  t.end();
});
