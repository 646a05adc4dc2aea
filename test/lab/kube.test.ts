// The overlay on a stand-in of the Kubernetes API server, on every machine: three hosts in each mode with pods behind
// them, and the faults that the API server and its nodes can have. test/kube runs the same on a real one.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { ApiServerProcess } from '../support/api-server-process.js';
import {
  type ApiNode,
  type ControlPlane,
  faultSuite,
  KUBE_MODES,
  KUBE_NETWORK,
  KubeHosts,
  modeSuite,
} from '../support/kube-overlay.js';
import { Lab, labUnavailable, waitFor } from '../support/lab.js';

const skip = labUnavailable();

async function openPlane(lab: Lab): Promise<ControlPlane> {
  const address = '172.20.0.240';
  const ns = lab.addServer('kube', 240);
  const dir = join(lab.dir, 'api');
  const clusterCidrs = [{ cidr: KUBE_NETWORK, nodeMask: 24 }];
  const { api } = await ApiServerProcess.openIn(lab, ns, { dir, address, port: 6443, clusterCidrs });
  const node = async (name: string): Promise<ApiNode> => (await api.do('node', name)) as unknown as ApiNode;
  return {
    kubeconfig: join(dir, 'flannel.kubeconfig'),
    link: 'p240',
    node,
    createNode: async (name) => {
      await api.do('createNode', name);
      await waitFor(async () => (await node(name)).spec.podCIDR !== undefined, `a podCIDR of ${name}`);
    },
    deleteNode: (name) => api.do('deleteNode', name),
    annotate: (name, annotations) => api.do('updateNode', name, { metadata: { annotations } }),
    kill: () => api.do('stop'),
    start: () => api.do('start'),
    freeze: () => api.do('blackHole'),
    thaw: () => api.do('heal'),
  };
}

for (const mode of KUBE_MODES) {
  t.test(`${mode} on a stand-in of the API server`, { skip, timeout: 240_000 }, async (t) => {
    const lab = Lab.open(`ks${mode[0]}-`);
    t.teardown(() => lab.close());
    const plane = await openPlane(lab);
    const config = join(lab.dir, 'net-conf.json');
    writeFileSync(config, JSON.stringify({ Network: KUBE_NETWORK, Backend: { Type: mode } }));
    const hosts = new KubeHosts(lab, plane);
    const joined = await modeSuite(t, hosts, mode, config);
    if (mode === 'udp') await faultSuite(t, hosts, joined, config);
  });
}
