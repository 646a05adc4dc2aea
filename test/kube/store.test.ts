// The Kubernetes store as the daemon uses it, on a real API server and controller manager.
//
// What a node then has is held against what flanneld wrote to one (test/fixtures/kube/flanneld), byte for byte.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pino from 'pino';
import t, { type Test } from 'tap';
import { parseFlags } from '../../src/config/flag-parser.js';
import { type KubeStore, openKubeStore } from '../../src/store/kube/kube-store.js';
import type { Membership } from '../../src/store/store.js';
import { codesOf, textsOf } from '../support/conditions.js';
import { type Account, type Json, KubeCluster, kubeUnavailable, NAMESPACE } from '../support/kube-cluster.js';
import { Listening } from '../support/kube-store-bench.js';
import { waitFor } from '../support/lab.js';
import { hostOf, type HostWords } from '../support/leases.js';
import { folderOf } from '../support/folder.js';
import { formatPrefixes } from '../../src/net/prefix.js';

const skip = kubeUnavailable();
const PREFIX = 'flannel.alpha.coreos.com/';
const { signal } = new AbortController();
const UDP = { publicIp: '172.30.0.11' };

interface Recorded {
  readonly annotations: Readonly<Record<string, string>>;
  readonly condition: Json;
}

/** What the first of the two flanneld of a recording wrote. */
function recorded(name: string): Recorded {
  const url = new URL(`../fixtures/kube/flanneld/${name}.patches.jsonl`, import.meta.url);
  const [first, second] = readFileSync(url, 'utf8')
    .trim()
    .split('\n')
    .map((line) => (JSON.parse(line) as { body: { metadata?: Json; status?: { conditions: Json[] } } }).body);
  return {
    annotations: first.metadata?.annotations as Recorded['annotations'],
    condition: second.status?.conditions[0] ?? {},
  };
}

t.test('the store and a real API server', { skip, timeout: 230_000 }, async (t) => {
  const cluster = await KubeCluster.start({ hasControllerManager: false });
  t.teardown(() => cluster.close());
  const flannel = await cluster.createAccount('flannel');

  async function open(t: Test, env: Record<string, string>, account: Account = flannel): Promise<KubeStore> {
    const dir = folderOf(t);
    const config = join(dir, 'net-conf.json');
    writeFileSync(config, '{"Network":"10.244.0.0/16","Backend":{"Type":"udp"}}');
    const words = [
      ...['--kube-subnet-mgr', `--kubeconfig-file=${await cluster.kubeconfigFor(account)}`],
      ...[`--net-config-path=${config}`, `--subnet-file=${join(dir, 'subnet.env')}`],
    ];
    const parsed = parseFlags(words, {});
    if (parsed.kind !== 'run') throw new TypeError(parsed.kind);
    const store = await openKubeStore(parsed.flags, pino({ level: 'silent' }), env);
    t.teardown(() => store.close());
    return store;
  }

  async function joinAs(t: Test, node: string, host: HostWords, account?: Account): Promise<Membership> {
    const store = await open(t, { NODE_NAME: node }, account);
    const network = await store.readConfig(signal);
    const membership = await network.join({ host: hostOf(host), previousSubnets: undefined }, signal);
    t.teardown(() => membership.close());
    return membership;
  }

  const metadata = async (node: string): Promise<Json> => (await cluster.node(node)).metadata as Json;

  async function annotations(node: string): Promise<Record<string, string>> {
    const all = Object.entries((await metadata(node)).annotations as Record<string, string>);
    return Object.fromEntries(all.filter(([name]) => name.startsWith(PREFIX)));
  }

  async function conditions(node: string): Promise<Json[]> {
    const { conditions = [] } = (await cluster.node(node)).status as { conditions?: Json[] };
    return conditions;
  }

  const isUp = async (node: string): Promise<boolean> =>
    (await conditions(node)).some(({ type }) => type === 'NetworkUnavailable');

  const MAC = '12:ea:85:08:6b:a4';
  for (const [name, host] of Object.entries({
    udp: UDP,
    vxlan: { ...UDP, backendType: 'vxlan', backendData: { VNI: 1, VtepMAC: MAC } },
    'host-gw': { ...UDP, backendType: 'host-gw' },
  })) {
    t.test(`${name}: annotations and condition are what flanneld wrote, and are written once`, async (t) => {
      const wanted = recorded(name);
      await cluster.createNode(name, { podCidrs: ['10.244.1.0/24'] });
      const ready = { status: { conditions: [{ type: 'Ready', status: 'True' }] } };
      await cluster.patchNode(name, ready, '/status');
      const membership = await joinAs(t, name, host);
      t.equal(JSON.stringify(await annotations(name)), JSON.stringify(wanted.annotations));
      t.notOk(await isUp(name), 'packets do not flow yet');
      membership.announce?.();
      await waitFor(() => isUp(name), 'the condition');
      const written = await conditions(name);
      t.same(written.map(({ type }) => type).sort(), ['NetworkUnavailable', 'Ready']);
      const times = { lastHeartbeatTime: undefined, lastTransitionTime: undefined };
      const own = written.find(({ type }) => type === 'NetworkUnavailable');
      t.same({ ...own, ...times }, { ...wanted.condition, ...times });

      await membership.close();
      const { resourceVersion } = await metadata(name);
      const again = await joinAs(t, name, host);
      const listening = new Listening();
      again.watch(listening);
      again.announce?.();
      await waitFor(() => listening.leases.size > 0, 'the first list');
      await again.close();
      t.equal((await metadata(name)).resourceVersion, resourceVersion, 'a restart writes nothing');
      await cluster.deleteNode(name);
    });
  }

  t.test('the address that an operator overwrites', async (t) => {
    const overwrite = `${PREFIX}public-ip-overwrite`;
    await cluster.createNode('o', {
      podCidrs: ['10.244.1.0/24'],
      annotations: { [overwrite]: '198.51.100.7' },
    });
    const membership = await joinAs(t, 'o', UDP);
    const publicIp = async (): Promise<string> => (await annotations('o'))[`${PREFIX}public-ip`];
    t.equal(await publicIp(), '198.51.100.7');
    membership.watch(new Listening());
    await cluster.annotateNode('o', { [overwrite]: null });
    await waitFor(async () => (await publicIp()) === UDP.publicIp, 'the own address');
    await cluster.annotateNode('o', { [`${PREFIX}kube-subnet-manager`]: null });
    await waitFor(
      async () => (await annotations('o'))[`${PREFIX}kube-subnet-manager`] === 'true',
      'the flag to be back',
      15_000,
    );
    await cluster.deleteNode('o');
  });

  t.test('nodes of flanneld are leases, from their last annotation on', async (t) => {
    await cluster.createNode('own', { podCidrs: ['10.244.1.0/24'] });
    const membership = await joinAs(t, 'own', UDP);
    const listening = new Listening();
    membership.watch(listening);
    await cluster.createNode('peer', { podCidrs: ['10.244.2.0/24'] });
    const names = Object.entries(recorded('udp').annotations);
    for (const [name, value] of names) {
      t.notOk(listening.leases.has('peer'), `before ${name}`);
      await cluster.patchNode('peer', { metadata: { annotations: { [name]: value } } }, '/status');
    }
    await waitFor(() => listening.leases.has('peer'), 'the lease');
    t.equal(listening.leases.get('peer'), '10.244.2.0/24 172.30.0.11');
    await cluster.deleteNode('peer');
    await waitFor(() => !listening.leases.has('peer'), 'its end');
    await cluster.deleteNode('own');
  });

  t.test('a right that is missing is named, and what it keeps away is done once it is there', async (t) => {
    const rules = [{ apiGroups: [''], resources: ['nodes'], verbs: ['get', 'list', 'watch'] }];
    const reader = await cluster.createAccount('reader', rules);
    await cluster.createNode('r', { podCidrs: ['10.244.1.0/24'] });
    const store = await open(t, { NODE_NAME: 'r' }, reader);
    const network = await store.readConfig(signal);
    const joining = network.join({ host: hostOf(UDP), previousSubnets: undefined }, signal);
    const text = /403 Forbidden: .*cannot patch resource "nodes\/status"/;
    await waitFor(() => text.test(textsOf(store).join()), 'the right to be named');
    const role = '/apis/rbac.authorization.k8s.io/v1/clusterroles/reader';
    const more = { apiGroups: [''], resources: ['nodes/status'], verbs: ['patch'] };
    await cluster.admin.must('PATCH', role, { rules: [...rules, more] }, 'application/merge-patch+json');
    const membership = await joining;
    t.equal(formatPrefixes(membership.own), '10.244.1.0/24');
    await membership.close();
    await cluster.deleteNode('r');
  });

  t.test('the own node is deleted and made anew', async (t) => {
    const podCidrs = ['10.244.1.0/24'];
    await cluster.createNode('d', { podCidrs });
    const membership = await joinAs(t, 'd', UDP);
    const listening = new Listening();
    membership.watch(listening);
    await waitFor(() => listening.leases.size > 0, 'the first list');
    await cluster.deleteNode('d');
    await waitFor(() => codesOf(membership).includes('node-missing'), 'the lack of the node');
    await cluster.createNode('d', { podCidrs });
    await waitFor(
      async () => (await annotations('d'))[`${PREFIX}public-ip`] === UDP.publicIp,
      'its annotations',
      15_000,
    );
    t.same(codesOf(membership), []);
    await cluster.deleteNode('d');
    await cluster.createNode('d', { podCidrs: ['10.244.9.0/24'] });
    await waitFor(() => listening.lost !== undefined, 'the loss');
    t.equal(listening.lost?.code, 'E_LEASE_LOST');
    await cluster.deleteNode('d');
  });

  t.test('a pod finds its node, which waits for a podCIDR of the controller manager', async (t) => {
    const store = await open(t, { POD_NAME: 'twill-1', POD_NAMESPACE: NAMESPACE });
    const reading = store.readConfig(signal);
    await waitFor(() => /404/.test(textsOf(store).join()), 'the pod to be missed');
    await cluster.createNode('p');
    cluster.startControllerManager();
    // A pod is taken only once its account has a token, which the controller manager makes.
    const pod = {
      metadata: { name: 'twill-1' },
      spec: {
        nodeName: 'p',
        serviceAccountName: 'flannel',
        containers: [{ name: 'twill', image: 'twill' }],
      },
    };
    const create = { method: 'POST', path: `/api/v1/namespaces/${NAMESPACE}/pods`, body: pod };
    await waitFor(async () => (await cluster.admin.ask(create)).status === 201, 'the pod', 30_000);
    const network = await reading;
    const joining = network.join({ host: hostOf(UDP), previousSubnets: undefined }, signal);
    const membership = await joining;
    t.match(formatPrefixes(membership.own), /^10\.244\.\d+\.0\/24$/);
    t.same((await annotations('p'))[`${PREFIX}public-ip`], UDP.publicIp);
    await membership.close();
  });
});
