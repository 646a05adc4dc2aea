import t from 'tap';
import { compareAge, compareRecency, leaseBackend, sameHost } from '../../../src/lease/lease.js';
import { parseIpv6 } from '../../../src/net/ipv6.js';
import { hostOf, type HostWords, leaseOf } from '../../support/leases.js';

t.test('sameHost() compares what is published, however it is spelt', (t) => {
  const base = { publicIp: '172.20.0.1', backendType: 'vxlan' };
  const rows: [HostWords, HostWords, boolean][] = [
    [base, base, true],
    [base, { ...base, publicIp: '172.20.0.2' }, false],
    [base, { ...base, backendType: '' }, false],
    [base, { ...base, backendData: null }, false],
    [base, { ...base, backendData: {} }, false],
    [
      { ...base, backendData: { a: 1, b: [1, { c: 2 }] } },
      { ...base, backendData: { b: [1, { c: 2 }], a: 1 } },
      true,
    ],
    [{ ...base, backendData: { a: 1, b: [1, 2] } }, { ...base, backendData: { a: 1, b: [2, 1] } }, false],
    [{ ...base, backendData: { a: 1 } }, { ...base, backendData: { a: 1, b: undefined } }, false],
    [{ ...base, backendData: { a: 1, b: 2 } }, { ...base, backendData: { a: 1, c: 2 } }, false],
    [{ ...base, backendData: [] }, { ...base, backendData: {} }, false],
    [{ ...base, backendData: 'x' }, { ...base, backendData: 'x' }, true],
  ];
  for (const [a, b, expected] of rows) {
    const what = `${JSON.stringify(a)} and ${JSON.stringify(b)}`;
    t.equal(sameHost(hostOf(a), hostOf(b)), expected, what);
    t.equal(sameHost(hostOf(b), hostOf(a)), expected, what);
  }
  const host = hostOf(base);
  const dual = { ...host, publicIp: { ...host.publicIp, v6: parseIpv6('2001:db8::1')! } };
  t.notOk(sameHost(host, dual), 'another family');
  t.ok(sameHost({ ...dual, publicIp: { ...host.publicIp, v6: parseIpv6('2001:db8:0::1')! } }, dual));
  t.end();
});

t.test('leaseBackend() without data is one object for all hosts of a type', (t) => {
  t.equal(leaseBackend(''), leaseBackend(''));
  t.equal(leaseBackend('host-gw'), leaseBackend('host-gw'));
  t.same(leaseBackend('host-gw'), { type: 'host-gw', data: { v4: undefined } });
  t.same(leaseBackend('vxlan', { VNI: 1 }), { type: 'vxlan', data: { v4: { VNI: 1 } } });
  t.end();
});

t.test('compareAge() and compareRecency()', (t) => {
  const at = (id: string, created?: bigint, written?: bigint) =>
    leaseOf({
      subnet: '10.5.1.0/24',
      publicIp: '172.20.0.1',
      id,
      ...(created && { created }),
      ...(written && { written }),
    });
  t.ok(compareAge(at('b', 1n, 9n), at('a', 2n, 3n)) < 0);
  t.ok(compareAge(at('a', 1n), at('b', 1n)) < 0, 'the same for every host');
  t.ok(compareAge(at('b'), at('a', 1n)) < 0, 'no order: the elder');
  t.ok(compareRecency(at('b', 1n, 9n), at('a', 2n, 3n)) < 0);
  t.equal(compareRecency(at('b'), at('a')), 0);
  t.end();
});
