// The list that closes a gap: all nodes, no older than what was seen before.
//
// A server that is behind must not undo what another one told, so the first question is for a list no older than that.
// Where no server comes so far, or none knows the version, etcd itself is asked. If it is behind, too, history went
// back.

import type { ApiObject, KubeClient, Query } from '../api/client.js';
import { KubeFault } from '../api/faults.js';
import type { HeldNodes, NodeList } from './held-nodes.js';
import { type NodeReading, readNode } from './kube-node.js';
import { versionVerdict } from './mirror-retry.js';
import { CACHED, listNodes, NEWEST, notOlderThan } from './node-list.js';
import { compareVersions } from './resource-version.js';

export interface GapListRequest {
  readonly client: KubeClient;
  readonly reading: NodeReading;
  /** What is held; its position is the version before the gap. Not changed. */
  readonly held: HeldNodes;
  /** History is known to have gone back. */
  readonly isRewound: boolean;
  readonly signal: AbortSignal;
}

/** For HeldNodes.adoptList(). */
export interface GapList {
  readonly list: NodeList;
  readonly version: string;
  readonly isRewound: boolean;
}

/** Rejects as KubeClient.list() does. */
export async function readGapList(request: GapListRequest): Promise<GapList> {
  const { isRewound, held } = request;
  const was = held.position;
  if (was === '') return readList(request, CACHED, false);
  if (isRewound) return readList(request, NEWEST, true);
  try {
    return await readList(request, notOlderThan(was), false);
  } catch (error) {
    if (!(error instanceof KubeFault) || versionVerdict(error) === undefined) throw error;
  }
  const newest = await readList(request, NEWEST, false);
  // Versions that cannot be compared: the server's word stands.
  return { ...newest, isRewound: compareVersions(newest.version, was) === undefined };
}

async function readList(request: GapListRequest, query: Query, isRewound: boolean): Promise<GapList> {
  const { client, reading, held, signal } = request;
  const list: NodeList = new Map();
  const onItem = (item: ApiObject): void => held.addRow(list, readNode(item, reading));
  const version = await listNodes(client, query, onItem, signal, { statusOf: reading.statusOf });
  return { list, version, isRewound };
}
