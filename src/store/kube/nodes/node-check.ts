// The slow comparison: every few minutes the metadata of all nodes is listed and compared with what a mirror holds, in
// case its watch lost an event, or history was exchanged under it.
//
// What differs may just be on its way: so it is given `settleMs`, and passed over when a write later than the list was
// seen of the node, since an event holds the whole of it. What is left is asked for by itself, node by node:
// - another uid or other annotations, a node that is not held, and one that is not listed;
// - a later version of a node without podCIDR, which is not in the metadata and is assigned once;
// - a later version although the watch has come past it: it was a heartbeat, most likely, but was lost.
// An earlier version than was seen is none of these: such a list is of another history.
//
// A list is of whatever version its server has at hand. One older than what we have seen comes from a server that is
// behind, or from a store that was restored: etcd's own version tells which.

import type { Logger } from '../../../core/log.js';
import { type Clock, nap } from '../../../core/waiting.js';
import type { ApiObject, KubeClient } from '../api/client.js';
import { KubeFault } from '../api/faults.js';
import type { HeldNode, HeldNodes } from './held-nodes.js';
import { type KubeNode, type NodeEvent, type NodeReading, readNode, sameMetadata } from './kube-node.js';
import type { MirrorCounters, RelistReason } from './mirror-counters.js';
import { CACHED, listNodes, NODES_PATH, readNewestVersion } from './node-list.js';
import { isLater } from './resource-version.js';

export interface NodeCheckOptions {
  readonly client: KubeClient;
  readonly reading: NodeReading;
  readonly held: HeldNodes;
  readonly counters: MirrorCounters;
  readonly log: Logger;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly settleMs: number;
  /** What the comparison put right. */
  onEvents(events: readonly NodeEvent[]): void;
}

/** More differences than this are not worth a request each. */
const MAX_REQUESTS = 64;
const MAX_SHOWN = 5;

interface Listed {
  /** Of the list. */
  readonly version: string;
  /** Held nodes that are in it. */
  readonly names: ReadonlySet<string>;
  /** What it shows otherwise than held when it came by, be it only the version. */
  readonly suspects: ReadonlyMap<string, KubeNode>;
}

/**
 * Compares once, while the watch goes on. Resolves to why everything is to be listed anew, or undefined. Rejects as
 * KubeClient.list() and get() do.
 */
export async function checkNodes(options: NodeCheckOptions): Promise<RelistReason | undefined> {
  const { held } = options;
  held.rememberDeletions();
  try {
    return await compare(options);
  } finally {
    held.forgetDeletions();
  }
}

async function compare(options: NodeCheckOptions): Promise<RelistReason | undefined> {
  const { client, held, counters, clock, signal, settleMs } = options;
  const { generation, position } = held;
  const listed = await readList(options);
  if (isLater(position, listed.version) && isLater(position, await readNewestVersion(client, signal)))
    return 'rewound';
  if (findDoubtful(held, listed).length > 0) await nap(settleMs, signal, clock);
  if (held.generation !== generation || signal.aborted) return undefined; // all were listed meanwhile
  if (isOfAnotherHistory(held, listed)) return 'rewound';
  const doubtful = findDoubtful(held, listed);
  if (doubtful.length > MAX_REQUESTS) return 'differences';
  const reason = await repairAll(doubtful, options);
  if (reason === undefined) counters.checks++;
  return reason;
}

async function readList({ client, reading, held, signal }: NodeCheckOptions): Promise<Listed> {
  const names = new Set<string>();
  const suspects = new Map<string, KubeNode>();
  const onItem = (item: ApiObject): void => {
    const node = readNode(item, reading);
    const known = held.get(node.name);
    if (known !== undefined) names.add(node.name);
    if (known?.version === node.resourceVersion && sameMetadata(known.node, node)) return;
    if (known === undefined && (node.name === '' || suspects.size >= held.maxNodes)) return;
    suspects.set(node.name, node);
  };
  const version = await listNodes(client, CACHED, onItem, signal, { metadataOnly: true });
  return { version, names, suspects };
}

/** Whether the list, which should know what is held of a node, shows an earlier write of it. */
function isOfAnotherHistory(held: HeldNodes, { version, suspects }: Listed): boolean {
  for (const [name, node] of suspects) {
    const known = held.get(name);
    if (known === undefined || isLater(known.version, version)) continue;
    if (isLater(known.version, node.resourceVersion)) return true;
  }
  return false;
}

/** Nodes about which the list may be right and we wrong. O(n). */
function findDoubtful(held: HeldNodes, { version, names, suspects }: Listed): string[] {
  const doubtful: string[] = [];
  for (const [name, node] of suspects) {
    const known = held.get(name);
    const last = known?.version ?? held.deletionOf(name);
    if (last !== undefined && isLater(last, version)) continue;
    if (known === undefined ? !held.isFull : isOutdated(known, node, held.position)) doubtful.push(name);
  }
  for (const known of held.entries()) {
    const { name } = known.node;
    if (!names.has(name) && !suspects.has(name) && !isLater(known.version, version)) doubtful.push(name);
  }
  return doubtful;
}

function isOutdated({ node, version }: HeldNode, listed: KubeNode, position: string): boolean {
  if (!sameMetadata(node, listed)) return true;
  if (!isLater(listed.resourceVersion, version)) return false;
  return node.podCidrs.length === 0 || !isLater(listed.resourceVersion, position);
}

async function repairAll(
  doubtful: readonly string[],
  options: NodeCheckOptions,
): Promise<RelistReason | undefined> {
  const { held, counters, log } = options;
  const { generation } = held;
  const repaired: string[] = [];
  try {
    for (const name of doubtful) {
      const seen = held.get(name)?.version;
      const node = await readOne(name, options);
      if (held.generation !== generation) return undefined;
      if (node !== undefined && seen !== undefined && isLater(seen, node.resourceVersion)) return 'rewound';
      const events = node === undefined ? held.repairGone(name, seen) : held.repair(node, seen);
      if (events.length === 0) continue;
      repaired.push(name);
      counters.repairs++;
      options.onEvents(events);
    }
    return undefined;
  } finally {
    if (repaired.length > 0) {
      const nodes = repaired.slice(0, MAX_SHOWN).join(' ');
      log.warn(
        { repairs: repaired.length, nodes },
        'comparison with the API server found differences: repaired',
      );
    }
  }
}

/** undefined: there is no such node. */
async function readOne(
  name: string,
  { client, reading, signal }: NodeCheckOptions,
): Promise<KubeNode | undefined> {
  try {
    const node = readNode(await client.get(`${NODES_PATH}/${encodeURIComponent(name)}`, signal), reading);
    if (node.name === name) return node;
    throw new KubeFault(0, 'broken', `cannot get nodes "${name}" at ${client.server}: another object came`);
  } catch (error) {
    if (error instanceof KubeFault && error.status === 404) return undefined;
    throw error;
  }
}
