// What the delegate's CHECK gets of an ADD's result.

import t, { type Test } from 'tap';
import { cniSandbox } from '../../support/cni-plugin.js';

/** A container that was added: what its delegate is told at CHECK for a `prevResult`. */
function checker(t: Test): (prevResult: unknown) => unknown {
  const { config, run, got } = cniSandbox(t);
  run('ADD');
  return (prevResult) => {
    t.match(run('CHECK', { ...config, prevResult }), { code: 0 });
    return (got('CHECK') as { readonly prevResult?: unknown }).prevResult;
  };
}

const IPS = [
  { address: '10.5.1.2/24' },
  { address: '10.5.1.2/24', gateway: '10.5.1.1' },
  { address: '10.5.9.2/24', gateway: '10.5.9.1' },
  { address: 'fd00::2/64', gateway: 'fd00::1' },
];

function check(t: Test, cases: readonly (readonly [given: unknown, expected: unknown])[]): void {
  const told = checker(t);
  for (const [given, expected] of cases) {
    t.same(told({ ips: IPS, routes: [given], dns: {} }), { ips: IPS, routes: [expected], dns: {} });
  }
}

t.test('CHECK gives a route the first gateway of its family', (t) => {
  check(t, [
    [{ dst: '10.5.0.0/16' }, { dst: '10.5.0.0/16', gw: '10.5.1.1' }],
    [
      { dst: '10.5.0.0/16', gw: null },
      { dst: '10.5.0.0/16', gw: '10.5.1.1' },
    ],
    [
      { dst: 'fd00::/48', gw: '' },
      { dst: 'fd00::/48', gw: 'fd00::1' },
    ],
    [
      { dst: '0.0.0.0/0', gw: '10.5.1.9' },
      { dst: '0.0.0.0/0', gw: '10.5.1.9' },
    ],
  ]);
  t.end();
});

t.test('CHECK leaves alone what it cannot complete, or what is no result', (t) => {
  check(t, [
    ['text', 'text'],
    [{ gw: '10.5.1.1' }, { gw: '10.5.1.1' }],
  ]);
  const told = checker(t);
  const bare = { routes: [{ dst: '10.5.0.0/16' }], ips: 'none' };
  for (const value of [undefined, null, 'text', [], {}, { routes: null }, { routes: [] }, bare])
    t.same(told(value), value);
  t.end();
});
