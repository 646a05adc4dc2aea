// The Kubernetes store in networks of IPv6 and of both families, on a stand-in of the API server. What is written is
// held against what flanneld wrote to a real one (test/fixtures/kube/flanneld).

import { readFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { formatAddresses, formatPrefixes } from '../../../../src/net/prefix.js';
import type { Membership } from '../../../../src/store/store.js';
import { ApiServer, type NodeParts } from '../../../support/api-server.js';
import { codesOf, textsOf } from '../../../support/conditions.js';
import { folderOf } from '../../../support/folder.js';
import { Listening, openStoreBench, type StoreBench } from '../../../support/kube-store-bench.js';
import { waitFor } from '../../../support/lab.js';
import { hostOf, type HostWords } from '../../../support/leases.js';

const PREFIX = 'flannel.alpha.coreos.com/';
const signal = new AbortController().signal;
const [V4, V6] = ['10.244.12.0/24', 'fd00:244:0:c::/64'];

const NETWORKS = { v4: '"Network":"10.244.0.0/16"', v6: '"EnableIPv6":true,"IPv6Network":"FD00:244::/48"' };
const CONFIGS = {
  v4: `{${NETWORKS.v4}}`,
  dual: `{${NETWORKS.v4},${NETWORKS.v6}}`,
  v6: `{"EnableIPv4":false,${NETWORKS.v6}}`,
} as const;
type Kind = keyof typeof CONFIGS;

const vtep = (mac: string): unknown => ({ VNI: 1, VtepMAC: mac });
const DUAL_IP = '172.30.0.11&fd30::11';
const DATA = { backendData: vtep('ca:9a:73:29:58:0e'), backendV6Data: vtep('2a:c1:f4:16:0c:c6') };

async function openApi(t: Test): Promise<ApiServer> {
  const api = await ApiServer.open();
  t.teardown(() => api.close());
  return api;
}

async function openIn(t: Test, api: ApiServer, kind: Kind, node = 'node1'): Promise<StoreBench> {
  const settings = { env: { NODE_NAME: node }, netConf: CONFIGS[kind] };
  const bench = await openStoreBench(api, folderOf(t), settings);
  t.teardown(() => bench.store.close());
  return bench;
}

async function joinIn(t: Test, { store }: StoreBench, words: HostWords): Promise<Membership> {
  const network = await store.readConfig(signal);
  const membership = await network.join({ host: hostOf(words), previousSubnets: undefined }, signal);
  t.teardown(() => membership.close());
  return membership;
}

async function watching(membership: Membership): Promise<Listening> {
  const listening = new Listening();
  membership.watch(listening);
  await waitFor(() => listening.words.length > 0, 'the first list');
  return listening;
}

const annotated = (annotations: Record<string, string>, ...podCidrs: string[]): NodeParts => ({
  podCidrs,
  annotations: Object.fromEntries(Object.entries(annotations).map(([name, value]) => [PREFIX + name, value])),
});

const annotationsOf = (api: ApiServer, node: string): Record<string, string> =>
  (api.node(node)!['metadata'] as { annotations: Record<string, string> }).annotations;

/** The bodies of what the first of two flanneld wrote, as they stand in the recording. */
function recorded(name: string): string {
  const url = new URL(`../../../fixtures/kube/flanneld/${name}.patches.jsonl`, import.meta.url);
  const [first] = readFileSync(url, 'utf8').split('\n');
  return JSON.stringify((JSON.parse(first) as { body: unknown }).body);
}

const RECORDED: readonly { name: string; kind: Kind; words: HostWords; own: string }[] = [
  {
    name: 'dual-vxlan',
    kind: 'dual',
    words: { publicIp: DUAL_IP, backendType: 'vxlan', ...DATA },
    own: `${V4} and ${V6}`,
  },
  {
    name: 'dual-host-gw',
    kind: 'dual',
    words: { publicIp: DUAL_IP, backendType: 'host-gw' },
    own: `${V4} and ${V6}`,
  },
  { name: 'dual-udp', kind: 'dual', words: { publicIp: DUAL_IP }, own: `${V4} and ${V6}` },
  {
    name: 'v6-vxlan',
    kind: 'v6',
    words: { publicIp: 'fd30::11', backendType: 'vxlan', backendV6Data: DATA.backendV6Data },
    own: V6,
  },
  { name: 'udp', kind: 'v4', words: { publicIp: '172.30.0.11' }, own: V4 },
];

for (const { name, kind, words, own } of RECORDED) {
  t.test(`a host joins, and patches as flanneld does: ${name}`, async (t) => {
    const api = await openApi(t);
    for (const [node, ...podCidrs] of [
      ['node1', V4, V6],
      ['node2', V6, V4],
    ]) {
      api.createNode(node, { podCidrs });
      const bench = await openIn(t, api, kind, node);
      const membership = await joinIn(t, bench, words);
      t.equal(formatPrefixes(membership.own), own, `podCIDRs ${podCidrs.join(' ')}`);
      t.match(membership.status(), { podCidr: own });
      t.strictSame(bench.log, []);
    }
    const patches = api.requests.list('patch', 'nodes/status').map(({ body }) => JSON.stringify(body));
    t.strictSame(patches, [recorded(name), recorded(name)], 'byte for byte');
  });
}

t.test('hosts of both families see each other, and those of one', async (t) => {
  const api = await openApi(t);
  api.createNode('node1', { podCidrs: ['10.244.1.0/24', 'fd00:244:0:1::/64'] });
  const gw = { 'kube-subnet-manager': 'true', 'backend-type': 'host-gw', 'backend-data': 'null' };
  const v6 = { 'backend-v6-data': 'null', 'public-ipv6': 'FD30::0:12' };
  api.createNode(
    'both',
    annotated({ ...gw, 'public-ip': '172.30.0.12', ...v6 }, 'FD00:244:0:2::/64', '10.244.2.0/24'),
  );
  api.createNode('v4', annotated({ ...gw, 'public-ip': '172.30.0.13' }, '10.244.3.0/24'));
  api.createNode('v6', annotated({ ...gw, ...v6 }, 'fd00:244:0:4::/64'));
  const membership = await joinIn(t, await openIn(t, api, 'dual'), {
    publicIp: DUAL_IP,
    backendType: 'host-gw',
  });
  const { leases } = await watching(membership);
  t.strictSame(Object.fromEntries(leases), {
    both: '10.244.2.0/24 and fd00:244:0:2::/64 172.30.0.12 and fd30::12',
    node1: '10.244.1.0/24 and fd00:244:0:1::/64 172.30.0.11 and fd30::11',
    v4: '10.244.3.0/24 172.30.0.13',
    v6: 'fd00:244:0:4::/64 fd30::12',
  });
  t.strictSame(codesOf(membership), []);
});

t.test('a start waits for a podCIDR of each family, in the order in which they come', async (t) => {
  for (const [first, lack] of [
    [V4, 'IPv6'],
    [V6, 'IPv4'],
  ]) {
    const api = await openApi(t);
    api.createNode('node1');
    const bench = await openIn(t, api, 'dual');
    const joining = joinIn(t, bench, { publicIp: DUAL_IP });
    const says = (text: RegExp): Promise<void> =>
      waitFor(
        () => codesOf(bench.store).includes('pod-cidr-missing') && text.test(textsOf(bench.store).join()),
        String(text),
      );
    await says(/^node "node1" has not a podCIDR of each family yet: a controller manager/);
    api.updateNode('node1', { spec: { podCIDR: first, podCIDRs: [first] } });
    await says(new RegExp(`of each family yet: no ${lack} podCIDR beside ${first}$`));
    t.equal(api.requests.list('patch').length, 0, 'nothing is published before');
    api.deleteNode('node1');
    api.createNode('node1', { podCidrs: [V6, V4] });
    t.equal(formatPrefixes((await joining).own), `${V4} and ${V6}`);
    t.strictSame(codesOf(bench.store), []);
  }
});

t.test('what can never be used ends the start, before anything is published', async (t) => {
  const api = await openApi(t);
  const rows: [name: string, kind: Kind, podCidrs: string[], message: RegExp][] = [
    ['v4', 'v6', [V4], /^Cannot use node "v4": its podCIDRs are 10.244.12.0\/24: expected an IPv6 one$/],
    [
      'outside',
      'dual',
      [V4, 'fd00:9::/64'],
      /^podCIDR of node "outside" is fd00:9::\/64: expected one inside the IPv6Network fd00:244::\/48 of .*net-conf/,
    ],
    [
      'outside4',
      'dual',
      ['10.9.1.0/24', V6],
      /is 10.9.1.0\/24: expected one inside the Network 10.244.0.0\/16 of/,
    ],
    [
      'host-bits',
      'v6',
      ['fd00:244::1/64'],
      /its podCIDR is fd00:244::1\/64: expected a network such as fd00:244:0:1::/,
    ],
  ];
  for (const [name, kind, podCidrs, message] of rows) {
    api.createNode(name, { podCidrs });
    const joining = joinIn(t, await openIn(t, api, kind, name), { publicIp: DUAL_IP });
    await t.rejects(joining, { code: 'E_LEASE', message }, name);
  }
  t.equal(api.requests.list('patch').length, 0);
});

t.test('operators say what a node publishes in each family', async (t) => {
  const api = await openApi(t);
  const operator = {
    'node-public-ip': '198.51.100.1',
    'node-public-ipv6': '2001:DB8::1',
    'public-ipv6-overwrite': '2001:DB8:0:0::2',
    'backend-type': 'vxlan',
    'backend-v6-data': '{"VNI":1,"VtepMAC":"02:00:00:00:00:06"}',
    'public-ipv6': 'fd30::11',
  };
  api.createNode('node1', annotated(operator, V4, V6));
  const bench = await openIn(t, api, 'dual');
  const network = await bench.store.readConfig(signal);
  t.equal(formatAddresses(network.hints!.publicIp!), '198.51.100.1 and 2001:db8::1');
  t.same(network.hints!.publicIpFrom, {
    v4: 'annotation node-public-ip',
    v6: 'annotation node-public-ipv6',
  });
  t.match(network.hints!.backend, { type: 'vxlan', data: { v6: { VtepMAC: '02:00:00:00:00:06' } } });
  const publication = {
    host: hostOf({ publicIp: DUAL_IP, backendType: 'vxlan', ...DATA }),
    previousSubnets: undefined,
  };
  const membership = await network.join(publication, signal);
  t.teardown(() => membership.close());
  t.equal(annotationsOf(api, 'node1')[`${PREFIX}public-ipv6`], '2001:db8::2');
  t.equal(annotationsOf(api, 'node1')[`${PREFIX}public-ip`], '172.30.0.11');
  const { leases } = await watching(membership);
  t.equal(leases.get('node1'), `${V4} and ${V6} 172.30.0.11 and fd30::11`, 'our own all the same');
});

t.test('in a network of IPv4, what stands there of IPv6 is nobody’s business', async (t) => {
  const api = await openApi(t);
  const stale = {
    'node-public-ipv6': 'x',
    'public-ipv6-overwrite': 'y',
    'public-ipv6': 'z',
    'backend-v6-data': '{',
  };
  api.createNode('node1', annotated(stale, V6, V4));
  const bench = await openIn(t, api, 'v4');
  const membership = await joinIn(t, bench, { publicIp: '172.30.0.11' });
  const { leases } = await watching(membership);
  t.strictSame(Object.fromEntries(leases), { node1: `${V4} 172.30.0.11` });
  t.strictSame([...codesOf(membership), ...bench.log], []);
  t.match(annotationsOf(api, 'node1'), annotated(stale).annotations, 'and stays');
});

t.test('the saved table has both families', async (t) => {
  const api = await openApi(t);
  api.createNode('node1', annotated({ 'node-public-ipv6': '2001:db8::1' }, V4, V6));
  const bench = await openIn(t, api, 'dual');
  const membership = await joinIn(t, bench, { publicIp: DUAL_IP, backendType: 'vxlan', ...DATA });
  await watching(membership);
  await membership.close();
  const saved = bench.store.savedStart!;
  const table = saved.table()!;
  t.equal(formatPrefixes(table.ownSubnets), `${V4} and ${V6}`);
  t.same(table.ownHost, hostOf({ publicIp: DUAL_IP, backendType: 'vxlan', ...DATA }));
  t.equal(formatAddresses(table.hints!.publicIp!), '2001:db8::1');
  t.equal(table.hints!.publicIpFrom!.v6, 'annotation node-public-ipv6 (saved)');
  t.equal(formatAddresses(saved.formerPublicIp()!), '172.30.0.11 and fd30::11');
});
