// What the delegate gets, by network configuration and subnet.env.

import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { cniSandbox } from '../../support/cni-plugin.js';

const ENV = {
  FLANNEL_NETWORK: '10.1.0.0/16',
  FLANNEL_SUBNET: '10.1.17.1/24',
  FLANNEL_MTU: '1472',
  FLANNEL_IPMASQ: 'true',
};

const linesOf = (env: object): string =>
  Object.entries(env)
    .map(([key, value]) => `${key}=${value}\n`)
    .join('');

interface Composed {
  /** What ADD keeps, and so what the delegate is run with; undefined when it was refused. */
  readonly delegate: unknown;
  readonly answer: unknown;
}

/** Runs ADD; where there is no delegate of that type, what was kept counts all the same. */
function composer(t: Test): (config: object, env?: object | string) => Composed {
  const { dir, config: working, run } = cniSandbox(t);
  return (config, env = ENV) => {
    writeFileSync(join(dir, 'subnet.env'), typeof env === 'string' ? env : linesOf(env));
    rmSync(join(dir, 'data/made'), { recursive: true, force: true });
    const { subnetFile, dataDir } = working;
    const { answer } = run('ADD', { subnetFile, dataDir, ...config });
    try {
      return { delegate: JSON.parse(readFileSync(join(dir, 'data/made/pod-1'), 'utf8')) as unknown, answer };
    } catch {
      return { delegate: undefined, answer };
    }
  };
}

t.test('the smallest configuration becomes a bridge with host-local', (t) => {
  const compose = composer(t);
  t.strictSame(compose({ name: 'cni-flannel', type: 'flannel' }).delegate, {
    name: 'cni-flannel',
    type: 'bridge',
    mtu: 1472,
    ipMasq: false,
    isGateway: true,
    ipam: {
      type: 'host-local',
      ranges: [[{ subnet: '10.1.17.0/24' }]],
      routes: [{ dst: '10.1.0.0/16' }],
    },
  });
  t.end();
});

t.test('the example of the documents: bridge and MTU of the operator', (t) => {
  const compose = composer(t);
  const { delegate: composed } = compose({
    name: 'mynet',
    type: 'flannel',
    delegate: { bridge: 'mynet0', mtu: 1400 },
  });
  t.match(composed, { name: 'mynet', type: 'bridge', bridge: 'mynet0', mtu: 1400, isGateway: true });
  t.match(composed, { ipam: { ranges: [[{ subnet: '10.1.17.0/24' }]] } });
  t.end();
});

t.test('what the operator gives is kept, what is ours is not', (t) => {
  const compose = composer(t);
  const { delegate: composed } = compose({
    cniVersion: '1.0.0',
    name: 'cbr0',
    type: 'flannel',
    runtimeConfig: { mac: '02:00:00:00:00:01' },
    delegate: {
      hairpinMode: true,
      isDefaultGateway: true,
      isGateway: false,
      ipMasq: true,
      cniVersion: '0.1.0',
    },
    ipam: { type: 'custom', dataDir: '/x', ranges: [], routes: [{ dst: '0.0.0.0/0', gw: '10.1.17.1' }] },
  });
  t.strictSame(composed, {
    cniVersion: '1.0.0',
    name: 'cbr0',
    type: 'bridge',
    runtimeConfig: { mac: '02:00:00:00:00:01' },
    hairpinMode: true,
    isDefaultGateway: true,
    isGateway: false,
    ipMasq: true,
    mtu: 1472,
    ipam: {
      type: 'custom',
      dataDir: '/x',
      ranges: [[{ subnet: '10.1.17.0/24' }]],
      routes: [{ dst: '0.0.0.0/0', gw: '10.1.17.1' }, { dst: '10.1.0.0/16' }],
    },
  });
  t.end();
});

t.test('another delegate gets no gateway', (t) => {
  const compose = composer(t);
  t.notOk('isGateway' in (compose({ name: 'n', delegate: { type: 'macvlan' } }).delegate as object));
  t.end();
});

t.test('the daemon masquerades or the bridge does', (t) => {
  const compose = composer(t);
  const of = (FLANNEL_IPMASQ: string): unknown => compose({ name: 'n' }, { ...ENV, FLANNEL_IPMASQ }).delegate;
  t.match(of('false'), { ipMasq: true });
  t.match(of('true'), { ipMasq: false });
  t.end();
});

t.test('dual stack: a range and a route for each family', (t) => {
  const compose = composer(t);
  const env = {
    ...ENV,
    FLANNEL_IPV6_NETWORK: '2001:db8:0:0::/48',
    FLANNEL_IPV6_SUBNET: '2001:db8:0:1ff::1/60',
  };
  t.match(compose({ name: 'n' }, env).delegate, {
    ipam: {
      ranges: [[{ subnet: '10.1.17.0/24' }], [{ subnet: '2001:db8:0:1f0::/60' }]],
      routes: [{ dst: '10.1.0.0/16' }, { dst: '2001:db8::/48' }],
    },
  });
  t.end();
});

t.test('IPv6 alone: its range and its networks, each once', (t) => {
  const compose = composer(t);
  const { FLANNEL_NETWORK, FLANNEL_SUBNET, ...rest } = ENV;
  t.ok(FLANNEL_NETWORK && FLANNEL_SUBNET);
  const env = {
    ...rest,
    FLANNEL_IPV6_NETWORK: 'fd00:1::/48,FD00:2::/48,fd00:1:0::/48',
    FLANNEL_IPV6_SUBNET: 'fd00:1:0:11::1/64',
  };
  t.match(compose({ name: 'n' }, env).delegate, {
    ipam: {
      ranges: [[{ subnet: 'fd00:1:0:11::/64' }]],
      routes: [{ dst: 'fd00:1::/48' }, { dst: 'fd00:2::/48' }],
    },
  });
  t.end();
});

t.test('a delegate must not set what only this plugin knows', (t) => {
  const compose = composer(t);
  const cases: [object, RegExp][] = [
    [{ name: 'n', delegate: { name: 'x' } }, /must not have 'name'/],
    [{ name: 'n', delegate: { ipam: {} } }, /must not have 'ipam'/],
    [{ name: 'n', delegate: { type: 7 } }, /must have \(string\) 'type'/],
    [{ name: 'n', ipam: { routes: 'x' } }, /"ipam.routes" is "x"/],
  ];
  for (const [config, msg] of cases)
    t.match(compose(config), { delegate: undefined, answer: { code: 7, msg } });
  t.end();
});

t.test('subnet.env: what is missing or wrong is named', (t) => {
  const compose = composer(t);
  const all =
    'FLANNEL_NETWORK, FLANNEL_IPV6_NETWORK, FLANNEL_SUBNET, FLANNEL_IPV6_SUBNET, FLANNEL_MTU, FLANNEL_IPMASQ';
  t.match(compose({ name: 'n' }, 'foo=bar').answer, {
    code: 7,
    msg: new RegExp(`/subnet\\.env is missing ${all}$`),
  });
  const good = { ...ENV, FLANNEL_NETWORK: '10.1.0.0/16,10.2.0.0/16,10.1.0.0/16', FLANNEL_IPMASQ: 'false' };
  t.match(compose({ name: 'n' }, `\n${linesOf(good)}OTHER=1\nFLANNEL_MTUX\n`).delegate, {
    ipMasq: true,
    mtu: 1472,
    ipam: {
      ranges: [[{ subnet: '10.1.17.0/24' }]],
      routes: [{ dst: '10.1.0.0/16' }, { dst: '10.2.0.0/16' }],
    },
  });
  for (const [key, value] of Object.entries({
    FLANNEL_NETWORK: '10.1.0.0',
    FLANNEL_SUBNET: '10.1.17.300/24',
    FLANNEL_MTU: '14x',
    FLANNEL_IPV6_SUBNET: '2001:db8::/129',
  })) {
    const { delegate, answer } = compose({ name: 'n' }, { ...good, [key]: value });
    t.equal(delegate, undefined);
    t.match(answer, { code: 7, msg: `${key} is "${value}"` });
  }
  t.end();
});
