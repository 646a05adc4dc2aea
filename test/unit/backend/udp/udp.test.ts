// The udp mode on a kernel in memory, with a data path that carries nothing.

import t from 'tap';
import { FIRST_OPEN_MS } from '../../../../src/backend/udp/data-path.js';
import { PATH_MTU_TTL_MS } from '../../../../src/backend/udp/path-mtus.js';
import { OverlayError } from '../../../../src/core/errors.js';
import { parseIpv4 } from '../../../../src/net/ipv4.js';
import { formatPrefix, parsePrefix, prefixEquals } from '../../../../src/net/prefix.js';
import { codesOf, textsOf } from '../../../support/conditions.js';
import { turnsUntil } from '../../../support/fake-kernel-host.js';
import { addressesAtDeletions, FakeKernel } from '../../../support/fake-kernel.js';
import { leaseOf } from '../../../support/leases.js';
import { openUdp } from './udp-host.js';

const NETWORK = parsePrefix('10.5.0.0/16')!;
const OWN = parsePrefix('10.5.1.0/24')!;
const CONFIG = JSON.stringify({ Network: '10.5.0.0/16', Backend: { Type: 'udp' } });
const ROUTE = '10.5.0.0/16 dev flannel0 proto 3';

const peer = (number: number, publicIp = `192.0.2.${number}`, backendType = '') =>
  leaseOf({ subnet: `10.5.${number}.0/24`, publicIp, backendType });

const open = (kernel = new FakeKernel(), networks = [NETWORK]) =>
  openUdp({ config: CONFIG }, { kernel, networks });

async function start(kernel = new FakeKernel()) {
  const host = await open(kernel);
  await host.backend.publish();
  await host.backend.start({ v4: OWN });
  return host;
}

t.test('device, address and route', async (t) => {
  const { backend, kernel, dataplanes } = await start();
  t.match(kernel.link('flannel0'), {
    isUp: true,
    mtuBytes: 1472,
    txQueueLength: 2000,
    alias: 'twill 10.5.0.0/16 10.5.1.0/32',
    addresses: [{ address: OWN.address, length: 32 }],
  });
  t.strictSame(kernel.shown(NETWORK), [ROUTE]);
  t.equal(await kernel.settings.interfaceSysctl('ipv4', 'flannel0', 'rp_filter'), '2');
  t.match(dataplanes.current.options, { device: 'flannel0', port: 8285, own: { v4: OWN } });
  t.strictSame(codesOf(backend), []);
  await backend.close();
});

t.test('what is missing of the device is repaired, and counted', async (t) => {
  const { backend, kernel, dataplanes } = await start();
  await kernel.links.deleteAddress('flannel0', { address: OWN.address, length: 32 });
  await kernel.links.set('flannel0', { isUp: false });
  await backend.reconcile();
  t.match(kernel.link('flannel0'), { isUp: true, addresses: [{ address: OWN.address }] });
  t.strictSame(kernel.shown(NETWORK), [ROUTE]);
  const repairs = backend.metrics().find(({ name }) => name === 'kernel_repairs_total')?.values;
  t.strictSame(repairs?.map(({ labels, value }) => `${labels['object']} ${value}`).sort(), [
    'address 1',
    'device 1',
    'route 1',
  ]);
  t.equal(dataplanes.opened.length, 1);
  await backend.close();
});

t.test('the address of another subnet is there before the former one goes', async (t) => {
  const kernel = new FakeKernel();
  await (await start(kernel)).backend.close();
  const left = addressesAtDeletions(kernel);
  const { backend } = await open(kernel);
  await backend.publish();
  await backend.start({ v4: parsePrefix('10.5.9.0/24')! });
  t.strictSame(left, ['10.5.1.0/32 10.5.9.0/32']);
  const { alias, addresses } = kernel.link('flannel0')!;
  t.equal(alias, 'twill 10.5.0.0/16 10.5.9.0/32');
  t.strictSame(addresses.map(formatPrefix), ['10.5.9.0/32']);
  await backend.close();
});

t.test('the route of the former Network is gone once the device is ready', async (t) => {
  const kernel = new FakeKernel();
  const former = parsePrefix('10.9.0.0/16')!;
  const data = { type: 'tun', persist: true };
  kernel.addLink('flannel0', '10.9.1.0/32', { kind: 'tun', data, alias: 'twill 10.9.0.0/16 10.9.1.0/32' });
  kernel.addRoute({ prefix: former, device: 'flannel0', protocol: 3 });
  const { backend } = await open(kernel, [NETWORK, former]);
  await backend.publish();
  await backend.start({ v4: OWN });
  t.notOk(kernel.routes.some(({ prefix }) => prefixEquals(prefix, former)));
  t.strictSame(kernel.shown(NETWORK), [ROUTE]);
  await backend.close();
});

t.test('a device that somebody else made is left alone', async (t) => {
  const kernel = new FakeKernel();
  const data = { type: 'tun', persist: true };
  kernel.addLink('flannel0', '10.9.1.0/32', { kind: 'tun', data, alias: 'twill 10.9.0.0/16' });
  const { backend, dataplanes } = await start(kernel);
  t.equal(dataplanes.current.options.device, 'flannel1');
  t.equal(backend.status().device, 'flannel1');
  t.match(kernel.link('flannel0'), { alias: 'twill 10.9.0.0/16' });
  await backend.close();
});

t.test('a device for several queues is made anew, unless somebody reads it', async (t) => {
  for (const isRead of [false, true]) {
    const kernel = new FakeKernel();
    const data = { type: 'tun', persist: true, multi_queue: true };
    const alias = 'twill 10.5.0.0/16 10.5.1.0/32';
    const { index } = kernel.addLink('flannel0', undefined, { kind: 'tun', data, alias });
    if (isRead) kernel.readers.add('flannel0');
    const { backend } = await start(kernel);
    t.equal(kernel.link('flannel0')?.index === index, isRead);
    await backend.close();
  }
});

t.test('peers get rows, and are refused for reasons of this mode', async (t) => {
  const { backend, dataplanes, apply, states, sweeps } = await start();
  t.notOk(backend.echoTarget(peer(2)));
  t.equal(sweeps(), 0, 'nothing is swept before the first snapshot');
  await apply({ added: [peer(2), peer(3, '192.0.2.3', 'vxlan'), peer(4, '10.5.9.9')] });
  t.strictSame(states(), ['programmed', 'other_type', 'route_loop']);
  t.strictSame(textsOf(backend), [
    'lease 10.5.3.0/24: its host runs backend vxlan, not udp',
    'lease 10.5.4.0/24: public IP 10.5.9.9 is reached through flannel0 itself',
  ]);
  t.strictSame(codesOf(backend), ['peer-other-type', 'peer-route-loop']);
  const { table } = dataplanes.current.options;
  t.equal(table.size, 1);
  t.equal(backend.echoTarget(peer(2)), peer(2).subnets.v4!.address);
  t.notOk(backend.echoTarget(peer(4)));
  t.equal(sweeps(), 1);
  await apply({ changed: [peer(3)], removed: [peer(2)] });
  t.strictSame(states(), ['programmed', 'route_loop']);
  t.equal(table.size, 1);
  t.equal(sweeps(), 1, 'once is enough');
  await backend.close();
});

t.test("a public IP inside the Network is good while another's route leads there", async (t) => {
  const { backend, kernel, apply, states } = await start();
  const prefix = parsePrefix('10.5.9.0/24')!;
  kernel.addRoute({ prefix, device: 'eth0', protocol: 3 });
  await apply({ added: [peer(4, '10.5.9.9'), peer(9)] });
  t.strictSame(states(), ['programmed', 'programmed']);
  t.match(textsOf(backend), [/^peer 10\.5\.9\.0\/24 loses packets to another route/]);
  kernel.routes.splice(
    kernel.routes.findIndex((route) => route.prefix.address === prefix.address),
    1,
  );
  await backend.reconcile();
  t.strictSame(states(), ['route_loop', 'programmed'], 'looked up again');
  t.strictSame(codesOf(backend), ['peer-route-loop']);
  await backend.close();
});

t.test('peers that cannot be looked up at first get their rows with the next comparison', async (t) => {
  const kernel = new FakeKernel();
  const { backend, apply, states } = await start(kernel);
  const lookup = kernel.lookup.routes.bind(kernel.lookup);
  let isRefused = true;
  kernel.lookup.routes = (...words) =>
    isRefused ? Promise.reject(new OverlayError('E_KERNEL', 'out of memory')) : lookup(...words);
  const inside = peer(2, '10.5.9.9'); // only such a public IP is looked up
  await apply({ added: [inside] }).catch(() => undefined);
  t.strictSame(states(), ['waiting']);
  isRefused = false;
  await backend.reconcile();
  t.notSame(states(), ['waiting']);
  await backend.close();
});

t.test('the route of the Network is not taken from somebody else', async (t) => {
  const kernel = new FakeKernel();
  kernel.addLink('br0');
  kernel.addRoute({ prefix: NETWORK, device: 'br0', protocol: 3 });
  const { backend } = await start(kernel);
  t.strictSame(codesOf(backend), ['network-route']);
  t.strictSame(kernel.shown(NETWORK), ['10.5.0.0/16 dev br0 proto 3']);
  await backend.close();
});

t.test('a narrow path is kept for its time, and then tried at full size', async (t) => {
  const { backend, clock, dataplanes, apply } = await start();
  const address = parseIpv4('192.0.2.2')!;
  await apply({ added: [peer(2)] });
  const mtu = () => backend.peerStatus()[0].mtuBytes;
  dataplanes.current.options.onPathMtu({ peer: address, mtuBytes: 1372 });
  t.equal(mtu(), 1372);
  await clock.advance(PATH_MTU_TTL_MS - 2000);
  t.equal(mtu(), 1372);
  await clock.advance(3000);
  t.equal(mtu(), 1472);
  backend.pathMtuChanged(address, 1400);
  t.equal(mtu(), 1372, 'a probe counts the outer headers');
  dataplanes.current.pathMtus.set(address, 1300);
  backend.pathMtuChanged(address, 1500);
  t.equal(mtu(), 1300, 'what the kernel knows is narrower');
  await backend.underlayChanged({ ...(await open()).context.iface, mtuBytes: 1400 });
  t.equal(mtu(), 1372, 'another interface has other paths');
  await backend.close();
});

t.test('a device that is deleted is made again, and no counter falls', async (t) => {
  const { backend, kernel, dataplanes, apply, packetsIn } = await start();
  await apply({ added: [peer(2)] });
  const first = dataplanes.current;
  first.packetsIn = 7;
  const row = backend.peerStatus()[0].row!;
  first.rows.set([5, 500, 3, 300], 4 * row);
  t.strictSame(backend.peerPackets(peer(2)), [5, 3]);
  kernel.removeLink('flannel0');
  await backend.reconcile();
  await turnsUntil(() => dataplanes.opened.length === 2 && codesOf(backend).length === 0, 'a new data path');
  t.equal(first.closings, 1);
  t.match(kernel.link('flannel0'), { isUp: true, mtuBytes: 1472 });
  t.strictSame(kernel.shown(NETWORK), [ROUTE]);
  t.equal(packetsIn(), 7);
  t.strictSame(backend.peerPackets(peer(2)), [5, 3]);
  dataplanes.current.packetsIn = 2;
  dataplanes.current.rows.set([1, 100, 1, 100], 4 * row);
  t.equal(packetsIn(), 9);
  t.match(backend.peerStatus(), [{ packetsOut: 6, bytesOut: 600, packetsIn: 4, bytesIn: 400 }]);
  await backend.close();
  t.equal(packetsIn(), 9, 'closed');
});

t.test('peers with traffic are named, by the leases that have their rows', async (t) => {
  const { backend, dataplanes, apply } = await start();
  await apply({ added: [peer(2), peer(3)] });
  const second = (): string[] => Array.from({ length: 10 }, () => backend.takeBusyPeers()).flat();
  t.strictSame(second(), []);
  const row = backend.peerStatus().find(({ id }) => id === peer(3).id)!.row!;
  dataplanes.current.rows.set([50, 5000, 50, 5000], 4 * row);
  t.strictSame(second(), [peer(3).id]);
  await apply({ removed: [peer(3)] });
  t.strictSame(second(), [], 'nobody has the row');
  await backend.close();
  t.strictSame(second(), [], 'closed');
});

t.test('a data path that fails is opened again until that succeeds', async (t) => {
  const { backend, clock, dataplanes } = await start();
  dataplanes.refusal = new OverlayError('E_SOCKET', 'Cannot open UDP socket');
  dataplanes.current.options.onFailure('worker ended');
  t.strictSame(codesOf(backend), ['data-path-down'], 'at once');
  await clock.advance(0);
  t.strictSame(textsOf(backend), ['worker ended; Cannot open UDP socket']);
  t.equal(dataplanes.opened[0].closings, 1);
  dataplanes.refusal = undefined;
  await clock.advance(10_000);
  t.equal(dataplanes.opened.length, 2);
  t.strictSame(codesOf(backend), []);
  dataplanes.opened[0].options.onFailure('too late');
  await clock.advance(0);
  t.equal(dataplanes.opened.length, 2, 'the one that failed is closed already');
  await backend.close();
});

t.test('a worker that does not move for 3 s is told, and only a restart helps', async (t) => {
  const { backend, clock, dataplanes } = await start();
  await clock.advance(5000);
  t.ok(backend.isAlive());
  dataplanes.current.isBeating = false;
  await clock.advance(2000);
  t.strictSame(codesOf(backend), []);
  await clock.advance(3000);
  t.strictSame(codesOf(backend), ['worker-hung']);
  t.notOk(backend.isAlive());
  dataplanes.current.isBeating = true;
  await clock.advance(2000);
  t.strictSame(codesOf(backend), []);
  t.ok(backend.isAlive());
  await backend.close();
});

t.test('a data path that was never open is not down before its time', async (t) => {
  const { backend, clock, dataplanes } = await open();
  await backend.publish();
  let ready = (): void => undefined;
  dataplanes.ready = new Promise((resolve) => (ready = resolve));
  const started = backend.start({ v4: OWN });
  await clock.advance(FIRST_OPEN_MS - 1);
  t.strictSame(codesOf(backend), [], 'it is being opened');
  await clock.advance(1);
  t.strictSame(textsOf(backend), ['the data path did not open within 5 s']);
  ready();
  await started;
  t.strictSame(codesOf(backend), []);
  await backend.close();
  t.strictSame(textsOf(backend), ['the data path is closed']);
});

t.test('a first opening that fails is told at once, and leaves no half device', async (t) => {
  const { backend, kernel, dataplanes } = await open();
  await backend.publish();
  dataplanes.ready = Promise.reject(new OverlayError('E_TUN', 'a worker ended'));
  await t.rejects(backend.start({ v4: OWN }), { code: 'E_TUN' });
  t.strictSame(textsOf(backend), ['a worker ended']);
  t.equal(kernel.link('flannel0'), undefined);
  await backend.close();
});

t.test('another address opens the data path anew, another MTU does not', async (t) => {
  const { backend, kernel, dataplanes, context } = await start();
  t.strictSame(await backend.underlayChanged({ ...context.iface, mtuBytes: 1400 }), { mtuBytes: 1372 });
  t.equal(dataplanes.opened.length, 1);
  t.equal(kernel.link('flannel0')?.mtuBytes, 1372);
  const address = parseIpv4('192.0.2.77')!;
  await backend.underlayChanged({ ...context.iface, address: { v4: address }, publicIp: { v4: address } });
  t.equal(dataplanes.opened.length, 2);
  t.strictSame(dataplanes.current.options.listen, { v4: address });
  t.equal(kernel.link('flannel0')?.mtuBytes, 1472);
  await backend.close();
});

t.test('close() ends the housekeeping, then the data path, and leaves the device', async (t) => {
  const { backend, kernel, clock, dataplanes, apply } = await start();
  const closed = backend.close();
  await apply({ added: [peer(2)] });
  await closed;
  t.equal(clock.pending, 0);
  t.equal(dataplanes.current.closings, 1);
  t.strictSame(kernel.shown(NETWORK), [ROUTE]);
  t.ok(kernel.link('flannel0'));
  await backend.close();
  t.equal(dataplanes.current.closings, 1);
});
