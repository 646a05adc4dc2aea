// The Kubernetes store as the daemon uses it, on a stand-in of the API server.

import t, { type Test } from 'tap';
import { parseIpv4 } from '../../../../src/net/ipv4.js';
import type { Publication, StoredNetwork } from '../../../../src/store/store.js';
import { ApiServer, type NodeParts } from '../../../support/api-server.js';
import { codesOf, textsOf } from '../../../support/conditions.js';
import { udpAnnotations } from '../../../support/kube-nodes.js';
import { Listening, openStoreBench, type StoreBench } from '../../../support/kube-store-bench.js';
import { waitFor } from '../../../support/lab.js';
import { hostOf } from '../../../support/leases.js';
import { folderOf } from '../../../support/folder.js';
import { formatPrefixes } from '../../../../src/net/prefix.js';
import { prefixesOf } from '../../../../src/config/network-config.js';

const PREFIX = 'flannel.alpha.coreos.com/';
const PUBLICATION: Publication = { host: hostOf({ publicIp: '172.30.0.11' }), previousSubnets: undefined };
const signal = new AbortController().signal;

const member = (publicIp: string, podCidr: string): NodeParts => ({
  podCidrs: [podCidr],
  annotations: Object.fromEntries(
    Object.entries(udpAnnotations(publicIp)).map(([name, value]) => [PREFIX + name, value]),
  ),
});

async function openApi(t: Test): Promise<ApiServer> {
  const api = await ApiServer.open();
  t.teardown(() => api.close());
  return api;
}

async function openIn(
  t: Test,
  api: ApiServer,
  settings: Parameters<typeof openStoreBench>[2] = {},
  dir = folderOf(t),
): Promise<StoreBench> {
  const bench = await openStoreBench(api, dir, settings);
  t.teardown(() => bench.store.close());
  return bench;
}

async function joinIn(t: Test, network: StoredNetwork) {
  const membership = await network.join(PUBLICATION, signal);
  t.teardown(() => membership.close());
  return membership;
}

t.test('a host joins, learns, and follows', async (t) => {
  const api = await openApi(t);
  api.createNode('node1', { podCidrs: ['10.244.1.0/24'] });
  api.createNode('node2', member('172.30.0.12', '10.244.2.0/24'));
  const { store, log } = await openIn(t, api);
  const network = await store.readConfig(signal);
  t.equal(formatPrefixes(prefixesOf(network.config)), '10.244.0.0/16');
  t.match(network.hints, { publicIp: undefined, backend: undefined });
  const membership = await joinIn(t, network);
  t.equal(formatPrefixes(membership.own), '10.244.1.0/24');
  const [patch] = api.requests.list('patch', 'nodes/status');
  t.equal(patch.headers['content-type'], 'application/strategic-merge-patch+json');
  t.strictSame(patch.body, {
    metadata: {
      annotations: {
        [`${PREFIX}backend-data`]: 'null',
        [`${PREFIX}backend-type`]: '',
        [`${PREFIX}kube-subnet-manager`]: 'true',
        [`${PREFIX}public-ip`]: '172.30.0.11',
      },
    },
  });
  const listening = new Listening();
  membership.watch(listening);
  await waitFor(() => listening.leases.size === 2, 'the first list');
  api.createNode('node3', member('172.30.0.13', '10.244.3.0/24'));
  api.deleteNode('node2');
  await waitFor(() => listening.leases.has('node3') && !listening.leases.has('node2'), 'the changes');
  membership.announce!();
  await waitFor(() => api.requests.list('patch', 'nodes/status').length === 2, 'the condition');
  t.match(membership.status(), {
    kind: 'kube',
    node: 'node1',
    podCidr: '10.244.1.0/24',
    watchEstablished: true,
    leases: 2,
  });
  t.strictSame(textsOf(membership), []);
  t.strictSame(log, []);
});

t.test('a start that waits says for what', async (t) => {
  const api = await openApi(t);
  const { store } = await openIn(t, api, { env: { POD_NAME: 'twill-x', POD_NAMESPACE: 'kube-flannel' } });
  const says = (code: string, text: RegExp): Promise<void> =>
    waitFor(() => codesOf(store).includes(code) && text.test(textsOf(store).join()), String(text));
  await api.stop();
  const reading = store.readConfig(signal);
  await says('store-unreachable', /the name of this node is not known yet: /);
  await api.start();
  await says('starting', /404/);
  api.createPod('kube-flannel', 'twill-x', 'node1');
  await says('node-missing', /node "node1" is not read yet: .*404/);
  api.createNode('node1');
  const network = await reading;
  t.strictSame(codesOf(store), []);
  const joining = joinIn(t, network);
  await says('pod-cidr-missing', /node "node1" has no podCIDR yet: a controller manager/);
  t.equal(api.requests.list('patch').length, 0, 'nothing is published before');
  api.updateNode('node1', { spec: { podCIDR: '10.244.7.0/24', podCIDRs: ['10.244.7.0/24'] } });
  t.equal(formatPrefixes((await joining).own), '10.244.7.0/24');
  t.strictSame(codesOf(store), []);
});

t.test('what can never be used ends the start, before anything is published', async (t) => {
  const api = await openApi(t);
  const rejects = async (name: string, podCidrs: readonly string[], message: RegExp): Promise<void> => {
    api.createNode(name, { podCidrs });
    const { store } = await openIn(t, api, { env: { NODE_NAME: name } });
    const network = await store.readConfig(signal);
    await t.rejects(network.join(PUBLICATION, signal), { code: 'E_LEASE', message }, name);
  };
  await rejects(
    'outside',
    ['10.9.1.0/24'],
    /podCIDR of node "outside" is 10.9.1.0\/24: expected one inside the Network 10.244.0.0\/16 of .*net-conf.json/,
  );
  await rejects(
    'three',
    ['10.244.1.0/24', 'fd00::/64', '10.244.2.0/24'],
    /node "three": its podCIDRs are .*: expected one for each/,
  );
  await rejects('six', ['fd00::/64'], /node "six": its podCIDRs are fd00::\/64: expected an IPv4 one/);
  t.equal(api.requests.list('patch').length, 0);
});

t.test('a missing right is named, and waited for', async (t) => {
  const api = await openApi(t);
  api.createNode('node1', { podCidrs: ['10.244.1.0/24'] });
  const { store } = await openIn(t, api, { token: api.tokens.nobody });
  const stop = new AbortController();
  const reading = store.readConfig(stop.signal);
  await waitFor(
    () => /403 Forbidden: .*cannot get resource "nodes"/.test(textsOf(store).join()),
    'the right to be named',
  );
  stop.abort(new Error('enough'));
  await t.rejects(reading, { message: 'enough' });
});

t.test('operators say what a node publishes', async (t) => {
  const api = await openApi(t);
  api.createNode('node1', {
    podCidrs: ['10.244.1.0/24'],
    annotations: {
      [`${PREFIX}node-public-ip`]: '198.51.100.1',
      [`${PREFIX}public-ip-overwrite`]: '198.51.100.2',
      [`${PREFIX}backend-data`]: '{"VNI":1,"VtepMAC":"02:00:00:00:00:01"}',
      [`${PREFIX}backend-type`]: 'vxlan',
      [`${PREFIX}public-ip`]: '172.30.0.11',
    },
  });
  const { store } = await openIn(t, api);
  const network = await store.readConfig(signal);
  t.match(network.hints, {
    publicIp: { v4: parseIpv4('198.51.100.1') },
    backend: { type: 'vxlan', data: { v4: { VtepMAC: '02:00:00:00:00:01' } } },
  });
  const membership = await joinIn(t, network);
  const { annotations } = api.node('node1')!['metadata'] as { annotations: Record<string, string> };
  t.equal(annotations[`${PREFIX}public-ip`], '198.51.100.2');
  const listening = new Listening();
  membership.watch(listening);
  await waitFor(() => listening.words.length > 0, 'the first list');
  t.equal(listening.leases.get('node1'), '10.244.1.0/24 172.30.0.11', 'our own all the same');
  t.equal(annotations[`${PREFIX}backend-data`], 'null');
});

t.test('another prefix of annotations, whole', async (t) => {
  const api = await openApi(t);
  api.createNode('node1', { podCidrs: ['10.244.1.0/24'] });
  api.createNode('node2', member('172.30.0.12', '10.244.2.0/24'));
  const { store } = await openIn(t, api, { args: ['--kube-annotation-prefix=org.com/9'] });
  const membership = await joinIn(t, await store.readConfig(signal));
  const listening = new Listening();
  membership.watch(listening);
  await waitFor(() => listening.words.length > 0, 'the first list');
  t.strictSame(
    listening.words,
    ['snapshot', 'put node1 10.244.1.0/24 172.30.0.11'],
    'node2 is another network’s',
  );
  const { annotations } = api.node('node1')!['metadata'] as { annotations: Record<string, string> };
  t.ok(annotations['org.com/9-kube-subnet-manager']);
});

t.test('the saved table serves a start without the API server', async (t) => {
  const api = await openApi(t);
  api.createNode('node1', {
    podCidrs: ['10.244.1.0/24'],
    annotations: { [`${PREFIX}node-public-ip`]: '198.51.100.1' },
  });
  api.createNode('node2', member('172.30.0.12', '10.244.2.0/24'));
  const { store, dir } = await openIn(t, api);
  const membership = await joinIn(t, await store.readConfig(signal));
  const listening = new Listening();
  membership.watch(listening);
  await waitFor(() => listening.leases.size === 2, 'the first list');
  await membership.close();
  store.close();
  await api.stop();

  const again = await openIn(t, api, {}, dir);
  const { savedStart } = again.store;
  t.equal(await savedStart!.isAway(), true);
  const table = savedStart!.table()!;
  t.equal(formatPrefixes(table.ownSubnets), '10.244.1.0/24');
  t.same(table.hints?.publicIp, { v4: parseIpv4('198.51.100.1') });
  t.equal(table.config.subnetsFrom, 'store');
  t.strictSame(table.leases.map(({ id }) => id).sort(), ['node1', 'node2']);
  t.same(savedStart!.formerPublicIp(), { v4: parseIpv4('172.30.0.11') });
  await api.start();
  t.equal(await savedStart!.isAway(), false);
  const other = await openIn(t, api, { args: ['--kube-annotation-prefix=org.com'] }, dir);
  t.equal(other.store.savedStart!.table(), undefined, 'another network’s');
});

t.test('two nodes with one podCIDR, and the own node made anew with another', async (t) => {
  const api = await openApi(t);
  api.createNode('node1', { podCidrs: ['10.244.1.0/24'] });
  const { store } = await openIn(t, api);
  const membership = await joinIn(t, await store.readConfig(signal));
  const listening = new Listening();
  membership.watch(listening);
  await waitFor(() => listening.leases.size === 1, 'the first list');
  api.createNode('twin', member('172.30.0.99', '10.244.1.0/24'));
  await waitFor(() => listening.leases.size === 2, 'the twin');
  api.deleteNode('twin');
  await waitFor(() => listening.leases.size === 1, 'its end');
  t.ok(listening.leases.has('node1'));
  api.deleteNode('node1');
  await waitFor(() => codesOf(membership).includes('node-missing'), 'the lack of the node');
  api.createNode('node1', { podCidrs: ['10.244.9.0/24'] });
  await waitFor(() => listening.lost !== undefined, 'the loss');
  t.match(listening.lost, {
    code: 'E_LEASE_LOST',
    message: /node "node1" has another subnet than 10.244.1.0\/24/,
  });
});

t.test('what is wrong with this host is an Event of its node, where the account may write it', async (t) => {
  const api = await openApi(t);
  api.createNode('node1');
  const { store } = await openIn(t, api, { token: api.tokens.admin });
  await store.readConfig(signal);
  store.noteHealth([
    {
      ...{ code: 'pod-cidr-missing', text: 'no podCIDR', part: 'store', action: 'give it one' },
      ...{ severity: 'error', scope: 'node', sinceMs: Date.now() - 6000 },
    },
  ]);
  await waitFor(() => api.events().length === 1, 'the Event');
  t.match(api.events()[0], {
    type: 'Warning',
    reason: 'PodCidrMissing',
    message: 'no podCIDR (give it one)',
  });
});
