// What a real API server answers, held against the recordings of another one (1.27.1): statuses, reasons and headers.
//
// The stand-in of test/support/api-server.ts is held against the same rows, so that neither it nor they can drift from
// what a real server does.

import { readFileSync } from 'node:fs';
import t from 'tap';
import { waitFor } from '../support/lab.js';
import {
  type ApiAnswer,
  type ApiRequest,
  type Json,
  type KubeApi,
  KubeCluster,
  kubeUnavailable,
  NAMESPACE,
  STRATEGIC_MERGE,
} from '../support/kube-cluster.js';

interface Row {
  readonly name: string;
  readonly request?: ApiRequest;
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly response: Json | string;
}

const file = new URL('../fixtures/kube/api/exchanges.jsonl', import.meta.url);
const rows = new Map(
  readFileSync(file, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Row)
    .map((row) => [row.name, row]),
);

const asked = new Set<string>();

/** What the row was asked, without the recorded credentials: those are the connection's business. */
function recorded(name: string): ApiRequest {
  const { method, path, body, headers = {} } = rows.get(name)!.request!;
  const kept = Object.entries(headers).filter(([key]) => key !== 'authorization');
  return { method, path, body: body ?? undefined, headers: Object.fromEntries(kept) };
}

const STATUS_PATH = '/api/v1/nodes/n001/status';
const patch = (path: string, body: unknown, type = STRATEGIC_MERGE): ApiRequest => ({
  method: 'PATCH',
  path,
  body,
  headers: { 'content-type': type },
});
const get = (path: string): ApiRequest => ({ method: 'GET', path });

t.test('a real API server answers as recorded', { skip: kubeUnavailable(), timeout: 120_000 }, async (t) => {
  const cluster = await KubeCluster.start();
  t.teardown(() => cluster.close());
  t.comment(`kube-apiserver ${cluster.version}`);
  const account = await cluster.createAccount('flannel');
  const stranger = cluster.userCertificate('nobody');
  const people: Readonly<Record<string, KubeApi>> = {
    flannel: cluster.as({ token: await cluster.tokenOf(account) }),
    expired: cluster.as({ token: cluster.shortTokenOf(account, -1) }),
    wrong: cluster.as({ token: 'no-token-of-anybody' }),
    nobody: cluster.as({ certificate: stranger }),
    anonymous: cluster.as({}),
    admin: cluster.admin,
  };
  t.teardown(() => Object.values(people).forEach((api) => api.disconnect()));

  /** Asks, and compares the answer with the row's: what a client goes by, and not the words. */
  async function check(name: string, as = 'flannel', what = recorded(name)): Promise<ApiAnswer> {
    const row = rows.get(name)!;
    const answer = await people[as].ask(what);
    asked.add(name);
    t.equal(answer.status, row.status, `${name}: ${row.status}`);
    for (const key of ['content-type', 'retry-after'].filter((key) => row.headers?.[key] !== undefined)) {
      t.equal(answer.headers[key], row.headers![key], `${name}: ${key}`);
    }
    if (typeof row.response === 'string') t.equal(answer.body, row.response, `${name}: body`);
    else if (row.status >= 400) {
      const { kind, status, reason, code, details } = answer.body as Json;
      const wanted = row.response;
      t.same([kind, status, reason, code], [wanted.kind, wanted.status, wanted.reason, wanted.code], name);
      const seconds = (of: unknown) => (of as Json | undefined)?.retryAfterSeconds;
      t.equal(seconds(details), seconds(wanted.details), `${name}: retryAfterSeconds`);
    }
    return answer;
  }

  await check('node-create', 'admin');
  for (let i = 2; i <= 7; i++) await cluster.createNode(`n00${i}`);
  await check('node-get');
  const annotated = await check('annotate');
  const annotations = (body: unknown) => ((body as Json).metadata as Json).annotations as Json;
  t.match(annotations(annotated.body), annotations(recorded('annotate').body));
  await cluster.patchNode('n001', { status: { conditions: [{ type: 'Ready', status: 'True' }] } }, '/status');
  const types = (answer: ApiAnswer): unknown[] =>
    (((answer.body as Json).status as Json).conditions as Json[]).map((condition) => condition.type);
  const condition = recorded('condition-strategic').body;
  t.same(types(await check('condition-strategic')).sort(), ['NetworkUnavailable', 'Ready']);
  const { path } = recorded('condition-merge-patch');
  const merged = patch(path, condition, 'application/merge-patch+json');
  t.same(
    types(await check('condition-merge-patch', 'flannel', merged)),
    ['NetworkUnavailable'],
    'Ready is lost',
  );

  await check('401-bad-token', 'wrong');
  await check('401-expired-token', 'expired', get('/api/v1/nodes'));
  await check('403-anonymous', 'anonymous');
  await check('403-list', 'nobody');
  await check('403-watch', 'nobody');
  await check('403-patch-node');
  for (const name of ['404-node', '404-patch', '404-pod']) await check(name);
  await check('409-stale-resource-version');
  await check('422-uid');
  await check('422-annotation-key');
  const long = { metadata: { annotations: { a: 'x'.repeat(262_144) } } };
  await check('422-annotations-too-long', 'flannel', patch(STATUS_PATH, long));
  const object = { metadata: { annotations: { a: { VNI: 1 } } } };
  await check('400-annotation-not-string', 'flannel', patch(STATUS_PATH, object));
  await cluster.createNode('other', { podCidrs: ['10.244.77.0/24'] });
  const change = { spec: { podCIDR: '10.244.78.0/24', podCIDRs: ['10.244.78.0/24'] } };
  await check('422-change-podcidr', 'admin', patch('/api/v1/nodes/other', change));
  await cluster.deleteNode('other');
  for (const name of ['400-bad-json', '415-content-type', '500-bad-resource-version', '406-accept']) {
    await check(name);
  }
  await check('400-field-selector');
  await check('504-future-rv-list');

  const all = (await check('limit-ignored-with-rv-0')).body as { metadata: Json; items: Json[] };
  t.equal(all.items.length, 7);
  t.notOk(all.metadata.continue);
  const bare = (await check('list-metadata-only')).body as { kind: string; metadata: Json; items: Json[] };
  t.equal(bare.kind, 'PartialObjectMetadataList');
  t.notOk(bare.items[0].spec);
  t.match(annotations(bare.items[0]), annotations(recorded('annotate').body));

  const first = (await cluster.admin.must('GET', '/api/v1/nodes?limit=3')) as { metadata: Json };
  const { continue: token, resourceVersion } = first.metadata as Record<string, string>;
  await cluster.annotateNode('n001', { later: 'yes' });
  await cluster.compact();
  const next = get(`/api/v1/nodes?limit=3&continue=${token}`);
  const expired = await check('410-continue', 'flannel', next);
  t.type(
    ((expired.body as Json).metadata as Json).continue,
    'string',
    'a token for what is left of the list',
  );
  const exact = `/api/v1/nodes?limit=500&resourceVersion=${resourceVersion}&resourceVersionMatch=Exact`;
  await check('410-exact-rv', 'flannel', get(exact));

  await narrow(cluster);
  const { left } = await crowd(people.flannel);
  await check('429-priority-and-fairness', 'flannel', get('/api/v1/nodes?limit=500'));
  await left;
  t.same([...asked].sort(), [...rows.keys()].sort(), 'every row was asked');
});

/** Gives the service accounts of NAMESPACE a priority level that has room for few requests and queues none. */
async function narrow(cluster: KubeCluster): Promise<void> {
  const flow = '/apis/flowcontrol.apiserver.k8s.io/v1beta1';
  const metadata = { name: 'narrow' };
  await cluster.admin.must('POST', `${flow}/prioritylevelconfigurations`, {
    metadata,
    spec: { type: 'Limited', limited: { assuredConcurrencyShares: 1, limitResponse: { type: 'Reject' } } },
  });
  const subject = { kind: 'ServiceAccount', serviceAccount: { name: '*', namespace: NAMESPACE } };
  const everything = { verbs: ['*'], apiGroups: ['*'], resources: ['*'], clusterScope: true };
  await cluster.admin.must('POST', `${flow}/flowschemas`, {
    metadata,
    spec: {
      priorityLevelConfiguration: metadata,
      matchingPrecedence: 100,
      rules: [{ subjects: [subject], resourceRules: [{ ...everything, namespaces: ['*'] }] }],
    },
  });
}

/** Resolves when there is no room for another request; `left` when there is again, seconds later. */
async function crowd(api: KubeApi): Promise<{ left: Promise<unknown> }> {
  const waiting: Promise<unknown>[] = [];
  let isFull = false;
  await waitFor(() => {
    // Each is kept for 3 s, in which the server waits for that revision.
    const one = api.ask(get('/api/v1/nodes?resourceVersion=900000'));
    waiting.push(one.then(({ status }) => (isFull ||= status === 429)));
    return isFull;
  }, 'a request to be refused');
  return { left: Promise.all(waiting) };
}
