// The host-gw mode on a kernel in memory.

import t from 'tap';
import { parseIpv6 } from '../../../../src/net/ipv6.js';
import { formatAddress, parsePrefix } from '../../../../src/net/prefix.js';
import { codesOf, textsOf } from '../../../support/conditions.js';
import { openHost, turnsUntil } from '../../../support/fake-kernel-host.js';
import { leaseOf, prefixesOf } from '../../../support/leases.js';

const CONFIG = '{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"}}';
const NETWORK = parsePrefix('10.5.0.0/16')!;
const OWN = parsePrefix('10.5.1.0/24')!;

const peer = (number: number, publicIp = `192.0.2.${number}`, backendType = 'host-gw') =>
  leaseOf({ subnet: `10.5.${number}.0/24`, publicIp, backendType });

async function started() {
  const host = await openHost({ config: CONFIG });
  t.strictSame((await host.backend.publish()).type, 'host-gw');
  const { mtuBytes } = await host.backend.start({ v4: OWN });
  t.equal(mtuBytes, 1500);
  const apply = (...added: ReturnType<typeof peer>[]): void =>
    host.backend.apply({ added, changed: [], removed: [] });
  const stateOf = (id: string) => host.backend.peerStatus().find((one) => one.id === id)?.state;
  return { ...host, apply, stateOf };
}

t.test('a peer on the link is a gateway, and an echo goes to it', async (t) => {
  const { kernel, backend, apply, stateOf, sweeps } = await started();
  apply(peer(2));
  await turnsUntil(() => stateOf('10.5.2.0-24') === 'programmed', 'the route');
  t.strictSame(kernel.shown(NETWORK), ['10.5.2.0/24 via 192.0.2.2 dev eth0 proto 94']);
  const [way, ...others] = backend.waysTo(peer(2));
  t.strictSame([formatAddress(way), others], ['192.0.2.2', []]);
  t.equal(backend.echoTarget(peer(2), way), way);
  t.match(backend.status(), { type: 'host-gw', interface: 'eth0' });
  t.match(backend.peerStatus(), [{ device: 'eth0', isDirect: true }]);
  await turnsUntil(() => sweeps() === 1, 'leftovers of other modes');
  t.strictSame(textsOf(backend), []);
  await backend.close();
  t.equal(kernel.shown(NETWORK).length, 1, 'routes stay at the end');
});

t.test('peers that cannot be gateways are refused, each with its reason', async (t) => {
  const { kernel, backend, apply } = await started();
  kernel.addRoute({
    prefix: parsePrefix('198.51.100.0/24')!,
    gateway: leaseOf({ subnet: '10.5.9.0/24', publicIp: '192.0.2.254' }).host.publicIp.v4,
    device: 'eth0',
    protocol: 3,
  });
  apply(
    peer(2, '198.51.100.2'),
    peer(3, '203.0.113.3'),
    peer(4, '192.0.2.4', 'vxlan'),
    peer(5, '192.0.2.1'),
    peer(6),
  );
  await turnsUntil(() => textsOf(backend).length === 3, 'refusals');
  t.strictSame(codesOf(backend).sort(), ['peer-invalid', 'peer-off-link', 'peer-other-type']);
  const texts = textsOf(backend).join('\n');
  t.match(texts, 'is behind router 192.0.2.254');
  t.match(texts, 'has no route to 203.0.113.3');
  t.match(texts, 'uses backend "vxlan"');
  t.match(texts, "this host's own address 192.0.2.1");
  t.strictSame(kernel.shown(NETWORK), ['10.5.6.0/24 via 192.0.2.6 dev eth0 proto 94']);
  t.equal(backend.echoTarget(peer(2), backend.waysTo(peer(2))[0]), undefined);
  await backend.close();
});

t.test('a rename of the interface is followed, and its end removes no route', async (t) => {
  const { kernel, backend, apply, stateOf } = await started();
  apply(peer(2));
  await turnsUntil(() => stateOf('10.5.2.0-24') === 'programmed', 'the route');
  kernel.renameLink('eth0', 'wan0');
  await backend.reconcile();
  t.strictSame(kernel.shown(NETWORK), ['10.5.2.0/24 via 192.0.2.2 dev wan0 proto 94']);
  t.match(backend.status(), { interface: 'wan0' });
  kernel.performed.length = 0;
  kernel.removeLink('wan0');
  await backend.reconcile();
  t.strictSame(kernel.performed, []);
  t.match(textsOf(backend)[0], /interface "wan0" is gone/);
  await backend.close();
});

t.test('a rename in the middle of a comparison removes no route', async (t) => {
  const { kernel, backend, apply, stateOf } = await started();
  apply(peer(2));
  await turnsUntil(() => stateOf('10.5.2.0-24') === 'programmed', 'the route');
  kernel.performed.length = 0;
  const lookup = kernel.lookup.routes.bind(kernel.lookup);
  let isRenamed = false;
  kernel.lookup.routes = (destinations, options) => {
    if (!isRenamed) kernel.renameLink('eth0', 'wan0');
    isRenamed = true;
    return lookup(destinations, options);
  };
  await backend.reconcile();
  t.strictSame(kernel.performed, []);
  t.strictSame(kernel.shown(NETWORK), ['10.5.2.0/24 via 192.0.2.2 dev wan0 proto 94']);
  t.strictSame(textsOf(backend), []);
  await backend.close();
});

t.test('behind NAT it does not start, and says so when NAT comes later', async (t) => {
  await t.rejects(openHost({ config: CONFIG, publicIp: '203.0.113.1' }), {
    code: 'E_BACKEND',
    message: /cannot work behind NAT: public IP 203\.0\.113\.1 differs from 192\.0\.2\.1/,
  });
  const { backend, context } = await started();
  const { publicIp } = peer(2, '203.0.113.1').host;
  await backend.underlayChanged({ ...context.iface, publicIp });
  t.strictSame(codesOf(backend), ['public-ip-nat']);
  await backend.close();
});

t.test('unknown keys of the Backend object are warned of', async (t) => {
  const { log, backend } = await openHost({
    config: '{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw","Prot":1}}',
  });
  t.match(log.join(), /unknown keys in Backend ignored/);
  await backend.close();
});

t.test('a dual-stack network has routes of both families, each judged by itself', async (t) => {
  const host = await openHost({
    config: CONFIG,
    networks: '10.5.0.0/16&fd00:5::/48',
    address: '192.0.2.1&fd00:99::1',
  });
  const { kernel, backend } = host;
  kernel.addRoute({
    prefix: parsePrefix('::/0', 6)!,
    gateway: parseIpv6('fd00:99::254')!,
    device: 'eth0',
    protocol: 3,
  });
  await backend.publish();
  const { mtuBytes } = await backend.start(prefixesOf('10.5.1.0/24&fd00:5:0:1::/64'));
  t.equal(mtuBytes, 1500);
  const both = (number: number, publicIp: string) =>
    leaseOf({
      subnet: `10.5.${number}.0/24&fd00:5:0:${number}::/64`,
      publicIp,
      backendType: 'host-gw',
    });
  const added = [
    both(2, '192.0.2.2&fd00:99::2'),
    both(3, '192.0.2.3&fd00:98::3'),
    both(4, '192.0.2.4&fd00:99::1'),
    leaseOf({ subnet: 'fd00:5:0:5::/64', publicIp: 'fd00:99::5', backendType: 'host-gw' }),
  ];
  backend.apply({ added, changed: [], removed: [] });
  const states = () => backend.peerStatus().map(({ state }) => state);
  await turnsUntil(() => !states().includes('waiting'), 'the peers');
  t.strictSame(states(), ['programmed', 'refused', 'refused', 'programmed']);
  const targets = added.map((peer) =>
    backend.waysTo(peer).map((way) => [formatAddress(way), backend.echoTarget(peer, way) === way].join(' ')),
  );
  t.strictSame(targets, [
    ['192.0.2.2 true', 'fd00:99::2 true'],
    ['192.0.2.3 true', 'fd00:98::3 false'],
    ['192.0.2.4 true', 'fd00:99::1 false'],
    ['fd00:99::5 true'],
  ]);
  t.match(backend.peerStatus()[0], { device: 'eth0', devices: { v4: 'eth0', v6: 'eth0' }, isDirect: true });
  t.strictSame(kernel.shown(parsePrefix('10.5.0.0/16')!), [
    '10.5.2.0/24 via 192.0.2.2 dev eth0 proto 94',
    '10.5.3.0/24 via 192.0.2.3 dev eth0 proto 94',
    '10.5.4.0/24 via 192.0.2.4 dev eth0 proto 94',
  ]);
  t.strictSame(kernel.shown(parsePrefix('fd00:5::/48', 6)!), [
    'fd00:5:0:2::/64 via fd00:99::2 dev eth0 proto 94',
    'fd00:5:0:5::/64 via fd00:99::5 dev eth0 proto 94',
  ]);
  t.match(textsOf(backend), [
    /^peer fd00:5:0:3::\/64 cannot be a gateway: fd00:98::3 is behind router fd00:99::254/,
    /^peer fd00:5:0:4::\/64 has this host's own address fd00:99::1 as public IP/,
  ]);
  await backend.close();
});
