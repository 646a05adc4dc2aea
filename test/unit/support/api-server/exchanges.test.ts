// What a real API server was recorded to answer, asked of the stand-in: status, headers that mean something, and the
// whole of the body, but for what is made anew each time (uid, times) and managedFields, which the stand-in keeps as it
// got them and does not write.

import t from 'tap';
import { ApiServer } from '../../../support/api-server.js';
import { ask1, ask2, type Question, type Reply } from '../../../support/api-server/asker.js';
import { type ApiObject, asObject, without } from '../../../support/api-server/api-object.js';
import { tooManyRequests } from '../../../support/api-server/failures.js';
import { comparable, readRecordings } from '../../../support/api-server/recordings.js';
import { FakeClock, settle } from '../../../support/fake-clock.js';

interface Recorded {
  readonly name: string;
  readonly request?: {
    readonly method: string;
    readonly path: string;
    readonly headers?: Readonly<Record<string, string>>;
    readonly body?: unknown;
  };
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly response: ApiObject | string;
}

interface World {
  readonly server: ApiServer;
  readonly clock: FakeClock;
}

/** How a row is asked. */
interface Row {
  /** @default 'admin' */
  readonly as?: 'admin' | 'flannel' | 'nobody' | 'anonymous' | 'stranger';
  readonly before?: (world: World) => void;
  /** What is asked where the recording left it out, or shortened it. */
  readonly ask?: Partial<Question>;
  /** While the answer is waited for. */
  readonly during?: (world: World) => Promise<void>;
  /** What is compared of an answer whose recording is an abstract. */
  readonly abstract?: (answer: ApiObject) => unknown;
  /** Whether the length differs, and why. */
  readonly length?: string;
}

const VERSION = 527;
const FLANNEL = 'flannel.alpha.coreos.com';
const STRATEGIC = { 'content-type': 'application/strategic-merge-patch+json' };
const ANNOTATIONS = {
  [`${FLANNEL}/backend-data`]: '{"VNI":1,"VtepMAC":"12:ea:85:08:6b:a4"}',
  [`${FLANNEL}/backend-type`]: 'vxlan',
  [`${FLANNEL}/kube-subnet-manager`]: 'true',
  [`${FLANNEL}/public-ip`]: '172.30.0.11',
};
const CONDITION = {
  type: 'NetworkUnavailable',
  status: 'False',
  lastHeartbeatTime: '2026-01-01T00:00:01Z',
  lastTransitionTime: '2026-01-01T00:00:01Z',
  reason: 'FlannelIsUp',
  message: 'Flannel is running on this node',
};
const READY = {
  type: 'Ready',
  status: 'True',
  lastHeartbeatTime: '2026-01-01T00:00:00Z',
  lastTransitionTime: '2026-01-01T00:00:00Z',
  reason: 'KubeletReady',
  message: 'kubelet is posting ready status',
};

const annotate = ({ server }: World): void => {
  server.updateNode('n001', { metadata: { annotations: ANNOTATIONS } });
};
const makeReady = (world: World): void => {
  annotate(world);
  world.server.updateNode('n001', { status: { conditions: [READY] } });
};
const report = (world: World): void => {
  makeReady(world);
  world.server.updateNode('n001', { status: { conditions: [CONDITION] } });
};
/** The version at which the lists were recorded. */
const arrive = (world: World): void => {
  report(world);
  world.server.store.skipVersions(VERSION - world.server.store.version);
};
const conditionTypes = (answer: ApiObject): unknown => ({
  status: {
    conditions: (asObject(answer.status)!.conditions as ApiObject[]).map(({ type }) => type),
  },
});

const ROWS: Readonly<Record<string, Row>> = {
  'node-create': { before: ({ server }) => server.deleteNode('n001'), length: 'no managedFields' },
  'node-get': { length: 'no managedFields' },
  annotate: { as: 'flannel', length: 'no managedFields' },
  'condition-strategic': { as: 'flannel', before: makeReady, length: 'no managedFields' },
  'condition-merge-patch': {
    as: 'flannel',
    before: report,
    ask: { body: { status: { conditions: [CONDITION] } } },
    abstract: conditionTypes,
  },
  '401-bad-token': { as: 'stranger' },
  '403-anonymous': { as: 'anonymous' },
  '403-list': { as: 'nobody' },
  '403-watch': { as: 'nobody' },
  '403-patch-node': { as: 'flannel' },
  '404-node': {},
  '404-patch': {},
  '404-pod': {},
  '409-stale-resource-version': {},
  '422-uid': {},
  '422-annotation-key': {},
  '422-annotations-too-long': {
    ask: {
      method: 'PATCH',
      path: '/api/v1/nodes/n001/status',
      headers: STRATEGIC,
      body: { metadata: { annotations: { 'a.b/long': 'x'.repeat(262_144) } } },
    },
  },
  '400-bad-json': {},
  '415-content-type': {},
  '500-bad-resource-version': {},
  '406-accept': { length: 'the recording is shortened: 284 bytes were announced' },
  '504-future-rv-list': {
    before: arrive,
    during: async ({ server, clock }) => {
      while (server.requests.list().length === 0) await settle();
      await clock.advance(3_000);
    },
  },
  'limit-ignored-with-rv-0': {
    before: arrive,
    abstract: ({ items, ...rest }) => ({ ...rest, items: `[${(items as unknown[]).length} items]` }),
  },
  'list-metadata-only': { before: arrive },
  '400-field-selector': {},
  '410-continue': { before: compactLater },
  '410-exact-rv': { before: compactLater },
  '429-priority-and-fairness': { before: ({ server }) => server.faults.failNext(tooManyRequests()) },
  '401-expired-token': {
    before: ({ server }) => server.access.revokeToken(server.tokens.admin),
    ask: { path: '/api/v1/nodes' },
  },
  '422-change-podcidr': {
    before: ({ server }) => server.createNode('node1', { podCidrs: ['10.244.2.0/24'] }),
    ask: {
      method: 'PATCH',
      path: '/api/v1/nodes/node1',
      headers: STRATEGIC,
      body: { spec: { podCIDR: '10.244.99.0/24', podCIDRs: ['10.244.99.0/24'] } },
    },
  },
  '400-annotation-not-string': {
    ask: {
      method: 'PATCH',
      path: '/api/v1/nodes/n001/status',
      headers: STRATEGIC,
      body: { metadata: { annotations: { [`${FLANNEL}/backend-data`]: { VNI: 1 } } } },
    },
  },
};

function compactLater(world: World): void {
  arrive(world);
  world.server.updateNode('n002', { metadata: { labels: { later: 'yes' } } });
  world.server.store.compact();
}

const recorded = readRecordings<Recorded>('exchanges');

t.test('each recorded row is replayed', (t) => {
  t.same(Object.keys(ROWS).sort(), recorded.map(({ name }) => name).sort());
  t.end();
});

async function openWorld(): Promise<World> {
  const clock = new FakeClock();
  const server = await ApiServer.open({ clock });
  for (const [i, third] of [28, 30, 31, 32, 33, 34, 35].entries())
    server.createNode(`n00${i + 1}`, { podCidrs: [`10.244.${third}.0/24`] });
  return { server, clock };
}

/** The token of a row; undefined: none is sent. */
function tokenOf({ tokens }: ApiServer, as: Row['as']): string | undefined {
  if (as === 'anonymous') return undefined;
  return as === 'stranger' ? 'no-such-token' : tokens[as ?? 'admin'];
}

/** The answer and the recording, as far as they can be compared. */
function bodiesOf(reply: Reply, { abstract }: Row, response: Recorded['response']): [unknown, unknown] {
  if (typeof response === 'string') return [reply.text, response];
  if (abstract !== undefined) return [pick(abstract(reply.json), Object.keys(response)), response];
  return comparable(reply.json, response);
}

function pick(object: unknown, keys: readonly string[]): unknown {
  return Object.fromEntries(Object.entries(object as object).filter(([key]) => keys.includes(key)));
}

for (const ask of [ask1, ask2]) {
  for (const { name, request, status, headers = {}, response } of recorded) {
    t.test(`${name}, over HTTP/${ask === ask1 ? '1.1' : '2'}`, async (t) => {
      const row = ROWS[name];
      const world = await openWorld();
      const { server } = world;
      t.teardown(() => server.close());
      // The tokens of the recording are blanked.
      const sent = without(request?.headers ?? {}, 'authorization') as Record<string, string>;
      row.before?.(world);
      const question: Question = {
        path: '',
        ...request,
        headers: sent,
        token: tokenOf(server, row.as),
        ...row.ask,
      };
      const { reply } = ask({ url: server.url, ca: server.authority.cert }, question);
      await row.during?.(world);
      await reply.done;
      t.equal(reply.status, status);
      t.match(reply.outcome, 'ended');
      const [found, wanted] = bodiesOf(reply, row, response);
      t.same(found, wanted);
      for (const [header, value] of Object.entries(headers)) {
        if (header === 'transfer-encoding' || (header === 'content-length' && row.length !== undefined))
          continue;
        t.equal(reply.headers[header], value, header);
      }
    });
  }
}
