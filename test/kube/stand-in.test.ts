// The stand-in (test/support/api-server.ts) beside a real API server: the same requests to both, in the same order,
// and answers that are the same but for what is made anew each time.
//
// The recordings hold what flannel says; these are requests that nobody recorded: preconditions, methods that are not
// there, lists in the past, selectors, directives in patches.

import { readFileSync } from 'node:fs';
import t from 'tap';
import { ApiServer } from '../support/api-server.js';
import { ask1, type Question, type Reply } from '../support/api-server/asker.js';
import { type ApiObject, asObject, objectAt, textAt } from '../support/api-server/api-object.js';
import { KubeCluster, kubeUnavailable } from '../support/kube-cluster.js';

type Ask = (question: Question) => Promise<Reply>;

const STRATEGIC = 'application/strategic-merge-patch+json';
const MERGE = 'application/merge-patch+json';
const NODE = '/api/v1/nodes/n1';
const STATUS = `${NODE}/status`;

const get = (path: string): Question => ({ path });
const patch = (path: string, body: unknown, type = STRATEGIC): Question => ({
  method: 'PATCH',
  path,
  body,
  headers: { 'content-type': type },
});
const create = (path: string, body: unknown): Question => ({ method: 'POST', path, body });
const node = (name: string, more: ApiObject = {}): ApiObject => ({
  metadata: {
    name,
    labels: { zone: name < 'n3' ? 'a' : 'b' },
    annotations: { 'node.alpha.kubernetes.io/ttl': '0' },
  },
  ...more,
});
const remove = (path: string, preconditions: ApiObject = {}): Question => ({
  method: 'DELETE',
  path,
  body: { preconditions },
});
const CONDITION = { type: 'Ready', status: 'True', reason: 'KubeletReady', message: 'posting' };

/** Asked in this order of servers that have no nodes. */
const REQUESTS: readonly Question[] = [
  create('/api/v1/nodes', node('n1')),
  create('/api/v1/nodes', node('n2', { spec: { podCIDR: '10.1.2.0/24', podCIDRs: ['10.1.2.0/24'] } })),
  create('/api/v1/nodes', node('n3', { spec: { podCIDR: '10.1.3.0/24' } })),
  create('/api/v1/nodes', node('n1')),
  create('/api/v1/nodes', { metadata: {} }),
  create('/api/v1/nodes?dryRun=All', node('n9')),
  get('/api/v1/nodes/n9'),
  // Patches.
  patch(STATUS, { metadata: { annotations: { 'a.b/c': 'd' }, labels: { l: 'm' } } }),
  patch(STATUS, { metadata: { annotations: { 'a.b/c': null } } }),
  patch(STATUS, { status: { conditions: [CONDITION] } }),
  patch(STATUS, { status: { conditions: [{ type: 'NetworkUnavailable', status: 'False' }] } }),
  patch(STATUS, { status: { conditions: [{ type: 'Ready', status: 'False' }] } }),
  patch(STATUS, { status: { conditions: [{ type: 'Ready', $patch: 'delete' }] } }),
  patch(STATUS, { spec: { providerID: 'x' }, status: { capacity: { cpu: '1' } } }),
  patch(NODE, { spec: { providerID: 'x' }, status: { capacity: { cpu: '2' } } }),
  patch(NODE, { spec: { podCIDR: '10.1.1.0/24', podCIDRs: ['10.1.1.0/24'] } }),
  patch(NODE, { spec: { podCIDR: '10.1.9.0/24', podCIDRs: ['10.1.9.0/24'] } }),
  patch(NODE, { spec: { unschedulable: true } }, MERGE),
  patch(NODE, { metadata: { labels: { l: null } } }, MERGE),
  patch(NODE, { metadata: { annotations: { $patch: 'replace', 'only.one/left': '1' } } }),
  patch(STATUS, { metadata: { uid: 'other' } }),
  patch(STATUS, { metadata: { resourceVersion: '1' } }),
  patch(STATUS, { metadata: { annotations: { 'a.b/c': 1 } } }),
  patch(STATUS, { metadata: { annotations: { 'UPPER.com/x': '1' } } }),
  patch(STATUS, { metadata: { annotations: { '-x': '1' } } }),
  patch(STATUS, { metadata: { annotations: { 'a_b/c': '1' } } }),
  patch(STATUS, { metadata: { annotations: { '/c': '1' } } }),
  patch(STATUS, { metadata: { annotations: { [`a/${'c'.repeat(64)}`]: '1' } } }),
  patch(STATUS, '{"metadata":'),
  patch(STATUS, '{"metadata":{}', 'text/plain'),
  patch('/api/v1/nodes/none', {}),
  // Methods and paths.
  create(NODE, {}),
  { method: 'PUT', path: '/api/v1/nodes', body: {} },
  { method: 'PATCH', path: '/api/v1/nodes', body: {}, headers: { 'content-type': MERGE } },
  get('/api/v1/nonsense'),
  get('/api/v1/nonsense/n1'),
  get(`${NODE}/nonsense`),
  get('/nonsense'),
  get('/healthz'),
  // Whole objects.
  { method: 'PUT', path: NODE, body: node('other') },
  { method: 'PUT', path: NODE, body: { metadata: { name: 'n1', uid: 'other' } } },
  { method: 'PUT', path: NODE, body: { metadata: { name: 'n1', resourceVersion: '1' } } },
  { method: 'PUT', path: '/api/v1/nodes/none', body: node('none') },
  remove(NODE, { uid: 'other' }),
  remove(NODE, { resourceVersion: '1' }),
  remove('/api/v1/nodes/none'),
  // Lists.
  get('/api/v1/nodes'),
  get('/api/v1/nodes?limit=1&resourceVersion=0'),
  get('/api/v1/nodes?resourceVersion=abc'),
  get('/api/v1/nodes?resourceVersion=abc&limit=1'),
  get(`${NODE}?resourceVersion=0`),
  get('/api/v1/nodes?resourceVersionMatch=Exact'),
  get('/api/v1/nodes?resourceVersion=0&resourceVersionMatch=Exact'),
  get('/api/v1/nodes?resourceVersion=1&resourceVersionMatch=Nonsense'),
  get('/api/v1/nodes?continue=abc'),
  get('/api/v1/nodes?fieldSelector=metadata.name%3Dn2'),
  get('/api/v1/nodes?fieldSelector=metadata.name!%3Dn2'),
  get('/api/v1/nodes?fieldSelector=spec.unschedulable%3Dtrue'),
  get('/api/v1/nodes?fieldSelector=status.phase%3Dx'),
  get('/api/v1/nodes?labelSelector=zone'),
  get('/api/v1/nodes?labelSelector=!zone'),
  get('/api/v1/nodes?labelSelector=zone!%3Da'),
  get('/api/v1/nodes?labelSelector=zone+in+(a,c)'),
  get('/api/v1/nodes?labelSelector=zone+notin+(a)'),
  get('/api/v1/namespaces/default/pods'),
  get('/api/v1/pods?fieldSelector=spec.nodeName%3Dn1'),
  get('/api/v1/namespaces/default/pods/none'),
  // Events.
  create('/api/v1/namespaces/default/events', {
    metadata: { name: 'e1' },
    involvedObject: { kind: 'Node', name: 'n1' },
    reason: 'R',
    message: 'm',
    type: 'Normal',
    count: 1,
  }),
  create('/api/v1/namespaces/kube-system/events', {
    metadata: { name: 'e2' },
    involvedObject: { kind: 'Node', name: 'n1' },
  }),
  create('/api/v1/namespaces/default/events', {
    metadata: { name: 'e3', namespace: 'kube-system' },
    involvedObject: { kind: 'Node', name: 'n1' },
  }),
  patch('/api/v1/namespaces/default/events/e1', { count: 2 }),
  get('/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Dn1'),
  // Forms.
  {
    ...get(NODE),
    headers: { accept: 'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1' },
  },
  {
    ...get('/api/v1/nodes'),
    headers: { accept: 'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1' },
  },
  {
    ...get(NODE),
    headers: { accept: 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1' },
  },
  remove('/api/v1/nodes/n3'),
];

/** Of somebody without rights. */
const FORBIDDEN: readonly Question[] = [
  get('/api/v1/namespaces/kube-system/pods/p'),
  get('/api/v1/pods'),
  get('/metrics'),
  get('/api/v1/nonsense'),
  patch(STATUS, {}),
  create('/api/v1/namespaces/default/events', {}),
  remove(NODE),
  remove('/api/v1/nodes'),
];

/** Why two answers may differ in their words; their status and reason do not. */
const DIFFERENT: Readonly<Record<string, string>> = {
  'PATCH /api/v1/nodes/n1 {"spec":{"podCIDR":"10.1.9.0/24","podCIDRs":["10.1.9.0/24"]}}':
    '1.20 names a second cause, 1.27 does not',
  'PATCH /api/v1/nodes/n1/status "{\\"metadata\\":"': '1.20 says "unexpected EOF"',
  'GET /nonsense': 'the paths that there are',
};

const MADE_ANEW = ['uid', 'resourceVersion', 'creationTimestamp', 'managedFields', 'selfLink', 'continue'];

/** Without what is made anew each time; lists in order, which those of the watch cache are not. */
function reduce(value: unknown): unknown {
  if (typeof value === 'string') {
    const uids = /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g;
    return value.replace(uids, '<uid>').replace(/in record \(\d+\)/, 'in record (<version>)');
  }
  if (Array.isArray(value)) {
    const entries = value.map(reduce);
    return entries.every((entry) => nameOf(entry) !== '')
      ? entries.sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1))
      : entries;
  }
  const object = asObject(value);
  if (object === undefined) return value;
  const kept = Object.entries(object).filter(([key]) => !MADE_ANEW.includes(key));
  return Object.fromEntries(kept.map(([key, inner]) => [key, reduce(inner)]));
}

function nameOf(value: unknown): string {
  return textAt(objectAt(asObject(value) ?? {}, 'metadata'), 'name') ?? '';
}

function describe({ method = 'GET', path, body }: Question): string {
  return `${method} ${path}${body === undefined ? '' : ` ${JSON.stringify(body).slice(0, 90)}`}`;
}

t.test('as a real server', { skip: kubeUnavailable(), timeout: 120_000 }, async (t) => {
  const cluster = await KubeCluster.start({ hasControllerManager: false });
  t.teardown(() => cluster.close());
  t.comment(`kube-apiserver ${cluster.version}`);
  const server = await ApiServer.open();
  t.teardown(() => server.close());
  const real = (user: string, groups: readonly string[]): Ask => {
    const { certFile, keyFile } = cluster.userCertificate(user, groups);
    const [ca, cert, key] = [cluster.caFile, certFile, keyFile].map((file) => readFileSync(file, 'utf8'));
    return (question) => ask1({ url: cluster.url, ca, cert, key }, question).reply.done;
  };
  const standIn = (token: string): Ask => {
    const to = { url: server.url, ca: server.authority.cert };
    return (question) => ask1(to, { ...question, token }).reply.done;
  };
  const asAdmin = [real('admin', ['system:masters']), standIn(server.tokens.admin)] as const;
  const asNobody = [real('nobody', []), standIn(server.tokens.nobody)] as const;

  for (const [questions, [askReal, askStandIn]] of [
    [REQUESTS, asAdmin],
    [FORBIDDEN, asNobody],
  ] as const) {
    for (const question of questions) {
      const what = describe(question);
      const show = what in DIFFERENT ? showBriefly : showAll;
      const wanted = show(await askReal(question));
      t.same(show(await askStandIn(question)), wanted, what);
    }
  }
  const [wanted, found] = await Promise.all(asAdmin.map(tellThePast));
  t.same(found, wanted, 'lists and watches of the past');

  const told = await Promise.all(
    [cluster, server].map(async (each, i) => {
      const ask = asAdmin[i];
      const { metadata } = (await ask(get('/api/v1/nodes'))).json as { metadata: Record<string, string> };
      await ask(patch('/api/v1/nodes/p1', { metadata: { labels: { round: '1' } } }));
      await (each instanceof KubeCluster ? each.restartApiServer() : each.restart());
      return tellAfterRestart(ask, metadata.resourceVersion);
    }),
  );
  t.same(told[1], told[0], 'after a restart');
});

/** What is left of the past when the API server was started again: etcd's, and not the watch cache's. */
async function tellAfterRestart(ask: Ask, version: string): Promise<unknown> {
  const watch = await ask(get(`/api/v1/nodes?watch=true&timeoutSeconds=1&resourceVersion=${version}`));
  const list = await ask(get(`/api/v1/nodes?resourceVersion=${version}&resourceVersionMatch=Exact`));
  const now = (await ask(get('/api/v1/nodes'))).json.metadata as Record<string, string>;
  const from = `timeoutSeconds=1&resourceVersion=${now.resourceVersion}`;
  return {
    watch: watch.frames.map(({ type, object: { code, reason } }) => [type, code, reason]),
    list: reduce(list.json),
    fromNow: (await ask(get(`/api/v1/nodes?watch=true&${from}`))).frames,
  };
}

/** Lists and watches from a version on, of a server with some nodes. */
async function tellThePast(ask: Ask): Promise<unknown> {
  const must = async (question: Question): Promise<ApiObject> => {
    const { status, text, json } = await ask(question);
    if (status > 299) throw new Error(`${describe(question)}: ${text}`);
    return json;
  };
  for (let i = 1; i <= 5; i++) await must(create('/api/v1/nodes', node(`p${i}`)));
  const first = await must(get('/api/v1/nodes?limit=3'));
  const { resourceVersion, continue: token } = first.metadata as Record<string, string>;
  await must(remove('/api/v1/nodes/p3'));
  await must(create('/api/v1/nodes', node('p9')));
  await must(patch('/api/v1/nodes/p4', { metadata: { labels: { zone: 'c', new: 'yes' } } }));
  await must(patch('/api/v1/nodes/p4', { metadata: { labels: { new: 'yes' } } }));
  await must(patch('/api/v1/nodes/p4', { metadata: { labels: { zone: 'b' } } }));
  const from = `resourceVersion=${resourceVersion}`;
  const watch = async (query: string): Promise<unknown> => {
    const { frames } = await ask(get(`/api/v1/nodes?watch=true&timeoutSeconds=1&${query}`));
    return frames.map(({ type, object }) => [type, reduce(object)]);
  };
  const byName = (frames: unknown): unknown[] =>
    (frames as unknown[]).map((frame) => JSON.stringify(frame)).sort();
  return [
    reduce(first),
    reduce(await must(get(`/api/v1/nodes?limit=50&continue=${token}`))),
    reduce(await must(get(`/api/v1/nodes?${from}&resourceVersionMatch=Exact`))),
    reduce(await must(get(`/api/v1/nodes?${from}&resourceVersionMatch=Exact&limit=1`))),
    reduce(await must(get(`/api/v1/nodes?${from}&resourceVersionMatch=NotOlderThan`))),
    reduce(await must(get(`/api/v1/nodes?${from}&limit=50`))),
    reduce(await must(get(`/api/v1/nodes?${from}`))),
    await watch(from),
    await watch(`${from}&labelSelector=zone%3Db`),
    await watch(`${from}&fieldSelector=metadata.name%3Dp3`),
    byName(await watch('resourceVersion=0&fieldSelector=metadata.name!%3Dp4')),
    byName(await watch('labelSelector=new')),
  ];
}

function showAll({ status, headers, text }: Reply): unknown {
  const type = headers['content-type'];
  return [status, type, type === 'application/json' ? reduce(JSON.parse(text)) : text];
}

function showBriefly({ status, headers, json: { code, reason } }: Reply): unknown {
  return [status, headers['content-type'], code, reason];
}
