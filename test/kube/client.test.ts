// The client of src/store/kube against a real API server, over HTTP/2.

import { copyFileSync, writeFileSync } from 'node:fs';
import t from 'tap';
import type { ApiObject, KubeClient, WatchEvent } from '../../src/store/kube/api/client.js';
import { KubeFault } from '../../src/store/kube/api/faults.js';
import { HttpKubeClient } from '../../src/store/kube/api/http-client.js';
import { waitFor } from '../support/lab.js';
import { KubeCluster, kubeUnavailable } from '../support/kube-cluster.js';

const skip = kubeUnavailable();
const NODES = '/api/v1/nodes';
const { signal } = new AbortController();

const metadataOf = (object: ApiObject): ApiObject => object.metadata as ApiObject;
const nothing = (): void => undefined;

/** The fault that a call ends with. */
async function faultOf(call: Promise<unknown>): Promise<KubeFault> {
  const outcome: unknown = await call.catch((error: unknown) => error);
  if (outcome instanceof KubeFault) return outcome;
  throw new Error(`expected a fault, got ${JSON.stringify(outcome)}`, { cause: outcome });
}

/** A watch from a version on, with what it has told so far. */
function watchFrom(client: KubeClient, resourceVersion: string, more: Readonly<Record<string, string>> = {}) {
  const events: WatchEvent[] = [];
  let opened = (): void => undefined;
  const isOpen = new Promise<void>((resolve) => (opened = resolve));
  const query = { allowWatchBookmarks: 'true', resourceVersion, ...more };
  const ended = client.watch(
    NODES,
    query,
    { onOpen: opened, onEvent: (event) => events.push(event) },
    signal,
  );
  ended.catch(nothing); // for who does not wait for it
  return { events, isOpen, ended };
}

t.test('the client and a real API server', { skip, timeout: 200_000 }, async (t) => {
  const cluster = await KubeCluster.start({ hasControllerManager: false });
  t.teardown(() => cluster.close());
  const account = await cluster.createAccount('flannel');
  const open = async (file: string): Promise<HttpKubeClient> => {
    const client = await HttpKubeClient.open({ apiUrl: '', kubeconfigFile: file }, {});
    t.teardown(() => client.close());
    return client;
  };
  const client = await open(await cluster.kubeconfigFor(account));
  for (const name of ['n1', 'n2', 'n3'])
    await cluster.createNode(name, { podCidrs: [`10.244.${name[1]}.0/24`] });
  const newest = async (): Promise<string> => (await client.list(NODES, {}, nothing, signal)).resourceVersion;

  t.test('lists, whole, in pages and as metadata', async (t) => {
    const names: unknown[] = [];
    const take = (item: ApiObject): unknown => names.push(metadataOf(item).name);
    const all = await client.list(NODES, { limit: '500', resourceVersion: '0' }, take, signal);
    t.same(names.splice(0).sort(), ['n1', 'n2', 'n3']);
    t.match(all.resourceVersion, /^\d+$/);
    t.equal(all.continueToken, undefined);
    const page = await client.list(NODES, { limit: '2' }, take, signal);
    const rest = await client.list(NODES, { limit: '2', continue: page.continueToken ?? '' }, take, signal);
    t.same([names.splice(0), rest.continueToken], [['n1', 'n2', 'n3'], undefined]);
    const bare: ApiObject[] = [];
    await client.list(NODES, {}, (item) => bare.push(item), signal, { metadataOnly: true });
    t.equal(bare.length, 3);
    t.notOk(bare[0].spec);
  });

  t.test('patches annotations and conditions of a node through its status', async (t) => {
    await cluster.patchNode('n1', { status: { conditions: [{ type: 'Ready', status: 'True' }] } }, '/status');
    const patch = {
      metadata: { annotations: { 'org.com/a': 'b' } },
      status: { conditions: [{ type: 'NetworkUnavailable', status: 'False' }] },
    };
    const patched = await client.patch(`${NODES}/n1/status`, patch, signal);
    t.match(metadataOf(patched).annotations, { 'org.com/a': 'b', 'node.alpha.kubernetes.io/ttl': '0' });
    const conditions = (patched.status as ApiObject).conditions as ApiObject[];
    t.same(conditions.map(({ type }) => type).sort(), ['NetworkUnavailable', 'Ready']);
    t.match(await client.get(`${NODES}/n1`, signal), { metadata: metadataOf(patched) });
  });

  t.test('names what was refused', async (t) => {
    async function check(call: Promise<unknown>, words: string, retryAfterMs?: number): Promise<void> {
      const fault = await faultOf(call);
      const { status, reason, message } = fault;
      const [subject] = message.split(' at ');
      t.equal(`${subject}: ${status} ${reason}`, `cannot ${words}`);
      t.ok(message.includes(cluster.url) && !message.includes('\n'), message);
      t.equal(fault.retryAfterMs, retryAfterMs);
    }
    const events = '/api/v1/namespaces/default/events';
    const status = `${NODES}/n1/status`;
    await check(client.get(`${NODES}/none`, signal), 'get nodes: 404 NotFound');
    await check(client.patch(`${NODES}/n1`, {}, signal), 'patch nodes: 403 Forbidden');
    await check(client.create(events, {}, signal), 'create events: 403 Forbidden');
    await check(client.list('/api/v1/pods', {}, nothing, signal), 'list pods: 403 Forbidden');
    const ofAnother = { metadata: { uid: 'x' } };
    await check(client.patch(status, ofAnother, signal), 'patch nodes/status: 422 Invalid');
    const future = { resourceVersion: '900000' };
    await check(client.list(NODES, future, nothing, signal), 'list nodes: 504 Timeout', 1000);
  });

  t.test('watches to the end', async (t) => {
    const { events, isOpen, ended } = watchFrom(client, await newest(), { timeoutSeconds: '2' });
    await isOpen;
    await cluster.createNode('w');
    await cluster.annotateNode('w', { 'org.com/a': 'b' });
    await cluster.deleteNode('w');
    await ended;
    t.same(
      events.map(({ type, object }) => [type, metadataOf(object).name]),
      [
        ['ADDED', 'w'],
        ['MODIFIED', 'w'],
        ['DELETED', 'w'],
      ],
    );
  });

  t.test('a client certificate is as good as a token', async (t) => {
    const { certFile, keyFile } = cluster.userCertificate('somebody', ['system:masters']);
    const user = { 'client-certificate': certFile, 'client-key': keyFile };
    const admin = await open(cluster.writeKubeconfig('somebody', user));
    await t.resolves(admin.list('/api/v1/pods', {}, nothing, signal));
  });

  t.test('a pod is whom its service account says', async (t) => {
    const pod = await HttpKubeClient.open(
      { apiUrl: '', kubeconfigFile: '', serviceAccountFolder: await cluster.accountFolder(account) },
      { KUBERNETES_SERVICE_HOST: cluster.place.address, KUBERNETES_SERVICE_PORT: String(cluster.port) },
    );
    t.teardown(() => pod.close());
    await t.resolves(pod.get(`${NODES}/n1`, signal));
    t.match(await faultOf(pod.list('/api/v1/pods', {}, nothing, signal)), {
      status: 403,
      message: /:flannel"/,
    });
  });

  t.test('a token that ended: 401, until the file has another', async (t) => {
    const short = await cluster.createAccount('short');
    const path = await cluster.kubeconfigFor(short);
    writeFileSync(`${path}.token`, cluster.shortTokenOf(short, 1));
    const other = await open(path);
    const { events, isOpen } = watchFrom(other, await newest());
    await isOpen;
    let fault: KubeFault | undefined;
    await waitFor(
      async () => {
        const get = other.get(`${NODES}/n1`, signal);
        fault = await get.then(() => undefined).catch((error: KubeFault) => error);
        return fault !== undefined;
      },
      'the token to end',
      30_000,
    );
    t.same([fault?.status, fault?.reason], [401, 'Unauthorized']);
    await cluster.annotateNode('n1', { 'org.com/later': 'yes' });
    await waitFor(() => events.length > 0, 'an event: a watch outlives its token');
    writeFileSync(`${path}.token`, await cluster.tokenOf(short));
    await t.resolves(other.get(`${NODES}/n1`, signal));
  });

  t.test('a new connection on demand ends what goes on over the old one', async (t) => {
    const { isOpen, ended } = watchFrom(client, await newest());
    await isOpen;
    client.renew();
    t.match(await faultOf(ended), { status: 0, reason: 'broken' });
    await t.resolves(client.get(`${NODES}/n1`, signal));
  });

  t.test('a server that is killed', async (t) => {
    const { isOpen, ended } = watchFrom(client, await newest());
    await isOpen;
    const startedAtMs = performance.now();
    const stopped = cluster.stopApiServer();
    const fault = await faultOf(ended);
    t.same([fault.status, fault.reason], [0, 'broken'], fault.message);
    t.comment(`noticed after ${Math.round(performance.now() - startedAtMs)} ms`);
    await stopped;
    t.equal(await client.isListening(), false);
    t.match(await faultOf(client.get(`${NODES}/n1`, signal)), { status: 0, reason: 'unreachable' });
    await cluster.startApiServer();
    t.equal(await client.isListening(), true);
    await t.resolves(client.get(`${NODES}/n1`, signal));
  });

  t.test('a version that is gone is an ERROR in a watch that was accepted', async (t) => {
    const { isOpen, ended, events } = watchFrom(client, '1');
    await isOpen;
    t.match(await faultOf(ended), { status: 410, reason: 'Expired' });
    t.same(events, []);
  });

  t.test('a list that is cut off is no list', async (t) => {
    const filler = 'x'.repeat(250_000);
    for (let i = 0; i < 80; i++) await cluster.createNode(`big${i}`, { annotations: { filler } });
    let items = 0;
    let stopped: Promise<void> | undefined;
    const onItem = (): void => {
      if (++items === 5) stopped = cluster.stopApiServer();
    };
    const list = client.list(NODES, {}, onItem, signal);
    const fault = await faultOf(list);
    t.same([fault.status, fault.reason], [0, 'broken'], `${fault.message}, after ${items} of 83`);
    await stopped;
    await cluster.startApiServer();
    for (let i = 0; i < 80; i++) await cluster.deleteNode(`big${i}`);
  });

  t.test('a frozen server is noticed within 20 s', async (t) => {
    const { isOpen, ended } = watchFrom(client, await newest());
    await isOpen;
    cluster.freezeApiServer();
    const startedAtMs = performance.now();
    const [watch, get] = await Promise.all([faultOf(ended), faultOf(client.get(`${NODES}/n1`, signal))]);
    const ms = performance.now() - startedAtMs;
    cluster.thawApiServer();
    t.same([watch.status, get.status], [0, 0], `${watch.message}; ${get.message}`);
    t.ok(ms < 20_000, `noticed after ${Math.round(ms)} ms`);
    await t.resolves(client.get(`${NODES}/n1`, signal));
  });

  t.test('another certificate, and another authority', async (t) => {
    const oldCa = `${cluster.caFile}.old`;
    copyFileSync(cluster.caFile, oldCa);
    await cluster.changeCertificate();
    await t.resolves(client.get(`${NODES}/n1`, signal));
    const token = await cluster.tokenOf(account);
    await cluster.changeAuthority();
    await t.resolves(client.get(`${NODES}/n1`, signal), 'the file of the authority is read anew');
    const left = await open(cluster.writeKubeconfig('left', { token }, oldCa));
    const fault = await faultOf(left.get(`${NODES}/n1`, signal));
    t.same([fault.status, fault.reason], [0, 'tls'], fault.message);
  });
});
