// Nodes of the Kubernetes API from words, as tests write them.

import type { KubeNode } from '../../src/store/kube/nodes/kube-node.js';

export type NodeWords = Partial<KubeNode> & { readonly name?: string };

/** A Node as readNode() gives it: without annotations, made at second 1, with podCIDR 10.244.1.0/24. */
export function nodeOf(words: NodeWords = {}): KubeNode {
  return {
    name: 'node1',
    uid: 'uid-1',
    resourceVersion: '1',
    createdMs: 1000,
    podCidrs: ['10.244.1.0/24'],
    annotations: {},
    networkUnavailable: undefined,
    ...words,
  };
}

/** The annotations of a member of a udp network. */
export function udpAnnotations(publicIp: string): Record<string, string> {
  return {
    'kube-subnet-manager': 'true',
    'backend-type': '',
    'backend-data': 'null',
    'public-ip': publicIp,
  };
}
