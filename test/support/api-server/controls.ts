// What another process may do to the stand-in: one function a command, with arguments and results that are JSON.

import type { ApiServer, NodeParts } from '../api-server.js';
import type { Rule } from './access.js';
import type { Ending } from './answer.js';
import type { ApiObject } from './api-object.js';
import { writeCredentials } from './credentials.js';
import type { Match, Refusal } from './faults.js';
import { afterReport, reportedNode, startStorm } from './many-nodes.js';
import type { Backup } from './object-store.js';
import type { ClusterCidr } from './pod-cidrs.js';
import type { Verb } from './request-info.js';
import { NODES } from './resources.js';
import type { SeenRequest } from './seen-requests.js';

/** How it stands, in numbers. */
export interface Standing {
  readonly version: number;
  readonly nodes: number;
  readonly watches: number;
  readonly connections: number;
}

/** Commands by name. `dir` is where credentials are written. */
export function controlsOf(server: ApiServer, dir: string) {
  const backups: Backup[] = [];
  const holds: (() => void)[] = [];
  let endStorm = (): void => undefined;
  const report = (name: string): void => {
    if (server.store.get(NODES, name) !== undefined)
      server.updateNode(name, (node) => afterReport(node, new Date()));
  };
  return {
    standing: (): Standing => ({
      version: server.store.version,
      nodes: server.store.count(NODES),
      watches: server.watches.count,
      connections: server.connections,
    }),
    requests: (verb?: Verb, resource?: string): readonly SeenRequest[] =>
      server.requests.list(verb, resource),
    forgetRequests: (): void => server.requests.clear(),

    createNode: (name: string, parts?: NodeParts): ApiObject => server.createNode(name, parts),
    updateNode: (name: string, patch: ApiObject): ApiObject => server.updateNode(name, patch),
    deleteNode: (name: string): void => server.deleteNode(name),
    node: (name: string): ApiObject | null => server.node(name) ?? null,
    createPod: (namespace: string, name: string, nodeName: string): ApiObject =>
      server.createPod(namespace, name, nodeName),
    deletePod: (namespace: string, name: string): void => server.deletePod(namespace, name),
    events: (): ApiObject[] => server.events(),
    assignPodCidrs: (clusters: readonly ClusterCidr[]): void => void server.assignPodCidrs(clusters),
    /** Nodes `from` to `to` - 1 as kubelets report them, and flannel annotates them. */
    createManyNodes: (from: number, to: number, mode?: 'udp' | 'vxlan'): void => {
      for (let i = from; i < to; i++) server.create(NODES, reportedNode(i, mode));
    },
    /** The kubelet of a node reports. */
    report,
    /** Kubelets of nodes 0 to `count` - 1 report in turn; 0 a second ends it. */
    storm: (perSecond: number, count: number): void => {
      endStorm();
      const nameOf = (index: number): string => `w${String(index).padStart(5, '0')}`;
      endStorm =
        perSecond === 0 ? () => undefined : startStorm(perSecond, count, (index) => report(nameOf(index)));
    },

    allow: (user: string, rules: readonly Rule[]): void => server.access.allow(user, rules),
    revokeToken: (token: string): void => server.access.revokeToken(token),
    addToken: (token: string, user: string): void => server.access.addToken(token, user),
    useNewCertificate: (): void => server.useNewCertificate(),
    /** Credentials are written anew. */
    useNewAuthority: (): void => {
      server.useNewAuthority();
      writeCredentials(dir, server.url, server.authority.cert, server.tokens);
    },

    failNext: (failure: number | Refusal, match?: Match): void => server.faults.failNext(failure, match),
    truncateNext: (bytes: number, ending: Ending, match?: Match): void =>
      server.faults.truncateNext(bytes, ending, match),
    /** The number to give to release(). */
    hold: (match?: Match): number => holds.push(server.faults.hold(match)) - 1,
    release: (hold: number): void => holds[hold](),
    clearFaults: (): void => server.faults.clear(),
    dropEvents: (count: number): void => server.watches.dropEvents(count),
    truncateNextEvent: (ending: Ending): void => server.watches.truncateNext(ending),
    endWatches: (ending?: Ending): void => server.endWatches(ending),
    bookmark: (): void => server.watches.bookmark(),
    skipVersions: (count: number): void => server.store.skipVersions(count),
    compact: (): void => server.store.compact(),
    /** The number to give to restore(). */
    backup: (): number => backups.push(server.store.backup()) - 1,
    restore: (backup: number): Promise<void> => server.restore(backups[backup]),

    stop: (): Promise<void> => server.stop(),
    start: (): Promise<void> => server.start(),
    restart: (): Promise<void> => server.restart(),
    blackHole: (): void => server.blackHole(),
    blackHoleExisting: (): void => server.blackHoleExisting(),
    stopReading: (): void => server.stopReading(),
    heal: (): void => server.heal(),
    cutConnections: (how?: 'cut' | 'reset'): void => server.cutConnections(how),
    goAway: (code?: number): void => server.goAway(code),
    close: (): void => endStorm(),
  };
}

export type Controls = ReturnType<typeof controlsOf>;

/** One line to the stand-in. */
export interface Command {
  readonly id: number;
  readonly do: string;
  readonly with: readonly unknown[];
}

/** One line back. */
export interface Outcome {
  readonly id: number;
  /** Undefined: done. */
  readonly error?: string;
  readonly result?: unknown;
}
