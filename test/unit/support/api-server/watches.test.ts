// Pages and watch streams of a real API server, played to the stand-in: the frames of each, word for word, with their
// versions. Time is that of a clock that the test moves; when a bookmark was made is told by its version.

import t from 'tap';
import { ApiServer, type ApiServerOptions } from '../../../support/api-server.js';
import { type Asked, ask1, ask2 } from '../../../support/api-server/asker.js';
import type { ApiObject } from '../../../support/api-server/api-object.js';
import { comparable, readRecordings } from '../../../support/api-server/recordings.js';
import { FakeClock } from '../../../support/fake-clock.js';

interface Recorded {
  readonly name: string;
  readonly request?: { readonly path: string };
  readonly status?: number;
  readonly end?: string;
  readonly events?: readonly [number, ApiObject][];
}

interface World {
  readonly server: ApiServer;
  readonly clock: FakeClock;
  readonly path: string;
  ask(path: string, accept?: string): Asked;
}

interface Row {
  readonly options?: ApiServerOptions;
  /** The path, where the recording shortened it. */
  readonly path?: string;
  readonly accept?: string;
  readonly before?: (world: World) => void;
  /** While the watch is open, till it ends. */
  readonly play: (world: World, asked: Asked) => Promise<void>;
  /** How a client sees the end: cleanly, when the server says so. */
  readonly outcome?: RegExp;
  /** Frames that the recording shows by name and version only. */
  readonly isShort?: boolean;
}

const NODE_PATH = '/api/v1/nodes?watch=true&allowWatchBookmarks=true';
const PUBLIC_IP = 'flannel.alpha.coreos.com/public-ip';
const ANNOTATIONS = {
  'flannel.alpha.coreos.com/backend-data': '{"VNI":1,"VtepMAC":"12:ea:85:08:6b:a4"}',
  'flannel.alpha.coreos.com/backend-type': 'vxlan',
  'flannel.alpha.coreos.com/kube-subnet-manager': 'true',
  [PUBLIC_IP]: '172.30.0.21',
};
const CONDITIONS = [
  {
    ...{ type: 'NetworkUnavailable', status: 'False' },
    ...{ lastHeartbeatTime: '2026-01-01T00:00:01Z', lastTransitionTime: '2026-01-01T00:00:01Z' },
    ...{ reason: 'FlannelIsUp', message: 'Flannel is running on this node' },
  },
  {
    ...{ type: 'Ready', status: 'True' },
    ...{ lastHeartbeatTime: '2026-01-01T00:00:00Z', lastTransitionTime: '2026-01-01T00:00:00Z' },
    ...{ reason: 'KubeletReady', message: 'kubelet is posting ready status' },
  },
];

/** Brings the counter to `version`, as writes to other resources do. */
function arrive({ server }: World, version: number): void {
  server.store.skipVersions(version - server.store.version);
}

/** The seven nodes, each at the version that was recorded. */
function makeSeven(world: World): void {
  for (const [name, version] of [
    ['n003', 514],
    ['n004', 516],
    ['n005', 518],
    ['n006', 520],
    ['n007', 522],
    ['n001', 527],
    ['n002', 530],
  ] as const) {
    arrive(world, version - 1);
    world.server.createNode(name);
  }
}

/** A node comes, is assigned a podCIDR, annotated, labelled, changed, and goes; twice. */
function live(world: World): void {
  const { server } = world;
  const podCIDR = '10.244.36.0/24';
  server.createNode('life');
  server.updateNode('life', { spec: { podCIDR, podCIDRs: [podCIDR] } });
  arrive(world, 538);
  server.updateNode('life', { metadata: { annotations: ANNOTATIONS } });
  server.updateNode('life', { metadata: { labels: { flannel: 'yes' } } });
  server.updateNode('life', { metadata: { annotations: { [PUBLIC_IP]: '172.30.0.22' } } });
  server.updateNode('life', { metadata: { labels: { flannel: null } } });
  server.deleteNode('life');
  server.createNode('life', { podCidrs: ['10.244.250.0/24'] });
  server.deleteNode('life');
}

/** A bookmark is due between the two times, and says `version`. */
async function passBookmark(world: World, afterMs: number, version: number, beforeMs: number): Promise<void> {
  const { clock } = world;
  await clock.advance(afterMs);
  arrive(world, version);
  await clock.advance(beforeMs - afterMs);
  arrive(world, version + 1);
}

const outlast: Row['play'] = async ({ clock }) => clock.advance(100_000);

const ROWS: Readonly<Record<string, Row>> = {
  '410-watch-too-old': {
    before: (world) => {
      arrive(world, 380);
      world.server.store.compact();
    },
    play: () => Promise.resolve(),
  },
  'watch-future-rv': {
    path: '/api/v1/nodes?watch=true&resourceVersion=100001&timeoutSeconds=8',
    play: async ({ server, clock }) => {
      server.createNode('below');
      await clock.advance(8_000);
    },
  },
  'watch-idle-12s': {
    before: (world) => arrive(world, 530),
    play: async (world) => {
      await passBookmark(world, 9_500, 534, 11_000);
      await world.clock.advance(1_000);
    },
  },
  'watch-no-rv': {
    before: makeSeven,
    play: async ({ clock }) => clock.advance(2_000),
    isShort: true,
  },
  'watch-life-of-a-node': {
    path: `${NODE_PATH}&resourceVersion=534&timeoutSeconds=80`,
    before: (world) => arrive(world, 534),
    play: async (world) => {
      live(world);
      await passBookmark(world, 59_000, 556, 61_000);
      await passBookmark(world, 16_500, 560, 18_000);
      await world.clock.advance(1_000);
    },
  },
  'watch-metadata-only': {
    path: `${NODE_PATH}&resourceVersion=534&timeoutSeconds=30`,
    accept: 'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json',
    before: (world) => arrive(world, 534),
    play: async (world) => {
      live(world);
      await passBookmark(world, 27_500, 549, 29_000);
      await world.clock.advance(1_000);
    },
  },
  'watch-label-selector': {
    path: '/api/v1/nodes?watch=true&resourceVersion=534&timeoutSeconds=30&labelSelector=flannel%3Dyes',
    before: (world) => arrive(world, 534),
    play: async (world) => {
      live(world);
      await world.clock.advance(30_000);
    },
  },
  'watch-future-rv-bookmarks': {
    path: `${NODE_PATH}&resourceVersion=1600&timeoutSeconds=100`,
    before: (world) => arrive(world, 600),
    play: outlast,
  },
  'watch-server-term': {
    path: `${NODE_PATH}&resourceVersion=1`,
    play: ({ server }) => server.stop(),
    outcome: /^(?:ended|ECONNRESET)$/,
  },
  'resume-after-restart-term': {
    path: `${NODE_PATH}&resourceVersion=600&timeoutSeconds=30`,
    before: (world) => {
      arrive(world, 600);
      world.server.store.forgetWatchCache();
    },
    play: outlast,
  },
  'watch-list': {
    options: { hasWatchList: true },
    before: (world) => {
      for (const [name, third, version] of [
        ['node1', 2, 237],
        ['node2', 3, 239],
      ] as const) {
        world.server.createNode(name);
        arrive(world, version - 1);
        const podCIDR = `10.244.${third}.0/24`;
        world.server.updateNode(name, { spec: { podCIDR, podCIDRs: [podCIDR] } });
      }
    },
    play: async (world) => {
      await passBookmark(world, 17_500, 241, 18_500);
      await world.clock.advance(2_000);
    },
  },
};

/** Said elsewhere: these are no streams, or streams of which the recording shows less than a row here does. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  'restart-term': 'below: refused, then served',
  'restart-kill': 'as restart-term',
  'watch-server-kill': 'as watch-server-term',
  'resume-after-restart-kill': 'as resume-after-restart-term',
  'watch-outlives-token': 'below: events go on after the token is gone',
};

const recorded = readRecordings<Recorded>('watches');

t.test('each recorded stream is replayed', (t) => {
  const names = recorded.map(({ name }) => name).sort();
  t.same([...Object.keys(ROWS), ...Object.keys(ELSEWHERE)].sort(), names);
  t.end();
});

async function openWorld(
  t: { teardown(close: () => Promise<void>): void },
  ask: typeof ask1,
  path: string,
  options: ApiServerOptions = {},
): Promise<World> {
  const clock = new FakeClock();
  const server = await ApiServer.open({ ...options, clock });
  t.teardown(() => server.close());
  const ca = server.authority.cert;
  return {
    ...{ server, clock, path },
    ask: (asked, accept = 'application/json') =>
      ask({ url: server.url, ca }, { path: asked, headers: { accept }, token: server.tokens.admin }),
  };
}

for (const ask of [ask1, ask2]) {
  const transport = `HTTP/${ask === ask1 ? '1.1' : '2'}`;
  for (const { name, request, events = [] } of recorded) {
    if (!(name in ROWS)) continue;
    t.test(`${name}, over ${transport}`, async (t) => {
      const row = ROWS[name];
      const world = await openWorld(t, ask, row.path ?? request!.path, row.options);
      row.before?.(world);
      const asked = world.ask(world.path, row.accept);
      const { reply } = asked;
      await reply.until(({ status }) => status === 200);
      await row.play(world, asked);
      await reply.done;
      t.match(reply.outcome, row.outcome ?? /^ended$/);
      t.equal(reply.headers['content-type'], 'application/json');
      const wanted = events.map(([, frame]) => frame);
      const found = row.isShort ? reply.frames.map(abridge) : reply.frames;
      // Versions are compared: both sides count alike.
      t.same(...comparable(found, wanted, { madeAnew: ['uid', 'creationTimestamp'] }));
    });
  }

  t.test(`restart, over ${transport}: refused, then served`, async (t) => {
    const world = await openWorld(t, ask, '/api/v1/nodes?limit=500&resourceVersion=0');
    makeSeven(world);
    await world.server.stop();
    t.equal((await world.ask(world.path).reply.done).outcome, 'ECONNREFUSED');
    await world.server.start();
    const { status, json } = await world.ask(world.path).reply.done;
    t.same([status, (json.items as unknown[]).length], [200, 7]);
  });

  t.test(`no bookmark while nothing was written since a watch began, over ${transport}`, async (t) => {
    const world = await openWorld(t, ask, `${NODE_PATH}&resourceVersion=1&timeoutSeconds=200`);
    world.server.createNode('early');
    const { reply } = world.ask(world.path);
    await reply.until(({ frames }) => frames.length === 1);
    await world.clock.advance(130_000);
    world.server.createNode('late');
    await world.clock.advance(70_000);
    await reply.done;
    t.same(
      reply.frames.map(({ type }) => type),
      ['ADDED', 'ADDED', 'BOOKMARK', 'BOOKMARK'],
      'at 180 s, and before the end',
    );
  });

  t.test(`a watch outlives its token, over ${transport}; new requests do not`, async (t) => {
    const world = await openWorld(t, ask, '/api/v1/nodes?watch=true');
    const { reply } = world.ask(world.path);
    await reply.until(({ status }) => status === 200);
    world.server.access.revokeToken(world.server.tokens.admin);
    world.server.createNode('late');
    await reply.until(({ frames }) => frames.length === 1);
    t.equal((await world.ask(world.path).reply.done).status, 401);
  });

  t.test(`pages, over ${transport}`, async (t) => {
    const world = await openWorld(t, ask, '');
    makePaged(world);
    for (const { request, status, response } of readRecordings<Page>('pages')) {
      const { reply } = world.ask(request.path);
      await reply.done;
      t.equal(reply.status, status);
      t.same(...comparable(reply.json, response, { madeAnew: ['uid', 'creationTimestamp'] }));
    }
  });
}

interface Page {
  readonly request: { readonly path: string };
  readonly status: number;
  readonly response: ApiObject;
}

function abridge({ type, object }: { type: string; object: ApiObject }): ApiObject {
  const { name, resourceVersion } = object.metadata as ApiObject;
  return { type, object: { metadata: { name, resourceVersion } } };
}

/** The seven nodes as the pages show them: one with all that flannel writes, at the versions that were recorded. */
function makePaged(world: World): void {
  const { server } = world;
  for (const [name, third, version] of [
    ['n002', 30, 511],
    ['n003', 31, 514],
    ['n004', 32, 516],
    ['n005', 33, 518],
    ['n006', 34, 520],
    ['n007', 35, 522],
  ] as const) {
    arrive(world, version - 1);
    server.createNode(name, { podCidrs: [`10.244.${third}.0/24`] });
  }
  arrive(world, 526);
  server.createNode('n001', {
    annotations: { ...ANNOTATIONS, [PUBLIC_IP]: '172.30.0.11' },
    podCidrs: ['10.244.28.0/24'],
    status: { conditions: CONDITIONS },
  });
}
