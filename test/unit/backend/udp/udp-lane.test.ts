// The kernel lane of the udp mode on a kernel in memory: which one is asked for, when nothing is given to it, and what
// is said of it. The lane itself is a fake.

import t from 'tap';
import { UdpBackend } from '../../../../src/backend/udp/udp.js';
import type { LaneChoice } from '../../../../src/config/options.js';
import { parsePrefix } from '../../../../src/net/prefix.js';
import type { UdpStatus } from '../../../../src/ops/status.js';
import { FakeClock } from '../../../support/fake-clock.js';
import { openHost } from '../../../support/fake-kernel-host.js';
import { FakeKernel } from '../../../support/fake-kernel.js';
import { leaseOf } from '../../../support/leases.js';
import { FakeOpener } from './fake-dataplane.js';

const OWN = parsePrefix('10.5.1.0/24')!;
const CONFIG = JSON.stringify({ Network: '10.5.0.0/16', Backend: { Type: 'udp' } });
const FORWARDING = ['ipv4', 'flannel0', 'forwarding'] as const;

interface HostWords {
  readonly lane?: LaneChoice;
  readonly isEthernet?: boolean;
  readonly tunnelOffload?: boolean;
  readonly refusal?: string;
  readonly kernel?: FakeKernel;
}

async function start(words: HostWords = {}) {
  const { lane = 'auto', isEthernet = true, tunnelOffload, refusal, kernel = new FakeKernel() } = words;
  kernel.addLink('eth0', '192.0.2.1/24', { isEthernet });
  if (tunnelOffload !== undefined) kernel.features.set('eth0/tx-udp_tnl-segmentation', tunnelOffload);
  const { context, log } = await openHost({ config: CONFIG, kernel });
  const clock = new FakeClock();
  const dataplanes = new FakeOpener(kernel);
  dataplanes.laneRefusal = refusal;
  const unpinned: string[] = [];
  const services = {
    removeLeftovers: () => Promise.resolve(),
    openGuard: () => {
      throw new Error('the udp mode has no guard');
    },
  };
  const backend = new UdpBackend({ ...context, kernel, services, lane }, 8285, {
    openDataplane: dataplanes.open,
    checkPortIsFree: () => Promise.resolve(),
    lanePins: {
      folderOf: (device) => `/pins/${device}`,
      remove: (folder) => Promise.resolve(void unpinned.push(folder)),
    },
    clock,
  });
  await backend.publish();
  await backend.start({ v4: OWN });
  const status = (): UdpStatus['lane'] => backend.status().lane;
  const current = () => {
    const found = dataplanes.current.lanes.at(-1);
    if (found === undefined) throw new Error('no lane was opened');
    return found;
  };
  return { backend, kernel, clock, context, dataplanes, log, unpinned, status, current };
}

t.test('which mode is asked of the kernel', async (t) => {
  const cases: readonly (readonly [HostWords, string, string?])[] = [
    [{}, 'sparse'],
    [{ tunnelOffload: false }, 'sparse'],
    [{ tunnelOffload: true }, 'all'],
    [{ lane: 'sparse', tunnelOffload: true }, 'sparse'],
    [{ lane: 'all' }, 'all'],
    [{ lane: 'off', tunnelOffload: true }, 'off', 'switched off by --lane=off'],
    [{ isEthernet: false }, 'off', 'interface eth0 is no Ethernet device'],
    [{ refusal: 'BPF_PROG_LOAD: EPERM' }, 'off', 'BPF_PROG_LOAD: EPERM'],
  ];
  for (const [words, mode, why] of cases) {
    const { backend, log, status, unpinned } = await start(words);
    const name = JSON.stringify(words);
    t.match(status(), { asked: words.lane ?? 'auto', mode, pinned: mode !== 'off' }, name);
    t.equal(status().why, why, name);
    const line = log.find((text) => text.includes('data path open'));
    t.match(
      JSON.parse(line ?? '{}'),
      why === undefined ? { lane: `${mode}, pinned` } : { lane: 'off', laneWhy: why },
    );
    t.strictSame(
      unpinned,
      mode === 'off' ? ['/pins/flannel0'] : [],
      'what an earlier run pinned has its table',
    );
    await backend.close();
  }
});

t.test('nothing is given to it while packets are not forwarded', async (t) => {
  const { backend, kernel, status, current } = await start();
  t.match(current().options, { mode: 'sparse', pinFolder: '/pins/flannel0' });
  await kernel.settings.setInterfaceSysctl(...FORWARDING, '0');
  await backend.reconcile();
  t.equal(current().mode, 'off');
  t.match(status(), {
    mode: 'off',
    why: 'net.ipv4.conf.flannel0.forwarding is 0: packets are not forwarded',
  });
  await kernel.settings.setInterfaceSysctl(...FORWARDING, '1');
  await backend.reconcile();
  t.strictSame(status(), { asked: 'auto', mode: 'sparse', pinned: true });
  await backend.close();
});

t.test('nor while datagrams are to go without DF', async (t) => {
  const { backend, kernel, status } = await start();
  kernel.sysctls.set('net/ipv4/ip_no_pmtu_disc', '1');
  await backend.reconcile();
  t.match(status(), { mode: 'off', why: 'net.ipv4.ip_no_pmtu_disc is 1: datagrams go without DF' });
  kernel.sysctls.set('net/ipv4/ip_no_pmtu_disc', '0');
  await backend.reconcile();
  t.match(status(), { mode: 'sparse' });
  await backend.close();
});

t.test('there is none while the host has IPsec policies', async (t) => {
  const { backend, kernel, dataplanes, status, unpinned } = await start();
  kernel.ipsecPolicies = 2;
  await backend.reconcile();
  t.match(status(), { mode: 'off', why: /IPsec/ });
  t.equal(dataplanes.opened.length, 2, 'what was attached is gone with the data path');
  t.equal(dataplanes.current.lanes.length, 0);
  t.strictSame(unpinned, ['/pins/flannel0']);
  await backend.reconcile();
  t.equal(dataplanes.opened.length, 2);
  kernel.ipsecPolicies = 0;
  await backend.reconcile();
  t.match(status(), { mode: 'sparse' });
  await backend.close();
});

t.test('there is none when it cannot be told whether the host has IPsec policies', async (t) => {
  const kernel = new FakeKernel();
  kernel.ipsecPolicies = 'ip: unknown object xfrm';
  const { backend, dataplanes, status } = await start({ kernel });
  t.match(status(), { mode: 'off', why: 'ip: unknown object xfrm' });
  await backend.reconcile();
  t.equal(dataplanes.opened.length, 1);
  kernel.ipsecPolicies = 0;
  await backend.reconcile();
  t.match(status(), { mode: 'sparse' });
  kernel.ipsecPolicies = 'ip: cannot allocate memory';
  await backend.reconcile();
  t.match(status(), { mode: 'sparse' }, 'one that is there stays');
  await backend.close();
});

t.test('IPsec policies are asked for once at each look, and not where they change nothing', async (t) => {
  const { backend, kernel } = await start();
  t.equal(kernel.ipsecQuestions, 1, 'when it is opened');
  await backend.reconcile();
  t.equal(kernel.ipsecQuestions, 2);
  await backend.close();
  const without: readonly HostWords[] = [
    { lane: 'off' },
    { isEthernet: false },
    { refusal: 'BPF_PROG_LOAD: EPERM' },
  ];
  for (const words of without) {
    const { backend, kernel, dataplanes, status } = await start(words);
    const { why = '' } = status();
    const questions = kernel.ipsecQuestions;
    for (const policies of [2, 0]) {
      kernel.ipsecPolicies = policies;
      await backend.reconcile();
      t.equal(dataplanes.opened.length, 1, `${why}: the data path stays as it is`);
    }
    t.equal(kernel.ipsecQuestions, questions, why);
    t.match(status(), { mode: 'off', why });
    await backend.close();
  }
});

t.test('nothing is given to it while a worker hangs', async (t) => {
  const { backend, clock, dataplanes, status, current } = await start({ lane: 'all' });
  dataplanes.current.isBeating = false;
  for (let second = 0; second < 5; second++) await clock.advance(1_000);
  t.equal(current().mode, 'off');
  t.match(status(), { mode: 'off', why: 'worker 0 does not move' });
  dataplanes.current.isBeating = true;
  await clock.advance(1_000);
  t.equal(current().mode, 'all');
  await backend.close();
});

t.test('a fault of it is told once, and tried again', async (t) => {
  const { backend, clock, log, current } = await start();
  current().fault = 'its copy of the table cannot be written: ENOMEM';
  current().retry = () => undefined;
  await clock.advance(1_000);
  await clock.advance(1_000);
  t.equal(log.filter((line) => line.includes('ENOMEM')).length, 1);
  await backend.close();
});

t.test(
  'another interface with the same address moves it, and where it cannot be all is opened anew',
  async (t) => {
    const { backend, context, dataplanes, current, status } = await start();
    const { iface } = context;
    await backend.underlayChanged({ ...iface, index: 77 });
    t.equal(dataplanes.opened.length, 1);
    t.equal(dataplanes.current.lanes.length, 2);
    t.match(current().options, { uplinkIndex: 77 });
    dataplanes.current.laneRefusal = dataplanes.laneRefusal = 'EPROTOTYPE';
    await backend.underlayChanged({ ...iface, index: 78 });
    t.equal(dataplanes.opened.length, 2);
    t.match(status(), { mode: 'off', why: 'EPROTOTYPE' });
    await backend.close();
  },
);

t.test('its packets are among all packets, its drops among the drops, also when it is gone', async (t) => {
  const { backend, context, dataplanes, current } = await start();
  dataplanes.current.packetsIn = 5;
  Object.assign(current().carried, {
    out_packets: 7,
    out_bytes: 700,
    out_failed: 2,
    in_packets: 3,
    in_bytes: 300,
  });
  const check = (): void => {
    const { outbound, inbound } = backend.status().counters ?? {};
    t.match(outbound, { packets_in: 14, packets_out: 7, bytes_in: 700, bytes_out: 700, drop_lane_failed: 2 });
    t.match(inbound, { packets_in: 3, packets_out: 3, bytes_in: 300, bytes_out: 300, drop_lane_failed: 0 });
    const metrics = backend.metrics();
    const values = (name: string) => metrics.find((family) => family.name === name)?.values;
    t.match(values('lane_packets_total'), [
      { labels: { direction: 'outbound' }, value: 7 },
      { labels: { direction: 'inbound' }, value: 3 },
    ]);
    t.ok(values('lane_left_total')?.some(({ labels }) => labels['reason'] === 'unproven'));
  };
  check();
  dataplanes.laneRefusal = 'EPERM';
  await backend.underlayChanged({
    ...context.iface,
    address: context.iface.publicIp,
    publicIp: leaseOf({ subnet: '10.5.9.0/24', publicIp: '192.0.2.9' }).host.publicIp,
  });
  dataplanes.current.packetsIn = 0;
  check();
  t.equal(backend.metrics().find(({ name }) => name === 'lane_mode')?.values[0]?.value, 1);
  await backend.close();
});

t.test('a peer is on the lane while its own was heard', async (t) => {
  const { backend, current } = await start();
  const peer = leaseOf({ subnet: '10.5.2.0/24', publicIp: '192.0.2.2' });
  backend.apply({ added: [peer], changed: [], removed: [] });
  await backend.reconcile();
  t.match(backend.peerStatus(), [{ lane: false }]);
  current().proven.add(0);
  t.match(backend.peerStatus(), [{ lane: true }]);
  await backend.close();
});

t.test('a route to a proven peer that is given a smaller MTU is noticed', async (t) => {
  const { backend, clock, current, dataplanes } = await start();
  const peer = leaseOf({ subnet: '10.5.2.0/24', publicIp: '192.0.2.2' });
  backend.apply({ added: [peer], changed: [], removed: [] });
  await backend.reconcile();
  const mtu = () => backend.peerStatus()[0]?.mtuBytes;
  dataplanes.current.pathMtus.set(peer.host.publicIp.v4!, 1272);
  await clock.advance(1500);
  t.equal(mtu(), 1472, 'the socket of the workers notices by itself');
  current().proven.add(0);
  await clock.advance(1500);
  t.equal(mtu(), 1272);
  backend.pathMtuChanged(peer.host.publicIp.v4!, 1200 + 28);
  await clock.advance(1500);
  t.equal(mtu(), 1200, 'what the probes found narrower stays');
  dataplanes.current.pathMtus.set(peer.host.publicIp.v4!, 1100);
  await backend.reconcile();
  t.equal(mtu(), 1100, 'at once when the kernel tells of a change');
  await backend.close();
});

t.test('it is given nothing while somebody captures packets on the device', async (t) => {
  const { backend, current, status } = await start();
  t.equal(current().mode, 'sparse');
  const [first, second] = [backend.showAll(), backend.showAll()];
  t.match(status(), { mode: 'off', why: 'twill capture looks at the device' });
  first();
  first();
  t.match(status(), { mode: 'off' }, 'another one still does');
  second();
  t.match(status(), { mode: 'sparse' });
  await backend.close();
});
