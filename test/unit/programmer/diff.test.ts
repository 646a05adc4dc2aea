// How what the kernel holds differs from what peers need, in the lines that would change it.

import t from 'tap';
import { FdbObject, NeighbourObject, TUNNEL_KINDS } from '../../../src/backend/vxlan/objects.js';
import type { FdbEntry } from '../../../src/kernel/fdb.js';
import type { Neighbour } from '../../../src/kernel/neigh.js';
import type { Route } from '../../../src/kernel/route.js';
import { ipv4, parseIpv4 } from '../../../src/net/ipv4.js';
import { formatPrefix, parsePrefix, prefixKey, prefixOf, prefixOfKey } from '../../../src/net/prefix.js';
import {
  diffKernel,
  diffPeer,
  dropObjects,
  lineOf,
  placeOf,
  type Step,
} from '../../../src/programmer/diff.js';
import {
  findConflict,
  heldRoute,
  type HeldObject,
  type KernelObject,
  RouteObject,
} from '../../../src/programmer/objects.js';
import { FakeKernel } from '../../support/fake-kernel.js';

const ip = (text: string) => parseIpv4(text)!;
const DEVICE = 'flannel.1';

interface Plan {
  readonly key: string;
  readonly objects: readonly KernelObject[];
}

function tunnelled(number: number, mac = `02:00:00:00:00:0${number}`, publicIp = `192.0.2.${number}`): Plan {
  const prefix = parsePrefix(`10.5.${number}.0/24`)!;
  const { address } = prefix;
  return {
    key: `peer ${number}`,
    objects: [
      new NeighbourObject(DEVICE, { address, mac }),
      new FdbObject(DEVICE, { mac, destination: ip(publicIp), isPermanent: true }),
      new RouteObject({ prefix, gateway: address, device: DEVICE, isOnlink: true }),
    ],
  };
}

function direct(number: number): Plan {
  const prefix = parsePrefix(`10.5.${number}.0/24`)!;
  const gateway = ip(`192.0.2.${number}`);
  return {
    key: `peer ${number}`,
    objects: [new RouteObject({ prefix, gateway, device: 'eth0', isOnlink: false })],
  };
}

interface State {
  readonly routes: readonly Route[];
  readonly neighbours: readonly Neighbour[];
  readonly fdb: readonly FdbEntry[];
}

function routeOf(plan: Plan, change: Partial<Route> = {}): Route {
  const { prefix, gateway, device, isOnlink } = plan.objects.find((object) => object instanceof RouteObject)!;
  const fixed = {
    type: 'unicast',
    protocol: 94,
    metric: 0,
    source: undefined,
    scope: 0,
    devices: [],
  } as const;
  return { prefix, gateway, device, isOnlink, ...fixed, ...change };
}

/** What the kernel holds when peer `number` is in place. */
function stateOf(number: number): State {
  const { prefix } = routeOf(tunnelled(number));
  const mac = `02:00:00:00:00:0${number}`;
  return {
    routes: [routeOf(tunnelled(number))],
    neighbours: [{ address: prefix.address, mac, isPermanent: true }],
    fdb: [{ mac, destination: ip(`192.0.2.${number}`), isPermanent: true }],
  };
}

async function heldOf({ routes, neighbours, fdb }: State): Promise<HeldObject[]> {
  const kernel = new FakeKernel();
  kernel.list.neighbours = () => Promise.resolve(neighbours);
  kernel.list.fdb = () => Promise.resolve(fdb);
  const networks = [parsePrefix('10.5.0.0/16')!];
  const scope = { networks, former: [], tunnelDevices: { v4: DEVICE }, withElsewhere: false };
  const tunnels = await Promise.all(TUNNEL_KINDS.map((kind) => kind.list(kernel, scope)));
  return [...routes.map((route) => heldRoute(route, { v4: DEVICE })), ...tunnels.flat()];
}

/** Lines in their order; those of one place sorted, as they do not need each other. */
function linesOf(steps: readonly Step[]): string[] {
  return steps
    .map((step) => ({ place: placeOf(step), line: lineOf(step) }))
    .sort((a, b) => a.place - b.place || (a.line < b.line ? -1 : 1))
    .map(({ line }) => line);
}

async function linesFor(plans: readonly Plan[], state: State, removesStale = true): Promise<string[]> {
  return linesOf(diffKernel(plans, await heldOf(state), removesStale).steps);
}

const NEIGHBOUR = 'neigh replace 10.5.2.0 lladdr 02:00:00:00:00:02 dev flannel.1 nud permanent';
const FDB = 'fdb replace 02:00:00:00:00:02 dev flannel.1 self permanent dst 192.0.2.2';
const ROUTE = 'route replace 10.5.2.0/24 via 10.5.2.0 dev flannel.1 proto 94 onlink';
const ALL = [FDB, NEIGHBOUR, ROUTE];

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

t.test('diffPeer() asks only for what is not known to be there', (t) => {
  const check = (known: Plan | undefined, expected: string[]) => {
    const { key, objects } = tunnelled(2);
    t.strictSame(linesOf(diffPeer(key, objects, known?.objects)), expected);
  };
  check(undefined, ALL);
  check(tunnelled(2), []);
  check(tunnelled(2, '02:00:00:00:00:02', '192.0.2.99'), [FDB]);
  check(tunnelled(2, '02:00:00:00:00:99'), [FDB, NEIGHBOUR]);
  check(direct(2), ALL);
  t.end();
});

t.test('dropObjects() takes away in reverse what nobody claims any more', (t) => {
  const check = (isClaimed: (object: KernelObject) => boolean, expected: string[]) =>
    t.strictSame(linesOf(dropObjects(tunnelled(2).objects, isClaimed)), expected);
  const route = 'route del 10.5.2.0/24 via 10.5.2.0 dev flannel.1 proto 94';
  const fdb = 'fdb del 02:00:00:00:00:02 dev flannel.1 self dst 192.0.2.2';
  const neighbour = 'neigh del 10.5.2.0 dev flannel.1';
  check(() => false, [route, fdb, neighbour]);
  check((object) => object instanceof FdbObject, [route, neighbour]);
  check(() => true, []);
  t.end();
});

t.test('diffKernel() is empty when the kernel has what is wanted', async (t) => {
  const [two, three] = [stateOf(2), stateOf(3)];
  const state = {
    routes: [...two.routes, ...three.routes, routeOf(direct(4))],
    neighbours: [...two.neighbours, ...three.neighbours],
    fdb: [...two.fdb, ...three.fdb],
  };
  t.strictSame(await linesFor([tunnelled(2), tunnelled(3), direct(4)], state), []);
});

t.test('diffKernel() brings back exactly what is missing or changed', async (t) => {
  const plan = tunnelled(2);
  const whole = stateOf(2);
  const check = async (change: Partial<State>, expected: string[], what: string) =>
    t.strictSame(await linesFor([plan], { ...whole, ...change }), expected, what);
  await check({ routes: [], neighbours: [], fdb: [] }, ALL, 'all');
  await check({ neighbours: [] }, [NEIGHBOUR], 'neighbour');
  const temporary = [{ ...whole.neighbours[0], isPermanent: false }];
  await check({ neighbours: temporary }, [NEIGHBOUR], 'neighbour made temporary');
  await check({ fdb: [{ ...whole.fdb[0], isPermanent: false }] }, [FDB], 'FDB entry made temporary');
  await check({ routes: [routeOf(plan, { isOnlink: false })] }, [ROUTE], 'route without onlink');
  await check({ routes: [routeOf(plan, { protocol: 3 })] }, [ROUTE], "flanneld's route");
  const behind = 'route del 10.5.2.0/24 via 10.5.2.0 dev flannel.1 proto 94 metric 100';
  await check(
    { routes: [routeOf(plan, { metric: 100 })] },
    [behind, ROUTE],
    'one that ours would trip over goes first',
  );
  const elsewhere = { ...whole.fdb[0], destination: ip('192.0.2.77') };
  const removal = 'fdb del 02:00:00:00:00:02 dev flannel.1 self dst 192.0.2.77';
  await check({ fdb: [elsewhere] }, [FDB, removal], 'FDB entry to another host');
  await check({ fdb: [whole.fdb[0], elsewhere] }, [removal], 'a second remote for the MAC');
});

t.test('diffKernel() names the foreign routes it replaces, and only those', async (t) => {
  const foreign = routeOf(direct(2), { protocol: 4 });
  const replacedOf = async (route: Route) =>
    diffKernel([tunnelled(2)], await heldOf({ ...stateOf(2), routes: [route] }), true).replaced;
  t.strictSame(await replacedOf(foreign), [
    { subnet: '10.5.2.0/24', gateway: '192.0.2.2', device: 'eth0', protocol: 4 },
  ]);
  t.strictSame(await replacedOf(routeOf(direct(2))), []);
});

t.test('diffKernel() removes stale entries of ours and nothing of others', async (t) => {
  const gone = tunnelled(9);
  const state: State = {
    ...stateOf(9),
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
  t.strictSame(await linesFor([], state), [
    'route del 10.5.7.0/24 via 10.5.7.0 dev flannel.1 proto 3',
    'route del 10.5.8.0/24 via 192.0.2.8 dev eth0 proto 94 metric 50',
    'route del 10.5.9.0/24 via 10.5.9.0 dev flannel.1 proto 94',
    'fdb del 02:00:00:00:00:09 dev flannel.1 self dst 192.0.2.9',
    'neigh del 10.5.9.0 dev flannel.1',
  ]);
  t.strictSame(await linesFor([], state, false), [], 'not before a snapshot');
  const learned = { routes: [], neighbours: [], fdb: [{ ...state.fdb[0], isPermanent: false }] };
  t.strictSame(await linesFor([], learned), [], 'a learned FDB entry ages out by itself');
  const flood = { ...learned, fdb: [{ ...state.fdb[0], mac: '00:00:00:00:00:00' }] };
  t.strictSame(await linesFor([], flood), [], 'the default entry is not ours');
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
