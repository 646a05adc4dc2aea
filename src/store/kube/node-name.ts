// Which Node this host is: NODE_NAME, or the node that the pod POD_NAME of POD_NAMESPACE runs on.

import { OverlayError } from '../../core/errors.js';
import type { KubeClient } from './api/client.js';

type Environment = Readonly<Record<string, string | undefined>>;

export type NodeNameSource =
  | { readonly kind: 'node'; readonly name: string }
  | { readonly kind: 'pod'; readonly name: string; readonly namespace: string };

// A DNS subdomain; names of pods are of the same kind.
const NAME = /^[a-z\d]([a-z\d.-]{0,251}[a-z\d])?$/;

/** Where the name is to be had from. Throws OverlayError E_USAGE. */
export function nodeNameSource(env: Environment): NodeNameSource {
  const node = env['NODE_NAME'] ?? '';
  if (node !== '') return { kind: 'node', name: checked('NODE_NAME', node) };
  const [pod, namespace] = [env['POD_NAME'] ?? '', env['POD_NAMESPACE'] ?? ''];
  if (pod === '' || namespace === '') {
    throw new OverlayError(
      'E_USAGE',
      'The Kubernetes store needs the name of this node: expected NODE_NAME, or POD_NAME and POD_NAMESPACE',
    );
  }
  return { kind: 'pod', name: checked('POD_NAME', pod), namespace: checked('POD_NAMESPACE', namespace) };
}

/** The name; undefined when the pod is on no node. Rejects with KubeFault. */
export async function nodeName(
  source: NodeNameSource,
  client: Pick<KubeClient, 'get'>,
  signal: AbortSignal,
): Promise<string | undefined> {
  if (source.kind === 'node') return source.name;
  const pod = await client.get(`/api/v1/namespaces/${source.namespace}/pods/${source.name}`, signal);
  const { nodeName: name } = (pod['spec'] ?? {}) as { readonly nodeName?: unknown };
  return typeof name === 'string' && NAME.test(name) ? name : undefined;
}

function checked(variable: string, value: string): string {
  if (NAME.test(value)) return value;
  throw new OverlayError(
    'E_USAGE',
    `Variable ${variable} is ${JSON.stringify(value)}: expected a name in Kubernetes`,
  );
}
