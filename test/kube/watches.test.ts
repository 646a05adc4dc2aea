// What a real API server says in a watch, held against the recordings of another one (1.27.1): which events come, in
// which order, and how a watch ends.
//
// Left out: bookmarks shortly before the end of a watch and the watch-list, which 1.20 does not know.

import { readFileSync } from 'node:fs';
import t from 'tap';
import { waitFor } from '../support/lab.js';
import {
  type Json,
  type KubeApi,
  KubeCluster,
  kubeUnavailable,
  type RawEvent,
} from '../support/kube-cluster.js';

interface Row {
  readonly name: string;
  readonly events: readonly (readonly [seconds: number, event: RawEvent])[];
}

const rows = new Map(
  readFileSync(new URL('../fixtures/kube/api/watches.jsonl', import.meta.url), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Row)
    .map((row) => [row.name, row.events?.map(([, event]) => event) ?? []]),
);

/** A watch with all it has said so far. */
interface Seen {
  readonly events: RawEvent[];
  readonly ended: Promise<void>;
}

async function watch(api: KubeApi, query: string, accept?: string): Promise<Seen> {
  const events: RawEvent[] = [];
  const path = `/api/v1/nodes?watch=true&allowWatchBookmarks=true&${query}`;
  const { ended } = await api.watch(path, (event) => events.push(event), accept);
  return { events, ended };
}

const metadataOf = (object: Json): Json => object.metadata as Json;

/** What a client goes by, of each event but bookmarks: these come when they like. */
function outline(events: readonly RawEvent[]): unknown[] {
  const annotations = (object: Json): string[] =>
    Object.keys((metadataOf(object).annotations ?? {}) as Json)
      .filter((key) => key.startsWith('flannel'))
      .sort();
  return events
    .filter(({ type }) => type !== 'BOOKMARK')
    .map(({ type, object }) => ({
      type,
      kind: object.kind,
      name: metadataOf(object).name,
      labels: metadataOf(object).labels,
      annotations: annotations(object),
      hasPodCidr: (object.spec as Json | undefined)?.podCIDR !== undefined,
    }));
}

const ANNOTATIONS = Object.fromEntries(
  ['backend-data', 'backend-type', 'kube-subnet-manager', 'public-ip'].map((key) => [
    `flannel.alpha.coreos.com/${key}`,
    'x',
  ]),
);

const skip = kubeUnavailable();

t.test('watches of a real API server go as recorded', { skip, timeout: 120_000 }, async (t) => {
  const cluster = await KubeCluster.start();
  t.teardown(() => cluster.close());
  const api = cluster.as({ token: await cluster.tokenOf(await cluster.createAccount('flannel')) });
  t.teardown(() => api.disconnect());
  await cluster.createNodeWithPodCidr('n001');
  const version = async (): Promise<string> =>
    String(metadataOf(await api.must('GET', '/api/v1/nodes')).resourceVersion);

  t.test('the life of a node, whole, as metadata, and by a label', async (t) => {
    const from = `resourceVersion=${await version()}&timeoutSeconds=100`;
    const whole = await watch(api, from);
    const metadata = await watch(
      api,
      from,
      'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json',
    );
    const labelled = await watch(api, `${from}&labelSelector=flannel%3Dyes`);
    await cluster.createNodeWithPodCidr('life');
    await cluster.patchNode('life', { metadata: { annotations: ANNOTATIONS } }, '/status');
    await cluster.patchNode('life', { metadata: { labels: { flannel: 'yes' } } });
    await cluster.annotateNode('life', { 'flannel.alpha.coreos.com/public-ip': '172.30.0.12' });
    await cluster.patchNode('life', { metadata: { labels: { flannel: null } } });
    await cluster.deleteNode('life');
    await cluster.createNode('life', { podCidrs: ['10.244.250.0/24'] });
    await cluster.deleteNode('life');
    for (const [name, { events }] of Object.entries({
      'watch-life-of-a-node': whole,
      'watch-metadata-only': metadata,
      'watch-label-selector': labelled,
    })) {
      const wanted = outline(rows.get(name)!);
      await waitFor(() => outline(events).length >= wanted.length, `${name}: ${wanted.length} events`);
      t.same(outline(events), wanted, name);
    }
    const versions = whole.events.map(({ object }) => Number(metadataOf(object).resourceVersion));
    t.same(
      versions,
      [...versions].sort((a, b) => a - b),
      'versions rise, the one of a deletion too',
    );
  });

  t.test('without a version, what exists is told first; the end is clean', async (t) => {
    const { events, ended } = await watch(api, 'timeoutSeconds=1');
    await ended;
    t.same(
      events.map(({ type, object }) => [type, metadataOf(object).name]),
      [['ADDED', 'n001']],
    );
  });

  t.test('from a version of the future: nothing, not even what happens', async (t) => {
    const { events, ended } = await watch(api, 'resourceVersion=900000&timeoutSeconds=2');
    await cluster.annotateNode('n001', { future: 'no' });
    await ended;
    t.same(events, rows.get('watch-future-rv'));
  });

  t.test('a watch outlives its token, whose next request is refused', async (t) => {
    const account = await cluster.createAccount('short');
    const short = cluster.as({ token: cluster.shortTokenOf(account, 3) });
    const { events } = await watch(short, `resourceVersion=${await version()}`);
    const ask = async (): Promise<number> =>
      (await short.ask({ method: 'GET', path: '/api/v1/nodes' })).status;
    await waitFor(async () => (await ask()) === 401, 'the token to end', 30_000);
    await cluster.annotateNode('n001', { later: 'yes' });
    await waitFor(() => events.length > 0, 'an event');
    t.equal(events[0].type, 'MODIFIED');
    short.disconnect();
  });

  t.test('a server that is killed ends the watch at once, and goes on where it was', async (t) => {
    const from = await version();
    const { events, ended } = await watch(api, `resourceVersion=${from}`);
    const killedAtMs = performance.now();
    await cluster.stopApiServer();
    await ended;
    t.ok(performance.now() - killedAtMs < 5000);
    t.same(events, []);
    await cluster.startApiServer();
    await cluster.annotateNode('n001', { restarted: 'yes' });
    const resumed = await watch(api, `resourceVersion=${from}`);
    await waitFor(() => resumed.events.length > 0, 'the event');
    t.same(
      resumed.events.map(({ type }) => type),
      ['MODIFIED'],
    );
  });

  t.test('from a version that is gone: 200, one ERROR, the end', async (t) => {
    const { events, ended } = await watch(api, 'resourceVersion=1');
    await ended;
    const [wanted] = rows.get('410-watch-too-old')!;
    t.equal(events.length, 1);
    t.equal(events[0].type, 'ERROR');
    for (const key of ['kind', 'status', 'reason', 'code'])
      t.equal(events[0].object[key], wanted.object[key]);
  });
});
