// The vxlan mode on a kernel in memory: device, neighbours, FDB entries and routes.

import t from 'tap';
import { leaseBackend } from '../../../../src/lease/lease.js';
import { formatPrefix, parsePrefix } from '../../../../src/net/prefix.js';
import { codesOf, textsOf } from '../../../support/conditions.js';
import { type KernelHost, openHost, turnsUntil } from '../../../support/fake-kernel-host.js';
import { addressesAtDeletions, FakeKernel } from '../../../support/fake-kernel.js';
import { leaseOf } from '../../../support/leases.js';

const NETWORK = parsePrefix('10.5.0.0/16')!;
const OWN = parsePrefix('10.5.1.0/24')!;

const configOf = (more: Record<string, unknown> = {}): string =>
  JSON.stringify({ Network: '10.5.0.0/16', Backend: { Type: 'vxlan', ...more } });

function peer(number: number, more: { mac?: string; publicIp?: string; written?: bigint } = {}) {
  const { mac = `02:00:00:00:00:0${number}`, publicIp = `192.0.2.${number}`, written = 1n } = more;
  const backendData = { VNI: 1, VtepMAC: mac };
  return leaseOf({
    subnet: `10.5.${number}.0/24`,
    publicIp,
    backendType: 'vxlan',
    backendData,
    created: 1n,
    written,
  });
}

async function start(host: KernelHost) {
  const { data } = await host.backend.publish();
  await host.backend.start({ v4: OWN });
  const apply = (diff: Partial<Parameters<typeof host.backend.apply>[0]>): void =>
    host.backend.apply({ added: [], changed: [], removed: [], ...diff });
  const states = () =>
    host.backend
      .peerStatus()
      .map(({ state }) => state)
      .join();
  return { ...host, mac: (data.v4 as { VtepMAC: string }).VtepMAC, apply, states };
}

const tunnel = (
  number: number,
  mac = `02:00:00:00:00:0${number}`,
  publicIp = `192.0.2.${number}`,
): string[] => [
  `10.5.${number}.0/24 via 10.5.${number}.0 dev flannel.1 proto 94`,
  `fdb ${mac} ${publicIp} dev flannel.1`,
  `neigh 10.5.${number}.0 ${mac} dev flannel.1`,
];

t.test('device, address and what a peer needs', async (t) => {
  const { kernel, backend, mac, apply, states } = await start(await openHost({ config: configOf() }));
  t.match(kernel.link('flannel.1'), {
    kind: 'vxlan',
    mac,
    mtuBytes: 1450,
    isUp: true,
    alias: 'twill 10.5.0.0/16',
    data: { id: 1, link: 'eth0', local: '192.0.2.1', port: 8472, learning: false },
    addresses: [{ address: OWN.address, length: 32 }],
  });
  apply({ added: [peer(2), peer(3)] });
  await turnsUntil(() => states() === 'programmed,programmed', 'both');
  t.strictSame(kernel.shown(NETWORK), [...tunnel(2), ...tunnel(3)].sort());
  t.equal(backend.echoTarget(peer(2), backend.waysTo(peer(2))[0]), parsePrefix('10.5.2.0/24')!.address);
  apply({ removed: [peer(2)] });
  await turnsUntil(() => kernel.shown(NETWORK).length === 3, 'one to go');
  t.strictSame(kernel.shown(NETWORK), tunnel(3).sort());
  t.strictSame(textsOf(backend), []);
  await backend.close();
  t.ok(kernel.link('flannel.1'), 'it stays at the end');
});

t.test('a device that has to be made gets the MAC that the last run published', async (t) => {
  const macOf = async (type: string, data: unknown): Promise<string> => {
    const formerBackend = leaseBackend(type, data);
    const { backend, mac } = await start(await openHost({ config: configOf(), formerBackend }));
    await backend.close();
    return mac;
  };
  const former = '12:ea:85:08:6b:a4';
  const derived = await macOf('vxlan', undefined);
  t.equal(await macOf('vxlan', { VNI: 1, VtepMAC: former }), former);
  t.equal(await macOf('vxlan', { VtepMAC: former }), former);
  for (const [type, data] of [
    ['host-gw', { VNI: 1, VtepMAC: former }],
    ['vxlan', { VNI: 2, VtepMAC: former }],
    ['vxlan', { VNI: 1, VtepMAC: '01:00:00:00:00:00' }],
    ['vxlan', { VNI: 1, VtepMAC: 'x' }],
  ] as const)
    t.equal(await macOf(type, data), derived);
});

t.test('the address of another subnet is there before the former one goes', async (t) => {
  const { kernel, backend } = await start(await openHost({ config: configOf() }));
  await backend.close();
  const left = addressesAtDeletions(kernel);
  const next = await openHost({ config: configOf(), kernel });
  await next.backend.publish();
  await next.backend.start({ v4: parsePrefix('10.5.9.0/24')! });
  t.strictSame(left, ['10.5.1.0/32 10.5.9.0/32']);
  t.strictSame(kernel.link('flannel.1')?.addresses.map(formatPrefix), ['10.5.9.0/32']);
  await next.backend.close();
});

t.test('of two leases with one MAC the one written last has it', async (t) => {
  const { kernel, backend, apply, states } = await start(await openHost({ config: configOf() }));
  const mac = '02:00:00:00:00:77';
  apply({ added: [peer(2, { mac, written: 5n })] });
  await turnsUntil(() => states() === 'programmed', 'the first');
  apply({ added: [peer(3, { mac, written: 9n })] });
  await turnsUntil(() => states() === 'refused,programmed', 'the later one');
  t.strictSame(kernel.shown(NETWORK), tunnel(3, mac).sort());
  t.match(textsOf(backend), [
    /^peer 10\.5\.2\.0\/24 publishes VtepMAC .*, which was published later by 10\.5\.3\.0\/24/,
  ]);
  apply({ removed: [peer(3, { mac, written: 9n })] });
  await turnsUntil(() => states() === 'programmed', 'the first again');
  t.strictSame(kernel.shown(NETWORK), tunnel(2, mac).sort());
  await backend.close();
});

t.test('a peer that moves keeps its route, and its old entry goes after the new one came', async (t) => {
  const { kernel, backend, apply, states } = await start(await openHost({ config: configOf() }));
  apply({ added: [peer(2)] });
  await turnsUntil(() => states() === 'programmed', 'the peer');
  kernel.performed.length = 0;
  apply({ changed: [peer(2, { mac: '02:00:00:00:00:22', publicIp: '192.0.2.22', written: 2n })] });
  await turnsUntil(() => kernel.performed.length >= 3, 'the move');
  await turnsUntil(() => states() === 'programmed', 'the end');
  t.strictSame(kernel.shown(NETWORK), tunnel(2, '02:00:00:00:00:22', '192.0.2.22').sort());
  t.strictSame(kernel.performed.map((line) => line.split(' ').slice(0, 2).join(' ')).sort(), [
    'fdb del',
    'fdb replace',
    'neigh replace',
  ]);
  t.equal(kernel.performed.at(-1)!.startsWith('fdb del'), true);
  await backend.close();
});

t.test('leases that cannot be used are refused with their reason', async (t) => {
  const { backend, mac, apply } = await start(await openHost({ config: configOf() }));
  apply({
    added: [
      leaseOf({ subnet: '10.5.2.0/24', publicIp: '192.0.2.2' }),
      leaseOf({ subnet: '10.5.3.0/24', publicIp: '192.0.2.3', backendType: 'vxlan' }),
      peer(4, { mac }),
    ],
  });
  await turnsUntil(() => textsOf(backend).length === 2, 'refusals');
  t.strictSame(codesOf(backend).sort(), ['peer-invalid', 'peer-other-type']);
  await backend.close();
});

t.test(
  'with DirectRouting a peer on the link gets a plain route, one behind a router the tunnel',
  async (t) => {
    const kernel = new FakeKernel();
    kernel.addLink('eth0', '192.0.2.1/24');
    kernel.addRoute({
      prefix: parsePrefix('198.51.100.0/24')!,
      gateway: peer(9, { publicIp: '192.0.2.254' }).host.publicIp.v4,
      device: 'eth0',
      protocol: 3,
    });
    const host = await start(await openHost({ config: configOf({ DirectRouting: true }), kernel }));
    host.apply({ added: [peer(2), peer(3, { publicIp: '198.51.100.3' })] });
    await turnsUntil(() => host.states() === 'programmed,programmed', 'both');
    const direct = '10.5.2.0/24 via 192.0.2.2 dev eth0 proto 94';
    t.strictSame(kernel.shown(NETWORK), [direct, ...tunnel(3, undefined, '198.51.100.3')].sort());
    t.match(host.backend.peerStatus(), [
      { isDirect: true },
      { isDirect: false, vtepMac: '02:00:00:00:00:03' },
    ]);
    await host.backend.close();
  },
);

t.test('a device that fits is taken over with its MAC; one of another network is not', async (t) => {
  const kernel = new FakeKernel();
  kernel.addLink('eth0', '192.0.2.1/24');
  const make = (mac: string): Promise<void> =>
    kernel.links.create('flannel.1', [
      ...['mtu', '1450', 'address', mac, 'type', 'vxlan', 'id', '1', 'dev', 'eth0'],
      ...['local', '192.0.2.1', 'nolearning', 'dstport', '8472'],
    ]);
  await make('02:11:22:33:44:55');
  const { index } = kernel.link('flannel.1')!;
  const host = await start(await openHost({ config: configOf(), kernel }));
  t.equal(host.mac, '02:11:22:33:44:55');
  t.equal(kernel.link('flannel.1')?.index, index, 'the same device');
  await host.backend.close();
  await kernel.links.set('flannel.1', { alias: 'twill 10.9.0.0/16' });
  const { backend } = await openHost({ config: configOf(), kernel });
  await t.rejects(backend.publish(), { code: 'E_KERNEL', message: /carries network 10\.9\.0\.0\/16/ });
  await backend.close();
});

t.test('a device that cannot be changed is replaced only when the next one stands', async (t) => {
  const kernel = new FakeKernel();
  kernel.addLink('eth0', '192.0.2.1/24');
  const first = await start(await openHost({ config: configOf({ Port: 4789 }), kernel }));
  await first.backend.close();
  const before = kernel.link('flannel.1')!;
  const events: string[] = [];
  const create = kernel.links.create.bind(kernel.links);
  const remove = kernel.links.delete.bind(kernel.links);
  kernel.links.create = (name, words) => {
    events.push(`create ${name}`);
    return create(name, words);
  };
  kernel.links.delete = (name) => {
    events.push(`delete ${name}`);
    return remove(name);
  };
  const second = await start(await openHost({ config: configOf(), kernel }));
  t.strictSame(events, ['create flnew.1', 'delete flannel.1']);
  t.match(kernel.link('flannel.1'), { mac: before.mac, data: { port: 8472 } });
  t.not(kernel.link('flannel.1')?.index, before.index);
  await second.backend.close();
});

t.test('a device that is deleted is made again with its MAC, and so is all that was on it', async (t) => {
  const { kernel, backend, mac, apply, states } = await start(await openHost({ config: configOf() }));
  apply({ added: [peer(2)] });
  await turnsUntil(() => states() === 'programmed', 'the peer');
  kernel.removeLink('flannel.1');
  await backend.reconcile();
  t.equal(kernel.link('flannel.1')?.mac, mac);
  t.strictSame(kernel.shown(NETWORK), tunnel(2).sort());
  const repairs = backend.metrics().find(({ name }) => name === 'kernel_repairs_total')!;
  t.ok(repairs.values.some(({ labels, value }) => labels['object'] === 'device' && value === 1));
  await backend.close();
});

t.test('a rename of the uplink changes nothing; its end leaves the device alone', async (t) => {
  const { kernel, backend, apply, states } = await start(await openHost({ config: configOf() }));
  apply({ added: [peer(2)] });
  await turnsUntil(() => states() === 'programmed', 'the peer');
  const { index } = kernel.link('flannel.1')!;
  kernel.renameLink('eth0', 'wan0');
  await kernel.links.change('flannel.1', ['dev', 'wan0']); // the kernel shows the name it has now
  await backend.reconcile();
  t.equal(kernel.link('flannel.1')?.index, index);
  t.strictSame(kernel.shown(NETWORK), tunnel(2).sort());
  t.strictSame(textsOf(backend), []);
  await backend.close();
});
