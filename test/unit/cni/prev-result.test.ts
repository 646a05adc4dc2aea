import t, { type Test } from 'tap';
import { withGateways } from '../../../src/cni/prev-result.js';

const check = (t: Test, routes: readonly unknown[], expected: readonly unknown[]): void => {
  const ips = [
    { address: '10.5.1.2/24' },
    { address: '10.5.1.2/24', gateway: '10.5.1.1' },
    { address: '10.5.9.2/24', gateway: '10.5.9.1' },
    { address: 'fd00::2/64', gateway: 'fd00::1' },
  ];
  t.same(withGateways({ ips, routes, dns: {} }), { ips, routes: expected, dns: {} });
};

t.test('withGateways() gives a route the first gateway of its family', (t) => {
  check(t, [{ dst: '10.5.0.0/16' }], [{ dst: '10.5.0.0/16', gw: '10.5.1.1' }]);
  check(t, [{ dst: '10.5.0.0/16', gw: null }], [{ dst: '10.5.0.0/16', gw: '10.5.1.1' }]);
  check(t, [{ dst: 'fd00::/48', gw: '' }], [{ dst: 'fd00::/48', gw: 'fd00::1' }]);
  check(t, [{ dst: '0.0.0.0/0', gw: '10.5.1.9' }], [{ dst: '0.0.0.0/0', gw: '10.5.1.9' }]);
  t.end();
});

t.test('withGateways() leaves alone what it cannot complete, or what is no result', (t) => {
  check(t, [], []);
  check(t, ['text', { gw: '10.5.1.1' }], ['text', { gw: '10.5.1.1' }]);
  for (const value of [undefined, null, 'text', [], {}, { routes: null }]) t.same(withGateways(value), value);
  const bare = { routes: [{ dst: '10.5.0.0/16' }], ips: 'none' };
  t.same(withGateways(bare), bare);
  t.end();
});
