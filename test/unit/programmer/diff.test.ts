import t from 'tap';
import {
  addPeerSteps,
  diffKernel,
  emptyPhases,
  findConflict,
  removePeerSteps,
} from '../../../src/programmer/diff.js';
import type { KernelState, PeerPlan, Phases } from '../../../src/programmer/diff.js';
import type { Route } from '../../../src/kernel/route.js';
import { ipv4, parseIpv4 } from '../../../src/net/ipv4.js';
import { formatPrefix, parsePrefix, prefixKey, prefixOf, prefixOfKey } from '../../../src/net/prefix.js';

const ip = (text: string) => parseIpv4(text)!;

function tunnelled(
  number: number,
  mac = `02:00:00:00:00:0${number}`,
  publicIp = `192.0.2.${number}`,
): PeerPlan {
  const subnet = parsePrefix(`10.5.${number}.0/24`)!;
  const route = { prefix: subnet, gateway: subnet.address, device: 'flannel.1', isOnlink: true };
  return { id: `peer ${number}`, subnet, route, vtep: { mac, publicIp: ip(publicIp) } };
}

function direct(number: number): PeerPlan {
  const subnet = parsePrefix(`10.5.${number}.0/24`)!;
  return {
    id: `peer ${number}`,
    subnet,
    route: { prefix: subnet, gateway: ip(`192.0.2.${number}`), device: 'eth0' },
    vtep: undefined,
  };
}

function routeOf(plan: PeerPlan, change: Partial<Route> = {}): Route {
  const { prefix, gateway, device } = plan.route;
  const isOnlink = plan.route.isOnlink ?? false;
  const fixed = {
    type: 'unicast' as const,
    protocol: 94,
    metric: 0,
    source: undefined,
    scope: 0,
    devices: [],
  };
  return { prefix, gateway, device, isOnlink, ...fixed, ...change };
}

/** What the kernel holds when all of `plans` is in place. */
function stateOf(...plans: readonly PeerPlan[]): KernelState {
  const ends = plans.filter((plan) => plan.vtep !== undefined);
  return {
    routes: plans.map((plan) => routeOf(plan)),
    neighbours: ends.map((plan) => ({
      address: plan.subnet.address,
      mac: plan.vtep!.mac,
      isPermanent: true,
    })),
    fdb: ends.map((plan) => ({ mac: plan.vtep!.mac, destination: plan.vtep!.publicIp, isPermanent: true })),
  };
}

/** Lines by batch, empty batches left out. */
function linesOf(phases: Phases): Record<string, string[]> {
  const entries = Object.entries(phases) as [string, Phases[keyof Phases]][];
  return Object.fromEntries(
    entries
      .filter(([, steps]) => steps.length > 0)
      .map(([name, steps]) => [name, steps.map((step) => step.line)]),
  );
}

const ALL_OF_2 = {
  neighbours: ['neigh replace 10.5.2.0 lladdr 02:00:00:00:00:02 dev flannel.1 nud permanent'],
  fdb: ['fdb replace 02:00:00:00:00:02 dev flannel.1 self permanent dst 192.0.2.2'],
  routes: ['route replace 10.5.2.0/24 via 10.5.2.0 dev flannel.1 proto 94 onlink'],
};

t.test('prefixKey() differs for any two prefixes', (t) => {
  const texts = ['0.0.0.0/0', '0.0.0.0/32', '10.5.0.0/16', '10.5.0.0/24', '255.255.255.255/32'];
  const prefixes = texts.map((text) => parsePrefix(text)!);
  for (const address of [0, 1, 0x0a050000, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff])
    for (let length = 0; length <= 32; length++) {
      const network = prefixOf(ipv4(address), length);
      prefixes.push({ address: ipv4(address), length });
      if (network.address !== address) prefixes.push(network);
    }
  const seen = new Map<number, string>();
  for (const prefix of prefixes) {
    const key = prefixKey(prefix);
    const text = formatPrefix(prefix);
    t.equal(seen.get(key) ?? text, text);
    seen.set(key, text);
    t.same(prefixOfKey(key), prefix, text);
  }
  t.end();
});

t.test('addPeerSteps() asks only for what is not known to be there', (t) => {
  const check = (known: PeerPlan | undefined, expected: Record<string, string[]>) => {
    const phases = emptyPhases();
    addPeerSteps(phases, tunnelled(2), known);
    t.strictSame(linesOf(phases), expected);
  };
  check(undefined, ALL_OF_2);
  check(tunnelled(2), {});
  check(tunnelled(2, '02:00:00:00:00:02', '192.0.2.99'), { fdb: ALL_OF_2.fdb });
  check(tunnelled(2, '02:00:00:00:00:99'), { neighbours: ALL_OF_2.neighbours, fdb: ALL_OF_2.fdb });
  check(direct(2), ALL_OF_2);
  t.end();
});

t.test('removePeerSteps() takes away in reverse what nobody needs any more', (t) => {
  const check = (next: PeerPlan | undefined, isMacWanted: boolean, expected: Record<string, string[]>) => {
    const phases = emptyPhases();
    removePeerSteps(phases, tunnelled(2), next, () => isMacWanted);
    t.strictSame(linesOf(phases), expected);
  };
  const routes = ['route del 10.5.2.0/24 via 10.5.2.0 dev flannel.1 proto 94'];
  const fdbRemovals = ['fdb del 02:00:00:00:00:02 dev flannel.1 self dst 192.0.2.2'];
  const neighbourRemovals = ['neigh del 10.5.2.0 dev flannel.1'];
  check(undefined, false, { routes, fdbRemovals, neighbourRemovals });
  check(undefined, true, { routes, neighbourRemovals });
  check(tunnelled(2, '02:00:00:00:00:99'), false, { fdbRemovals });
  check(tunnelled(2, '02:00:00:00:00:02', '192.0.2.99'), false, {});
  check(direct(2), false, { fdbRemovals, neighbourRemovals });
  t.end();
});

const ON_TUNNEL = { tunnelDevice: 'flannel.1', removeStale: true };

t.test('diffKernel() is empty when the kernel has what is wanted', (t) => {
  const plans = [tunnelled(2), tunnelled(3), direct(4)];
  t.strictSame(linesOf(diffKernel(plans, stateOf(...plans), ON_TUNNEL).phases), {});
  t.end();
});

t.test('diffKernel() brings back exactly what is missing or changed', (t) => {
  const plan = tunnelled(2);
  const whole = stateOf(plan);
  const check = (change: Partial<KernelState>, expected: Record<string, string[]>, what: string) => {
    t.strictSame(linesOf(diffKernel([plan], { ...whole, ...change }, ON_TUNNEL).phases), expected, what);
  };
  const { neighbours, fdb, routes } = ALL_OF_2;
  check({ routes: [], neighbours: [], fdb: [] }, ALL_OF_2, 'all');
  check({ neighbours: [] }, { neighbours }, 'neighbour');
  check(
    { neighbours: [{ ...whole.neighbours[0], isPermanent: false }] },
    { neighbours },
    'neighbour made temporary',
  );
  check({ fdb: [{ ...whole.fdb[0], isPermanent: false }] }, { fdb }, 'FDB entry made temporary');
  check({ routes: [routeOf(plan, { isOnlink: false })] }, { routes }, 'route without onlink');
  check({ routes: [routeOf(plan, { protocol: 3 })] }, { routes }, "flanneld's route");
  check(
    { routes: [routeOf(plan, { metric: 100 })] },
    { neighbours: [`${routes[0].replace('replace', 'del').replace(' onlink', '')} metric 100`], routes },
    'metric',
  );
  const fdbElsewhere = [{ ...whole.fdb[0], destination: ip('192.0.2.77') }];
  const fdbRemovals = ['fdb del 02:00:00:00:00:02 dev flannel.1 self dst 192.0.2.77'];
  check({ fdb: fdbElsewhere }, { fdb, fdbRemovals }, 'FDB entry to another host');
  check({ fdb: [whole.fdb[0], ...fdbElsewhere] }, { fdbRemovals }, 'a second remote for the MAC');
  t.end();
});

t.test('diffKernel() names the foreign routes it replaces, and only those', (t) => {
  const foreign = routeOf(direct(2), { protocol: 4 });
  const state = { ...stateOf(tunnelled(2)), routes: [foreign] };
  t.strictSame(diffKernel([tunnelled(2)], state, ON_TUNNEL).replaced, [foreign]);
  t.strictSame(diffKernel([tunnelled(2)], stateOf(direct(2)), ON_TUNNEL).replaced, []);
  t.end();
});

t.test('diffKernel() removes stale entries of ours and nothing of others', (t) => {
  const gone = tunnelled(9);
  const state: KernelState = {
    ...stateOf(gone),
    routes: [
      routeOf(gone),
      routeOf(direct(8), { metric: 50 }),
      routeOf(tunnelled(7), { protocol: 3 }),
      routeOf(direct(6), { protocol: 3 }),
      routeOf(direct(5), { protocol: 4 }),
      routeOf(direct(4), { type: 'blackhole', gateway: undefined, device: undefined }),
      routeOf(tunnelled(3), { protocol: 4 }),
    ],
  };
  const { phases, replaced } = diffKernel([], state, ON_TUNNEL);
  t.strictSame(linesOf(phases), {
    routes: [
      'route del 10.5.9.0/24 via 10.5.9.0 dev flannel.1 proto 94',
      'route del 10.5.8.0/24 via 192.0.2.8 dev eth0 proto 94 metric 50',
      'route del 10.5.7.0/24 via 10.5.7.0 dev flannel.1 proto 3',
    ],
    fdbRemovals: ['fdb del 02:00:00:00:00:09 dev flannel.1 self dst 192.0.2.9'],
    neighbourRemovals: ['neigh del 10.5.9.0 dev flannel.1'],
  });
  t.strictSame(replaced, []);
  t.strictSame(
    linesOf(diffKernel([], state, { ...ON_TUNNEL, removeStale: false }).phases),
    {},
    'not before a snapshot',
  );
  const learned = { ...state, routes: [], neighbours: [], fdb: [{ ...state.fdb[0], isPermanent: false }] };
  t.strictSame(
    linesOf(diffKernel([], learned, ON_TUNNEL).phases),
    {},
    'a learned FDB entry ages out by itself',
  );
  const flood = { ...learned, fdb: [{ ...state.fdb[0], mac: '00:00:00:00:00:00' }] };
  t.strictSame(linesOf(diffKernel([], flood, ON_TUNNEL).phases), {}, 'the default entry is not ours');
  t.end();
});

t.test('findConflict() spares the routes of routing daemons and of the kernel', (t) => {
  const on = (change: Partial<Route>) => findConflict([routeOf(direct(2), change)]);
  for (const protocol of [3, 4, 94]) t.equal(on({ protocol }), undefined, `protocol ${protocol}`);
  for (const protocol of [2, 12, 16, 186])
    t.equal(on({ protocol })?.code, 'conflict', `protocol ${protocol}`);
  t.equal(on({ protocol: 12, metric: 32 }), undefined, 'a route behind ours is no conflict');
  t.equal(findConflict([]), undefined);
  t.equal(
    on({ protocol: 2, gateway: undefined, device: 'cni0' })?.reason,
    'has its subnet 10.5.2.0/24 routed by protocol 2 on cni0, which is not ours to replace',
  );
  t.end();
});
