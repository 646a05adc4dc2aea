// The overlay on a real API server: three hosts in each mode, and the faults that it and its nodes can have.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { inLab, KubeCluster, kubeUnavailable } from '../support/kube-cluster.js';
import {
  type ApiNode,
  type ControlPlane,
  faultSuite,
  KUBE_MODES,
  KUBE_NETWORK,
  KubeHosts,
  modeSuite,
} from '../support/kube-overlay.js';
import { Lab, labUnavailable } from '../support/lab.js';

const skip = labUnavailable() || kubeUnavailable();

async function openPlane(lab: Lab): Promise<ControlPlane & { close(): Promise<void> }> {
  const cluster = await KubeCluster.start({ place: inLab(lab), clusterCidr: KUBE_NETWORK });
  const account = await cluster.createAccount('flannel');
  return {
    kubeconfig: await cluster.kubeconfigFor(account),
    link: 'p240',
    createNode: (name) => cluster.createNodeWithPodCidr(name),
    deleteNode: (name) => cluster.deleteNode(name),
    node: async (name) => (await cluster.node(name)) as ApiNode,
    annotate: (name, annotations) => cluster.annotateNode(name, annotations),
    kill: () => cluster.stopApiServer(),
    start: () => cluster.startApiServer(),
    freeze: () => cluster.freezeApiServer(),
    thaw: () => cluster.thawApiServer(),
    close: () => cluster.close(),
  };
}

for (const mode of KUBE_MODES) {
  t.test(`${mode} on a real API server`, { skip, timeout: 400_000 }, async (t) => {
    const lab = Lab.open(`k${mode[0]}-`);
    t.teardown(() => lab.close());
    const plane = await openPlane(lab);
    t.teardown(() => plane.close());
    const config = join(lab.dir, 'net-conf.json');
    writeFileSync(config, JSON.stringify({ Network: KUBE_NETWORK, Backend: { Type: mode } }));
    const hosts = new KubeHosts(lab, plane);
    const joined = await modeSuite(t, hosts, mode, config);
    if (mode === 'udp') await faultSuite(t, hosts, joined, config);
  });
}
