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
        '14 UNAVAILABLE: No connection established. Last error: unable to verify the first certificate. Resolution note: ',
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
