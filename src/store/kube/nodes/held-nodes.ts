// The nodes as a mirror holds them, and the rules by which events and lists change them. No I/O.
//
//   position   every change up to this version is held
//   version    of each node: that of the newest write seen of it, reports of kubelets included
//
// - An event at or below the position is a replay, as is one at or below the version of its node, which a repair may
//   have read from ahead of the watch.
// - A list is taken as the truth about all it may know: not about a node whose version is later than the list.
// - When history went back, versions mean nothing any more: the list is the truth then, and who is missing has vanished
//   instead of being deleted.
// Work per event does not grow with the number of nodes.

import { type KubeNode, type NodeEvent, sameNode } from './kube-node.js';
import type { MirrorCounters } from './mirror-counters.js';
import { compareVersions, isLater } from './resource-version.js';

/** More than any cluster has; Kubernetes is made for 5,000. */
export const MAX_NODES = 65_536;

/** One node that is held. */
export interface HeldNode {
  /** As of its last change that was told. */
  readonly node: KubeNode;
  /** Of the last write of it that was seen. */
  readonly version: string;
}

interface Held {
  node: KubeNode;
  version: string;
}

/** A node of a list, as little of it as needs to be kept until the list has come to its end. */
interface Row {
  readonly version: string;
  /** undefined: as it was held when the list came by. */
  readonly node: KubeNode | undefined;
}

/** A list that is being read, by name: what rows HeldNodes.addRow() made. */
export type NodeList = Map<string, Row>;

const NONE: readonly NodeEvent[] = [];

/** See the head of this file. */
export class HeldNodes {
  readonly maxNodes: number;
  readonly #counters: MirrorCounters;
  readonly #nodes = new Map<string, Held>();
  #position = '';
  #generation = 0;
  #deletions: Map<string, string> | undefined;

  constructor(counters: MirrorCounters, maxNodes = MAX_NODES) {
    this.#counters = counters;
    this.maxNodes = maxNodes;
  }

  /** See the head of this file; "" before the first list. */
  get position(): string {
    return this.#position;
  }

  get size(): number {
    return this.#nodes.size;
  }

  get isFull(): boolean {
    return this.#nodes.size >= this.maxNodes;
  }

  /** Grows with every list that was adopted. */
  get generation(): number {
    return this.#generation;
  }

  get(name: string): HeldNode | undefined {
    return this.#nodes.get(name);
  }

  entries(): IterableIterator<HeldNode> {
    return this.#nodes.values();
  }

  /** The server says that nothing else happened up to `version`. */
  moveTo(version: string): void {
    if (version !== '' && !isLater(this.#position, version)) this.#position = version;
  }

  /** What an event of a watch changes, to be told. */
  applyEvent(type: 'ADDED' | 'MODIFIED' | 'DELETED', node: KubeNode): readonly NodeEvent[] {
    if (!this.#isUsable(node)) return NONE;
    const { name, resourceVersion } = node;
    const held = this.#nodes.get(name);
    if (
      isKnown(resourceVersion, this.#position) ||
      (held !== undefined && isKnown(resourceVersion, held.version))
    ) {
      this.#counters.replays++;
      return NONE;
    }
    this.moveTo(resourceVersion);
    if (type !== 'DELETED') return this.#put(node, held);
    this.#counters.events++;
    this.#deletions?.set(name, resourceVersion);
    return held === undefined ? NONE : this.#remove(held, 'delete');
  }

  /** Adds a node to a list for adoptList(). */
  addRow(list: NodeList, node: KubeNode): void {
    if (!this.#isUsable(node)) return;
    const held = this.#nodes.get(node.name);
    // Of nodes that are not held, no more are kept than may be held: a list has no bound of its own.
    if (held === undefined && list.size >= this.#nodes.size + this.maxNodes) {
      this.#counters.refused++;
      return;
    }
    const isSame = held !== undefined && sameNode(held.node, node);
    list.set(node.name, { version: node.resourceVersion, node: isSame ? undefined : node });
  }

  /**
   * Takes a list of all nodes at `version`, every row of which was added after the last event. `isRewound`: history is
   * known to have gone back. O(n).
   */
  adoptList(list: NodeList, version: string, isRewound: boolean): ListChanges {
    const isRewritten = isRewound || isLater(this.#position, version) || this.#isContradicted(list);
    const isStale = (held: Held): boolean => !isRewritten && isLater(held.version, version);
    this.#generation++;
    const events: NodeEvent[] = [];
    for (const [name, held] of this.#nodes) {
      const row = list.get(name);
      if (isStale(held)) list.delete(name);
      else if (row === undefined) events.push(...this.#remove(held, isRewritten ? 'vanished' : 'delete'));
      else held.version = row.version;
    }
    for (const [name, { node }] of list) {
      if (node !== undefined) events.push(...this.#replace(node, this.#nodes.get(name)));
    }
    this.#position = version;
    return { events, isRewritten };
  }

  /**
   * Takes `node`, which was asked for when the newest write seen of it was `seen`, unless something later was seen
   * since; returns what it changes.
   */
  repair(node: KubeNode, seen: string | undefined): readonly NodeEvent[] {
    if (!this.#isUsable(node)) return NONE;
    const held = this.#nodes.get(node.name);
    const last = held?.version ?? this.deletionOf(node.name);
    if (last !== undefined && last !== seen && !isLater(node.resourceVersion, last)) return NONE;
    if (held === undefined || !sameNode(held.node, node)) return this.#replace(node, held);
    held.version = node.resourceVersion;
    return NONE;
  }

  /** The node was not found when the newest write seen of it was `seen`: it goes, unless more was seen since. */
  repairGone(name: string, seen: string | undefined): readonly NodeEvent[] {
    const held = this.#nodes.get(name);
    return held !== undefined && held.version === seen ? this.#remove(held, 'vanished') : NONE;
  }

  /** From now on deletions are remembered, so that repair() does not undo them; until forgetDeletions(). */
  rememberDeletions(): void {
    this.#deletions = new Map();
  }

  forgetDeletions(): void {
    this.#deletions = undefined;
  }

  /** The version of the deletion of `name`, if it is remembered. */
  deletionOf(name: string): string | undefined {
    return this.#deletions?.get(name);
  }

  // A list shows, at a version that we had seen in full, a node other than we saw it.
  #isContradicted(list: NodeList): boolean {
    if (this.#position === '') return false;
    for (const [name, { version, node }] of list) {
      if (node === undefined || !isKnown(version, this.#position)) continue;
      const held = this.#nodes.get(name);
      // Nodes are left out when too many are held, and read from ahead of the position by a repair.
      if (held === undefined ? !this.isFull : !isLater(held.version, this.#position)) return true;
    }
    return false;
  }

  #put(node: KubeNode, held: Held | undefined): readonly NodeEvent[] {
    if (held !== undefined && sameNode(held.node, node)) {
      held.version = node.resourceVersion;
      this.#counters.unchanged++;
      return NONE;
    }
    this.#counters.events++;
    return this.#replace(node, held);
  }

  #replace(node: KubeNode, held: Held | undefined): readonly NodeEvent[] {
    if (held === undefined) {
      if (this.isFull) {
        this.#counters.refused++;
        return NONE;
      }
      this.#nodes.set(node.name, { node, version: node.resourceVersion });
      return [{ kind: 'put', node }];
    }
    const { name, uid } = held.node;
    held.node = node;
    held.version = node.resourceVersion;
    return uid === node.uid
      ? [{ kind: 'put', node }]
      : [
          { kind: 'delete', name, uid },
          { kind: 'put', node },
        ];
  }

  #remove({ node: { name, uid } }: Held, kind: 'delete' | 'vanished'): readonly NodeEvent[] {
    this.#nodes.delete(name);
    return [kind === 'delete' ? { kind, name, uid } : { kind, name }];
  }

  #isUsable({ name, resourceVersion }: KubeNode): boolean {
    if (name !== '' && resourceVersion !== '') return true;
    this.#counters.malformed++;
    return false;
  }
}

/** What a list changed. */
export interface ListChanges {
  readonly events: readonly NodeEvent[];
  /** History went back, or was exchanged: see the head of this file. */
  readonly isRewritten: boolean;
}

/** Whether all up to `seen` is known, and `version` is not later. */
function isKnown(version: string, seen: string): boolean {
  const order = compareVersions(version, seen);
  return order !== undefined && order <= 0;
}
