// A stand-in of the API server on a host of its own in a lab, as the control plane of the others.

import { join } from 'node:path';
import { ApiServerProcess } from './api-server-process.js';
import { type ApiNode, type ControlPlane, KUBE_NETWORK } from './kube-overlay.js';
import { type Lab, waitFor } from './lab.js';

export async function openStandIn(lab: Lab): Promise<ControlPlane> {
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
