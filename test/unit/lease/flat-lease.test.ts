import t from 'tap';
import { flatLease } from '../../../src/lease/flat-lease.js';
import { sameHost } from '../../../src/lease/lease.js';
import { leaseOf } from '../../support/leases.js';

t.test('flatLease() says what the same lease in nested objects says', (t) => {
  const words = { subnet: '200.5.1.0/24', publicIp: '172.20.0.1', created: 5n, written: 9n };
  for (const backend of [{}, { backendType: 'host-gw' }, { backendType: 'vxlan', backendData: { VNI: 1 } }]) {
    const nested = leaseOf({ ...words, ...backend });
    const flat = flatLease(nested.id, nested.subnets, nested.host, nested.seniority!);
    t.same(flat.subnets, nested.subnets);
    const { id, subnets, host, seniority } = flat;
    t.strictSame({ id, subnets, host, seniority }, { ...nested });
    t.ok(sameHost(flat.host, nested.host));
    flat.seniority = { created: 5n, written: 10n };
    t.strictSame(flat.seniority, { created: 5n, written: 10n }, 'a renewal moves it in place');
  }
  t.end();
});
