import t from 'tap';
import { composeDelegate } from '../../../src/cni/delegate-config.js';
import { readConfiguration } from '../../../src/cni/request.js';
import { parseSubnetEnv } from '../../../src/cni/subnet-env.js';

const ENV = parseSubnetEnv(
  'FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.17.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n',
  'subnet.env',
);

function compose(config: object, env = ENV): unknown {
  return composeDelegate(readConfiguration(JSON.stringify(config)), env);
}

t.test('the smallest configuration becomes a bridge with host-local', (t) => {
  t.strictSame(compose({ name: 'cni-flannel', type: 'flannel' }), {
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
  const composed = compose({
    name: 'mynet',
    type: 'flannel',
    delegate: { bridge: 'mynet0', mtu: 1400 },
  });
  t.match(composed, { name: 'mynet', type: 'bridge', bridge: 'mynet0', mtu: 1400, isGateway: true });
  t.match(composed, { ipam: { ranges: [[{ subnet: '10.1.17.0/24' }]] } });
  t.end();
});

t.test('what the operator gives is kept, what is ours is not', (t) => {
  const composed = compose({
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
  t.notOk('isGateway' in (compose({ name: 'n', delegate: { type: 'macvlan' } }) as object));
  t.end();
});

t.test('the daemon masquerades or the bridge does', (t) => {
  const env = { ...ENV, ipMasq: false };
  t.match(compose({ name: 'n' }, env), { ipMasq: true });
  t.match(compose({ name: 'n' }, ENV), { ipMasq: false });
  t.end();
});

t.test('dual stack: a range and a route for each family', (t) => {
  const env = parseSubnetEnv(
    'FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.17.1/24\nFLANNEL_IPV6_NETWORK=2001:db8:0:0::/48\n' +
      'FLANNEL_IPV6_SUBNET=2001:db8:0:1ff::1/60\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n',
    'subnet.env',
  );
  t.match(compose({ name: 'n' }, env), {
    ipam: {
      ranges: [[{ subnet: '10.1.17.0/24' }], [{ subnet: '2001:db8:0:1f0::/60' }]],
      routes: [{ dst: '10.1.0.0/16' }, { dst: '2001:db8::/48' }],
    },
  });
  t.end();
});

t.test('a delegate must not set what only this plugin knows', (t) => {
  const cases: [object, RegExp][] = [
    [{ name: 'n', delegate: { name: 'x' } }, /must not have 'name'/],
    [{ name: 'n', delegate: { ipam: {} } }, /must not have 'ipam'/],
    [{ name: 'n', delegate: { type: 7 } }, /must have \(string\) 'type'/],
    [{ name: 'n', ipam: { routes: 'x' } }, /"ipam.routes" is "x"/],
  ];
  for (const [config, text] of cases) t.throws(() => compose(config), { code: 7, message: text });
  t.end();
});

t.test('subnet.env: what is missing or wrong is named', (t) => {
  const parse = (text: string): unknown => parseSubnetEnv(text, '/run/flannel/subnet.env');
  t.throws(() => parse('foo=bar'), {
    message:
      '/run/flannel/subnet.env is missing FLANNEL_NETWORK, FLANNEL_IPV6_NETWORK, ' +
      'FLANNEL_SUBNET, FLANNEL_IPV6_SUBNET, FLANNEL_MTU, FLANNEL_IPMASQ',
  });
  const good = {
    FLANNEL_NETWORK: '10.1.0.0/16,10.2.0.0/16,10.1.0.0/16',
    FLANNEL_SUBNET: '10.1.17.1/24',
    FLANNEL_MTU: '1472',
    FLANNEL_IPMASQ: 'false',
  };
  const text = (values: object): string =>
    Object.entries(values)
      .map(([key, value]) => `${key}=${value}`)
      .join('\n');
  t.match(parse(`\n${text(good)}\nOTHER=1\nFLANNEL_MTUX\n`), {
    networks: ['10.1.0.0/16', '10.2.0.0/16'],
    subnets: ['10.1.17.0/24'],
    ipMasq: false,
  });
  for (const [key, value] of Object.entries({
    FLANNEL_NETWORK: '10.1.0.0',
    FLANNEL_SUBNET: '10.1.17.300/24',
    FLANNEL_MTU: '14x',
    FLANNEL_IPV6_SUBNET: '2001:db8::/129',
  })) {
    t.throws(() => parse(text({ ...good, [key]: value })), { code: 7, message: `${key} is "${value}"` });
  }
  t.end();
});
