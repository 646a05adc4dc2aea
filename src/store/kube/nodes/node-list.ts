// Lists of nodes: all of them, or none but the version at which the store stands.

import type { ApiObject, KubeClient, ListOptions, Query } from '../api/client.js';
import { KubeFault } from '../api/faults.js';

/** Where nodes are. */
export const NODES_PATH = '/api/v1/nodes';

/** Whatever a server has at hand, which may be a little old: costs etcd nothing. */
export const CACHED: Query = { limit: '500', resourceVersion: '0' }; // as flannel asks; the server ignores the limit

/** As etcd holds it now. */
export const NEWEST: Query = { limit: '500' };

/** No older than `version`: 504 when the server is not as far, and does not come as far within 3 s. */
export function notOlderThan(version: string): Query {
  return { resourceVersion: version }; // without a limit, which would make it a list at exactly that version
}

const MAX_PAGES = 10_000;
const ONE: Query = { limit: '1' };

/**
 * Calls `onItem` for every node, and resolves to the version of the list. Rejects as KubeClient.list() does, and when
 * the server ends no list, or gives it no version.
 */
export async function listNodes(
  client: KubeClient,
  query: Query,
  onItem: (item: ApiObject) => void,
  signal: AbortSignal,
  options: ListOptions = {},
): Promise<string> {
  let page = query;
  for (let pages = 0; pages < MAX_PAGES; pages++) {
    const end = await client.list(NODES_PATH, page, onItem, signal, options);
    // All pages are of one version, that of the first.
    if (end.continueToken === undefined) return versionOf(client, end.resourceVersion);
    page = { ...NEWEST, continue: end.continueToken };
  }
  throw new KubeFault(0, 'broken', `cannot list nodes at ${client.server}: more than ${MAX_PAGES} pages`);
}

/** The version at which etcd stands now: a read of one object, and that without its spec and status. */
export async function readNewestVersion(client: KubeClient, signal: AbortSignal): Promise<string> {
  const end = await client.list(NODES_PATH, ONE, () => undefined, signal, { metadataOnly: true });
  return versionOf(client, end.resourceVersion);
}

function versionOf(client: KubeClient, version: string): string {
  if (version !== '') return version;
  throw new KubeFault(0, 'broken', `cannot list nodes at ${client.server}: the list has no resourceVersion`);
}
