// The Kubernetes store in a dual-stack cluster: a real API server, and a controller manager that gives each node a
// podCIDR of either family. What nodes then have is held against what flanneld wrote to such a cluster
// (test/fixtures/kube/flanneld), byte for byte.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pino from 'pino';
import t, { type Test } from 'tap';
import { parseFlags } from '../../src/config/flag-parser.js';
import { formatPrefixes } from '../../src/net/prefix.js';
import { type KubeStore, openKubeStore } from '../../src/store/kube/kube-store.js';
import { codesOf, textsOf } from '../support/conditions.js';
import { folderOf } from '../support/folder.js';
import { type Json, KubeCluster, kubeUnavailable } from '../support/kube-cluster.js';
import { Listening } from '../support/kube-store-bench.js';
import { waitFor } from '../support/lab.js';
import { hostOf, type HostWords } from '../support/leases.js';

const skip = kubeUnavailable();
const PREFIX = 'flannel.alpha.coreos.com/';
const { signal } = new AbortController();
const NETWORKS = { v4: '"Network":"10.244.0.0/16"', v6: '"EnableIPv6":true,"IPv6Network":"fd00:244::/48"' };
const DUAL = `{${NETWORKS.v4},${NETWORKS.v6}}`;
const IPV6 = `{"EnableIPv4":false,${NETWORKS.v6}}`;

const vtep = (mac: string): unknown => ({ VNI: 1, VtepMAC: mac });
const both = { publicIp: '172.30.0.11&fd30::11' };
const macs = { backendData: vtep('ca:9a:73:29:58:0e'), backendV6Data: vtep('2a:c1:f4:16:0c:c6') };
const MODES: Readonly<Record<string, { netConf: string; host: HostWords }>> = {
  'dual-udp': { netConf: DUAL, host: both },
  'dual-host-gw': { netConf: DUAL, host: { ...both, backendType: 'host-gw' } },
  'dual-vxlan': { netConf: DUAL, host: { ...both, backendType: 'vxlan', ...macs } },
  'v6-vxlan': {
    netConf: IPV6,
    host: { publicIp: 'fd30::11', backendType: 'vxlan', backendV6Data: macs.backendV6Data },
  },
};

/** The annotations that the first of the two flanneld of a recording wrote, as they stand there. */
function recorded(name: string): string {
  const url = new URL(`../fixtures/kube/flanneld/${name}.patches.jsonl`, import.meta.url);
  const [first] = readFileSync(url, 'utf8').split('\n');
  const { body } = JSON.parse(first) as { body: { metadata: { annotations: Json } } };
  return JSON.stringify(body.metadata.annotations);
}

t.test('the store and a real dual-stack cluster', { skip, timeout: 230_000 }, async (t) => {
  const cluster = await KubeCluster.start({ clusterCidr: '10.244.0.0/16,fd00:244::/48' });
  t.teardown(() => cluster.close());
  const account = await cluster.createAccount('flannel');

  async function open(t: Test, node: string, netConf: string): Promise<KubeStore> {
    const dir = folderOf(t);
    const config = join(dir, 'net-conf.json');
    writeFileSync(config, netConf);
    const words = [
      ...['--kube-subnet-mgr', `--kubeconfig-file=${await cluster.kubeconfigFor(account)}`],
      ...[`--net-config-path=${config}`, `--subnet-file=${join(dir, 'subnet.env')}`],
    ];
    const parsed = parseFlags(words, {});
    if (parsed.kind !== 'run') throw new TypeError(parsed.kind);
    const store = await openKubeStore(parsed.flags, pino({ level: 'silent' }), { NODE_NAME: node });
    t.teardown(() => store.close());
    return store;
  }

  async function joinAs(t: Test, store: KubeStore, host: HostWords) {
    const network = await store.readConfig(signal);
    const membership = await network.join({ host: hostOf(host), previousSubnets: undefined }, signal);
    t.teardown(() => membership.close());
    return membership;
  }

  async function annotations(node: string): Promise<Record<string, string>> {
    const { annotations } = (await cluster.node(node)).metadata as { annotations: Record<string, string> };
    return Object.fromEntries(Object.entries(annotations).filter(([name]) => name.startsWith(PREFIX)));
  }

  for (const [name, { netConf, host }] of Object.entries(MODES)) {
    t.test(`${name}: the subnets assigned, and the annotations of flanneld`, async (t) => {
      const { spec } = await cluster.createNodeWithPodCidr(name);
      const { podCIDRs } = spec as { podCIDRs: string[] };
      t.match(podCIDRs, [/^10\.244\.\d+\.0\/24$/, /^fd00:244:[\da-f:]*:\/64$/]);
      const membership = await joinAs(t, await open(t, name, netConf), host);
      const own = netConf === DUAL ? podCIDRs.join(' and ') : podCIDRs[1];
      t.equal(formatPrefixes(membership.own), own);
      t.equal(JSON.stringify(await annotations(name)), recorded(name));
      await membership.close();
      const { resourceVersion } = (await cluster.node(name)).metadata as Json;
      const again = await joinAs(t, await open(t, name, netConf), host);
      const listening = new Listening();
      again.watch(listening);
      await waitFor(() => listening.leases.has(name), 'the own lease');
      await again.close();
      t.equal(((await cluster.node(name)).metadata as Json).resourceVersion, resourceVersion, 'written once');
    });
  }

  t.test('hosts of these nodes see what they have of the network', async (t) => {
    await cluster.createNode('late', { podCidrs: ['fd00:244:0:99::/64', '10.244.99.0/24'] });
    const membership = await joinAs(t, await open(t, 'late', DUAL), { ...both, backendType: 'host-gw' });
    t.equal(formatPrefixes(membership.own), '10.244.99.0/24 and fd00:244:0:99::/64', 'IPv6 first');
    const listening = new Listening();
    membership.watch(listening);
    await waitFor(() => listening.leases.size === 5, 'the first list');
    const words = (name: string): string => listening.leases.get(name)!.replace(/^.* and (fd\S+|\S+) /, '');
    t.match(listening.leases.get('dual-vxlan'), /^10\.244\S+ and fd00:244:\S+ 172\.30\.0\.11 and fd30::11$/);
    t.match(listening.leases.get('dual-udp'), /^10\.244\S+ and fd00:244:\S+ 172\.30\.0\.11$/);
    t.equal(words('v6-vxlan'), 'fd30::11');
    const overwrite = `${PREFIX}public-ipv6-overwrite`;
    await cluster.annotateNode('late', { [overwrite]: '2001:DB8:0::7' });
    await waitFor(
      async () => (await annotations('late'))[`${PREFIX}public-ipv6`] === '2001:db8::7',
      overwrite,
    );
    await cluster.annotateNode('late', { [overwrite]: '198.51.100.7' });
    await waitFor(() => codesOf(membership).includes('node-annotation-invalid'), 'the wrong family');
    await waitFor(async () => (await annotations('late'))[`${PREFIX}public-ipv6`] === 'fd30::11', 'the own');
    await membership.close();
  });

  t.test('a node of a former cluster of IPv4 is waited for until it is made anew', async (t) => {
    await cluster.createNode('former', { podCidrs: ['10.244.200.0/24'] });
    const store = await open(t, 'former', DUAL);
    const joining = joinAs(t, store, both);
    await waitFor(() => codesOf(store).includes('pod-cidr-missing'), 'the lack');
    t.match(textsOf(store)[0], /no IPv6 podCIDR beside 10\.244\.200\.0\/24$/);
    await t.rejects(
      cluster.patchNode('former', { spec: { podCIDRs: ['10.244.200.0/24', 'fd00:244:0:200::/64'] } }),
      'the API server gives no second one to it',
    );
    t.strictSame(await annotations('former'), {});
    await cluster.deleteNode('former');
    await cluster.createNodeWithPodCidr('former');
    t.match(formatPrefixes((await joining).own), /^10\.244\.\d+\.0\/24 and fd00:244:[\da-f:]*:\/64$/);
  });
});
