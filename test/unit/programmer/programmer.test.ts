// The programmer against a kernel in memory: what stands there after changes, refusals, failures and comparisons.

import pino from 'pino';
import t from 'tap';
import type { Peer, PeerDiff } from '../../../src/lease/lease.js';
import { parsePrefix } from '../../../src/net/prefix.js';
import { type KernelObject, RouteObject } from '../../../src/programmer/objects.js';
import { PeerProgrammer, type PeerProgrammerOptions } from '../../../src/programmer/programmer.js';
import { codesOf, textsOf } from '../../support/conditions.js';
import { FakeClock } from '../../support/fake-clock.js';
import { turnsUntil } from '../../support/fake-kernel-host.js';
import { FakeKernel } from '../../support/fake-kernel.js';
import { leaseOf } from '../../support/leases.js';

const NETWORK = parsePrefix('10.5.0.0/16')!;
const REFUSED = 'RTNETLINK answers: Operation not permitted';

function peer(number: number, created = 1n): Peer {
  return leaseOf({ subnet: `10.5.${number}.0/24`, publicIp: `192.0.2.${number}`, created });
}

const routeLine = (number: number): string => `10.5.${number}.0/24 via 192.0.2.${number} dev eth0 proto 94`;

function setUp(options: Partial<PeerProgrammerOptions> = {}) {
  const kernel = new FakeKernel();
  kernel.addLink('eth0', '192.0.2.1/24');
  const clock = new FakeClock();
  const log: string[] = [];
  const programmer = new PeerProgrammer({
    kernel,
    kinds: [],
    networks: [NETWORK],
    former: [],
    tunnelDevices: {},
    needsLookup: () => false,
    planPeer: ({ subnets, host }) => [
      new RouteObject({ prefix: subnets.v4!, gateway: host.publicIp.v4, device: 'eth0', isOnlink: false }),
    ],
    log: pino({}, { write: (line: string) => void log.push(line) }),
    clock,
    random: () => 1,
    ...options,
  });
  const apply = (diff: Partial<PeerDiff>): void =>
    programmer.apply({ added: [], changed: [], removed: [], ...diff });
  const states = () => programmer.peers(() => ({})).map(({ state }) => state);
  return { kernel, clock, log, programmer, apply, states };
}

t.test(
  'what is asked for before open() is done by it; the first snapshot sweeps what is stale',
  async (t) => {
    let firstRuns = 0;
    const afterFirstRun = (): Promise<void> => Promise.resolve(void firstRuns++);
    const { kernel, programmer, apply, states } = setUp({ afterFirstRun });
    const stale = parsePrefix('10.5.9.0/24')!;
    kernel.addRoute({ prefix: stale, gateway: peer(9).host.publicIp.v4, device: 'eth0', protocol: 94 });
    await programmer.open();
    t.equal(kernel.shown(NETWORK).length, 1, 'nothing is removed before a snapshot');
    t.equal(firstRuns, 0);
    apply({ added: [peer(2), peer(3)] });
    await turnsUntil(() => states().every((state) => state === 'programmed'), 'both');
    t.strictSame(kernel.shown(NETWORK), [routeLine(2), routeLine(3)]);
    await turnsUntil(() => firstRuns === 1, 'the end of the first run');
    await programmer.reconcile();
    t.equal(firstRuns, 1, 'once');
    await programmer.close();
  },
);

t.test('a change touches nothing else, and several of one moment are one batch', async (t) => {
  const { kernel, programmer, apply, states } = setUp();
  apply({ added: [peer(2), peer(3)] });
  await programmer.open();
  kernel.performed.length = 0;
  apply({ added: [peer(4)] });
  apply({ removed: [peer(2)] });
  await turnsUntil(() => states().join() === 'programmed,programmed', 'the change');
  t.strictSame(kernel.performed.sort(), [
    'route del 10.5.2.0/24 via 192.0.2.2 dev eth0 proto 94',
    'route replace 10.5.4.0/24 via 192.0.2.4 dev eth0 proto 94',
  ]);
  t.strictSame(states(), ['programmed', 'programmed']);
  await programmer.close();
});

t.test(
  'a foreign route is neither replaced nor removed, and its peer is refused until it goes',
  async (t) => {
    const { kernel, programmer, apply, states, log } = setUp();
    const { subnets } = peer(2);
    kernel.addRoute({ prefix: subnets.v4!, device: 'eth0', protocol: 12 });
    apply({ added: [peer(2), peer(3)] });
    await programmer.open();
    t.strictSame(kernel.shown(NETWORK), ['10.5.2.0/24 dev eth0 proto 12', routeLine(3)]);
    t.strictSame(states(), ['refused', 'programmed']);
    t.strictSame(codesOf(programmer), ['peer-route-conflict']);
    t.equal(log.filter((line) => line.includes('peer left out')).length, 1);
    await programmer.reconcile();
    t.equal(log.filter((line) => line.includes('peer left out')).length, 1, 'said once');
    kernel.routes.splice(0, kernel.routes.length, ...kernel.routes.filter(({ protocol }) => protocol !== 12));
    await programmer.reconcile();
    t.strictSame(kernel.shown(NETWORK), [routeLine(2), routeLine(3)]);
    t.strictSame(textsOf(programmer), []);
    await programmer.close();
  },
);

t.test('a route that takes part of a peer is said, and left', async (t) => {
  const { kernel, programmer, apply } = setUp();
  apply({ added: [peer(2)] });
  kernel.addRoute({ prefix: parsePrefix('10.5.2.128/25')!, device: 'eth0', protocol: 4 });
  await programmer.open();
  t.match(textsOf(programmer), [/^peer 10\.5\.2\.0\/24 loses packets to another route/]);
  await programmer.close();
});

t.test(
  'what the kernel refuses is tried again alone, later each time, and the others do not wait',
  async (t) => {
    const { kernel, clock, programmer, apply, states } = setUp();
    apply({ added: [peer(2), peer(3)] });
    kernel.refusals.push({ line: /10\.5\.2\.0/, message: REFUSED });
    await programmer.open();
    t.strictSame(states(), ['failed', 'programmed']);
    t.match(textsOf(programmer), [/^peer 10\.5\.2\.0\/24 cannot be programmed: .*not permitted/]);
    kernel.performed.length = 0;
    await clock.advance(199);
    t.strictSame(kernel.performed, []);
    await clock.advance(2);
    await turnsUntil(() => kernel.performed.length > 0, 'the second attempt');
    t.strictSame(kernel.performed, ['route replace 10.5.2.0/24 via 192.0.2.2 dev eth0 proto 94']);
    await clock.advance(300);
    t.equal(kernel.performed.length, 1, 'the delay doubles');
    kernel.refusals.length = 0;
    await clock.advance(101);
    await turnsUntil(() => states()[0] === 'programmed', 'success');
    t.strictSame(textsOf(programmer), []);
    await programmer.close();
  },
);

t.test('a kernel that takes no peer at all is not the peers’ fault', async (t) => {
  const { kernel, programmer, apply } = setUp();
  kernel.refusals.push({ line: /^route replace/, message: REFUSED });
  apply({ added: [peer(2)] });
  await programmer.open();
  t.strictSame(codesOf(programmer), ['kernel-unprogrammed']);
  await programmer.close();
});

t.test('a run that fails as a whole is a condition, and comes again', async (t) => {
  let failures = 2;
  const prepare = (): Promise<void> =>
    failures-- > 0 ? Promise.reject(new Error('no device: Operation not permitted')) : Promise.resolve();
  const { clock, programmer, apply, states } = setUp({ prepare });
  apply({ added: [peer(2)] });
  await programmer.open();
  t.strictSame(codesOf(programmer), ['kernel-unprogrammed']);
  await clock.advance(250);
  await turnsUntil(() => failures === 0, 'the second');
  await turnsUntil(() => codesOf(programmer)[0] === 'no-permission', 'what is known after two');
  await clock.advance(500);
  await turnsUntil(() => states()[0] === 'programmed', 'the third');
  t.strictSame(textsOf(programmer), []);
  await programmer.close();
});

t.test('of two leases that claim one thing the elder has it, whichever came first', async (t) => {
  const device = 'eth0';
  const prefix = parsePrefix('10.5.2.0/24')!;
  const planPeer = ({ host }: Peer): readonly KernelObject[] => [
    new RouteObject({ prefix, gateway: host.publicIp.v4, device, isOnlink: false }),
  ];
  const { kernel, programmer, apply, states } = setUp({ planPeer });
  apply({ added: [peer(3, 7n)] });
  await programmer.open();
  apply({ added: [peer(2, 5n)] });
  await turnsUntil(() => states().join() === 'refused,programmed', 'the elder');
  t.strictSame(kernel.shown(NETWORK), [routeLine(2)]);
  apply({ removed: [peer(2, 5n)] });
  await turnsUntil(() => states().join() === 'programmed', 'the younger, when the elder goes');
  t.strictSame(kernel.shown(NETWORK), ['10.5.2.0/24 via 192.0.2.3 dev eth0 proto 94']);
  await programmer.close();
});

t.test('what somebody removes is back after a comparison, and counted', async (t) => {
  const { kernel, programmer, apply } = setUp();
  apply({ added: [peer(2), peer(3)] });
  await programmer.open();
  kernel.routes.splice(
    kernel.routes.findIndex(({ protocol }) => protocol === 94),
    1,
  );
  await programmer.reconcile();
  t.strictSame(kernel.shown(NETWORK), [routeLine(2), routeLine(3)]);
  const repairs = programmer.metrics().find(({ name }) => name === 'kernel_repairs_total')!;
  t.match(repairs.values, [{ labels: { object: 'route' }, value: 1 }]);
  await programmer.close();
});

t.test('200 peers of one moment are one batch', async (t) => {
  const { kernel, programmer, apply, states } = setUp();
  let batches = 0;
  const perform = kernel.perform.bind(kernel);
  kernel.perform = (tool, lines) => {
    batches++;
    return perform(tool, lines);
  };
  apply({
    added: Array.from({ length: 200 }, (_, i) =>
      leaseOf({ subnet: `10.5.${i + 2}.0/24`, publicIp: `192.0.2.${i + 2}` }),
    ),
  });
  await programmer.open();
  t.equal(batches, 1);
  t.ok(states().every((state) => state === 'programmed'));
  await programmer.close();
});

t.test('close() ends what is going on and starts nothing more', async (t) => {
  const { kernel, programmer, apply } = setUp();
  await programmer.open();
  apply({ added: [peer(2)] });
  await programmer.close();
  const count = kernel.performed.length;
  apply({ added: [peer(3)] });
  await programmer.reconcile();
  t.equal(kernel.performed.length, count);
});
