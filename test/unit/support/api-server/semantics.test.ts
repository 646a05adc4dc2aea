// What the recordings do not show of the stand-in: rules of writes, of lists in the past, of selectors and of rights,
// as the API's own documentation has them.

import t from 'tap';
import { ApiServer, type ApiServerOptions } from '../../../support/api-server.js';
import { FLANNEL } from '../../../support/api-server/access.js';
import { type ApiObject, objectAt } from '../../../support/api-server/api-object.js';
import { ask1, type Question, type Reply } from '../../../support/api-server/asker.js';
import { NODES } from '../../../support/api-server/resources.js';
import { applyMergePatch } from '../../../support/api-server/merge-patch.js';
import { applyStrategicPatch } from '../../../support/api-server/strategic-patch.js';

interface World {
  readonly server: ApiServer;
  readonly ask: (path: string, question?: Partial<Question>) => Promise<Reply>;
}

const NODE = '/api/v1/nodes/n1';
const STATUS = `${NODE}/status`;
const STRATEGIC = 'application/strategic-merge-patch+json';
const MERGE = 'application/merge-patch+json';

async function open(
  t: { teardown(close: () => Promise<void>): void },
  options: ApiServerOptions = {},
): Promise<World> {
  const server = await ApiServer.open({ scheme: 'http', ...options });
  t.teardown(() => server.close());
  server.createNode('n1');
  return {
    server,
    ask: (path, question) =>
      ask1({ url: server.url, ca: undefined }, { path, token: server.tokens.admin, ...question }).reply.done,
  };
}

const patch = (body: unknown, type = STRATEGIC): Partial<Question> => ({
  method: 'PATCH',
  headers: { 'content-type': type },
  body,
});

const namesOf = (list: ApiObject): unknown[] =>
  (list.items as ApiObject[]).map((item) => objectAt(item, 'metadata').name);

t.test('patches', (t) => {
  const before = {
    metadata: { annotations: { kept: '1', gone: '2' }, finalizers: ['a'] },
    spec: { taints: [{ key: 'old' }] },
    status: {
      conditions: [
        { type: 'A', status: 'True' },
        { type: 'B', status: 'True', reason: 'r' },
      ],
    },
  };
  const conditions = (...list: ApiObject[]): ApiObject => ({ ...before, status: { conditions: list } });
  const [A, B] = before.status.conditions;
  const cases: { name: string; patch: ApiObject; strategic: ApiObject; merge: ApiObject }[] = [
    {
      name: 'null removes a key',
      patch: { metadata: { annotations: { gone: null, come: '3' } } },
      strategic: { ...before, metadata: { annotations: { kept: '1', come: '3' }, finalizers: ['a'] } },
      merge: { ...before, metadata: { annotations: { kept: '1', come: '3' }, finalizers: ['a'] } },
    },
    {
      name: 'an entry with a merge key is merged into its own',
      patch: { status: { conditions: [{ type: 'B', status: 'False' }] } },
      strategic: conditions(A, { ...B, status: 'False' }),
      merge: conditions({ type: 'B', status: 'False' }),
    },
    {
      name: 'a new entry comes before those that only the server has',
      patch: { status: { conditions: [{ type: 'C' }] } },
      strategic: conditions({ type: 'C' }, A, B),
      merge: conditions({ type: 'C' }),
    },
    {
      name: 'an entry is removed by a directive, of which a merge patch knows nothing',
      patch: { status: { conditions: [{ type: 'A', $patch: 'delete' }] } },
      strategic: conditions(B),
      merge: conditions({ type: 'A', $patch: 'delete' }),
    },
    {
      name: 'a list without a merge key is replaced',
      patch: { spec: { taints: [{ key: 'new' }] } },
      strategic: { ...before, spec: { taints: [{ key: 'new' }] } },
      merge: { ...before, spec: { taints: [{ key: 'new' }] } },
    },
    {
      name: 'a list of values is joined',
      patch: { metadata: { finalizers: ['b', 'a'] } },
      strategic: { ...before, metadata: { ...before.metadata, finalizers: ['a', 'b'] } },
      merge: { ...before, metadata: { ...before.metadata, finalizers: ['b', 'a'] } },
    },
    {
      name: 'a map is replaced by a directive',
      patch: { metadata: { annotations: { $patch: 'replace', only: '1' } } },
      strategic: { ...before, metadata: { annotations: { only: '1' }, finalizers: ['a'] } },
      merge: {
        ...before,
        metadata: {
          annotations: { ...before.metadata.annotations, $patch: 'replace', only: '1' },
          finalizers: ['a'],
        },
      },
    },
  ];
  for (const { name, patch, strategic, merge } of cases) {
    t.same(applyStrategicPatch(NODES, before, patch), strategic, name);
    t.same(applyMergePatch(before, patch), merge, `${name} (merge patch)`);
  }
  t.end();
});

t.test('a write counts once, and one that changes nothing is none', async (t) => {
  const { server, ask } = await open(t);
  const { version } = server.store;
  const annotate = patch({ metadata: { annotations: { 'a.b/c': 'd' } } });
  t.equal(objectAt((await ask(STATUS, annotate)).json, 'metadata').resourceVersion, `${version + 1}`);
  t.equal(objectAt((await ask(STATUS, annotate)).json, 'metadata').resourceVersion, `${version + 1}`);
  server.createPod('default', 'p', 'n1');
  t.equal(server.store.version, version + 2, 'one counter for all');
  await ask(`${STATUS}?dryRun=All`, patch({ metadata: { annotations: { 'a.b/c': 'e' } } }));
  t.equal(server.store.version, version + 2, 'a dry run');
});

t.test('each door to a node changes its part', async (t) => {
  const { server, ask } = await open(t);
  const both = { spec: { providerID: 'x' }, status: { capacity: { cpu: '1' } } };
  await ask(STATUS, patch(both));
  t.match(server.node('n1'), { spec: { providerID: undefined }, status: { capacity: { cpu: '1' } } });
  await ask(NODE, patch({ ...both, status: { capacity: { cpu: '2' } } }));
  t.match(server.node('n1'), { spec: { providerID: 'x' }, status: { capacity: { cpu: '1' } } });
});

t.test('podCIDR is set once for a uid', async (t) => {
  const { server, ask } = await open(t);
  const set = (podCIDR: string): Promise<Reply> =>
    ask(NODE, patch({ spec: { podCIDR, podCIDRs: [podCIDR] } }));
  t.equal((await set('10.244.1.0/24')).status, 200);
  t.equal((await set('10.244.2.0/24')).status, 422);
  server.deleteNode('n1');
  server.createNode('n1');
  t.equal((await set('10.244.2.0/24')).status, 200);
});

t.test('refusals by status and reason', async (t) => {
  const { server, ask } = await open(t);
  const node = server.node('n1')!;
  const metadata = objectAt(node, 'metadata');
  const put = (changed: ApiObject): Partial<Question> => ({
    method: 'PUT',
    body: { ...node, metadata: { ...metadata, ...changed } },
  });
  const remove = (preconditions: ApiObject): Partial<Question> => ({
    method: 'DELETE',
    body: { preconditions },
  });
  const event = (namespace: string): Partial<Question> => ({
    method: 'POST',
    body: { metadata: { generateName: 'n1.' }, involvedObject: { kind: 'Node', name: 'n1', namespace } },
  });
  const asUser = (token: string): Partial<Question> => ({ token });
  const cases: [string, Partial<Question>, number, string][] = [
    [NODE, put({ resourceVersion: '1' }), 409, 'Conflict'],
    [NODE, put({ uid: 'other' }), 409, 'Conflict'],
    [NODE, put({ name: 'other' }), 400, 'BadRequest'],
    [NODE, remove({ uid: 'other' }), 409, 'Conflict'],
    [NODE, remove({ resourceVersion: '1' }), 409, 'Conflict'],
    ['/api/v1/nodes', { method: 'POST', body: { metadata: { name: 'n1' } } }, 409, 'AlreadyExists'],
    ['/api/v1/nodes', { method: 'POST', body: { metadata: {} } }, 422, 'Invalid'],
    ['/api/v1/nodes', { method: 'PUT', body: node }, 405, 'MethodNotAllowed'],
    [NODE, { method: 'POST', body: node }, 405, 'MethodNotAllowed'],
    [`${NODE}/proxy`, {}, 404, 'NotFound'],
    ['/api/v1/secrets', {}, 404, 'NotFound'],
    ['/api/v1/namespaces/x/events', event('y'), 422, 'Invalid'],
    ['/api/v1/namespaces/x/events', event(''), 422, 'Invalid'],
    [STATUS, patch('x'.repeat(3_200_000)), 413, 'RequestEntityTooLarge'],
    ['/api/v1/nodes?resourceVersion=abc', {}, 500, ''],
    ['/api/v1/nodes?resourceVersion=abc&limit=5', {}, 400, 'BadRequest'],
    ['/api/v1/nodes?continue=abc', {}, 400, 'BadRequest'],
    ['/api/v1/nodes?resourceVersionMatch=Exact', {}, 422, 'Invalid'],
    ['/api/v1/nodes?labelSelector=%3F', {}, 400, 'BadRequest'],
    ['/api/v1/nodes?watch=true&sendInitialEvents=true', {}, 422, 'Invalid'],
    ['/api/v1/namespaces/x/pods/p', asUser(server.tokens.nobody), 403, 'Forbidden'],
    ['/metrics', asUser(server.tokens.flannel), 403, 'Forbidden'],
  ];
  for (const [path, question, status, reason] of cases) {
    const reply = await ask(path, question);
    const { code, reason: said = '' } = reply.json;
    t.same([reply.status, code, said], [status, status, reason], `${question.method ?? 'GET'} ${path}`);
  }
  t.equal((await ask(NODE, put({ resourceVersion: undefined }))).status, 200, 'without a version');
  t.equal((await ask(NODE, remove({ uid: metadata.uid }))).status, 200);
});

t.test('what is forbidden is named', async (t) => {
  const { server, ask } = await open(t);
  const token = server.tokens.nobody;
  const messageOf = async (path: string, question: Partial<Question> = {}): Promise<unknown> =>
    (await ask(path, { ...question, token })).json.message;
  t.equal(
    await messageOf('/api/v1/namespaces/kube-flannel/pods/p'),
    'pods "p" is forbidden: User "nobody" cannot get resource "pods" in API group "" in the namespace "kube-flannel"',
  );
  t.equal(
    await messageOf(STATUS, patch({})),
    'nodes "n1" is forbidden: User "nobody" cannot patch resource "nodes/status" in API group "" at the cluster scope',
  );
  server.access.allow(FLANNEL, []);
  t.equal((await ask('/api/v1/nodes', { token: server.tokens.flannel })).status, 403, 'rights can be taken');
  server.access.refusesAnonymous = true;
  t.equal((await ask('/api/v1/nodes', { token: undefined })).status, 401);
});

t.test('a list is of one version, on all its pages', async (t) => {
  const { server, ask } = await open(t);
  for (let i = 2; i <= 5; i++) server.createNode(`n${i}`);
  const first = (await ask('/api/v1/nodes?limit=2')).json;
  const { resourceVersion } = objectAt(first, 'metadata');
  server.deleteNode('n3');
  server.createNode('n9');
  server.updateNode('n4', { metadata: { labels: { new: 'yes' } } });
  const token = objectAt(first, 'metadata').continue as string;
  const rest = (await ask(`/api/v1/nodes?limit=50&continue=${token}`)).json;
  t.same([...namesOf(first), ...namesOf(rest)], ['n1', 'n2', 'n3', 'n4', 'n5']);
  t.notMatch(JSON.stringify(rest), '"new"');
  t.match(rest.metadata, { resourceVersion });
  const then = `resourceVersion=${String(resourceVersion)}`;
  const exact = (await ask(`/api/v1/nodes?${then}&resourceVersionMatch=Exact`)).json;
  t.same(namesOf(exact), ['n1', 'n2', 'n3', 'n4', 'n5']);
  const newer = (await ask(`/api/v1/nodes?${then}&resourceVersionMatch=NotOlderThan&limit=50`)).json;
  t.same(namesOf(newer), ['n1', 'n2', 'n4', 'n5', 'n9']);
  server.store.compact();
  const expired = await ask(`/api/v1/nodes?continue=${token}`);
  t.equal(expired.status, 410);
  const remainder = objectAt(expired.json, 'metadata').continue as string;
  t.same(namesOf((await ask(`/api/v1/nodes?continue=${remainder}`)).json), ['n4', 'n5', 'n9']);
});

t.test('the history is bounded', async (t) => {
  const { server, ask } = await open(t, { historyLimit: 8 });
  for (let i = 0; i < 11; i++) server.updateNode('n1', { metadata: { labels: { round: `${i}` } } });
  const { watchFloor, version } = server.store;
  t.ok(watchFloor > 1 && version - watchFloor <= 10, `from ${watchFloor} to ${version}`);
  const watch = (from: number): string => `/api/v1/nodes?watch=true&timeoutSeconds=1&resourceVersion=${from}`;
  t.match((await ask(watch(watchFloor - 1))).frames, [{ type: 'ERROR', object: { code: 410 } }]);
  t.equal((await ask(watch(watchFloor))).frames.length, version - watchFloor);
});

t.test('selectors', async (t) => {
  const { server, ask } = await open(t);
  server.createNode('n2', { labels: { zone: 'a', 'x.y/z': '1' } });
  server.createNode('n3', { labels: { zone: 'b' } });
  server.createPod('kube-flannel', 'p1', 'n1');
  server.createPod('other', 'p1', 'n2');
  const cases: [string, string[]][] = [
    ['nodes?fieldSelector=metadata.name%3Dn2', ['n2']],
    ['nodes?fieldSelector=metadata.name!%3Dn2', ['n1', 'n3']],
    ['nodes?fieldSelector=spec.unschedulable%3Dfalse,metadata.name%3D%3Dn1', ['n1']],
    ['nodes?labelSelector=zone', ['n2', 'n3']],
    ['nodes?labelSelector=!zone', ['n1']],
    ['nodes?labelSelector=zone!%3Da', ['n1', 'n3']],
    ['nodes?labelSelector=zone+in+(a,c),x.y/z%3D1', ['n2']],
    ['nodes?labelSelector=zone+notin+(a,b)', ['n1']],
    ['pods', ['p1', 'p1']],
    ['pods?fieldSelector=spec.nodeName%3Dn1', ['p1']],
    ['namespaces/other/pods', ['p1']],
    ['namespaces/none/pods', []],
  ];
  for (const [path, names] of cases) t.same(namesOf((await ask(`/api/v1/${path}`)).json), names, path);
});

t.test('events are objects as others are', async (t) => {
  const { server, ask } = await open(t);
  const path = '/api/v1/namespaces/default/events';
  const body = {
    metadata: { generateName: 'n1.' },
    involvedObject: { kind: 'Node', name: 'n1' },
    reason: 'PodCidrMissing',
    count: 1,
  };
  const made = await ask(path, { method: 'POST', body });
  t.equal(made.status, 201);
  const name = objectAt(made.json, 'metadata').name as string;
  t.match(name, /^n1\.\w{5}$/);
  t.equal((await ask(`${path}/${name}`, patch({ count: 2 }, MERGE))).status, 200);
  t.match(server.events(), [{ reason: 'PodCidrMissing', count: 2 }]);
  t.same(namesOf((await ask(`${path}?fieldSelector=involvedObject.name%3Dn1`)).json), [name]);
});

t.test('metadata alone, of one object and of a watch; a list has a form of its own', async (t) => {
  const { ask } = await open(t);
  const accept = (as: string): Partial<Question> => ({
    headers: { accept: `application/json;as=${as};g=meta.k8s.io;v=v1` },
  });
  const one = await ask(NODE, accept('PartialObjectMetadata'));
  t.same(Object.keys(one.json), ['kind', 'apiVersion', 'metadata']);
  t.equal((await ask('/api/v1/nodes', accept('PartialObjectMetadata'))).status, 406);
  t.equal((await ask(NODE, accept('PartialObjectMetadataList'))).status, 406);
  const table = await ask(NODE, {
    headers: { accept: 'application/json;as=Table;g=meta.k8s.io;v=v1,application/json' },
  });
  t.equal(table.json.kind, 'Node');
});

t.test('what was asked can be looked at', async (t) => {
  const { server, ask } = await open(t);
  await ask(`${STATUS}?fieldManager=twill`, patch({ metadata: { labels: { a: 'b' } } }));
  await ask('/api/v1/nodes', { token: 'wrong' });
  t.match(server.requests.list('patch'), [
    {
      resource: 'nodes/status',
      path: STATUS,
      query: { fieldManager: 'twill' },
      headers: { 'content-type': STRATEGIC },
      body: { metadata: { labels: { a: 'b' } } },
      user: 'kubernetes-admin',
      status: 200,
    },
  ]);
  t.match(server.requests.list('list', 'nodes'), [{ user: undefined, status: 401 }]);
  server.requests.clear();
  t.same(server.requests.list(), []);
});
