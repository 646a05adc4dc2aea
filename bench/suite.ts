// A suite: peers that are up at the same time and workloads that each of them gets in turn, round after round, so that
// a slow minute of the machine hits all of them. Values are kept per round; medians are taken by who shows them.

import { Lab } from '../test/support/lab.js';
import { type Peer, type PeerKind, startPeers } from './peers.js';
import { Traffic } from '../test/support/traffic.js';
import { type Context, startServers, type Workload } from './workloads.js';

/** All values of one metric of one peer. */
export interface Row {
  readonly peer: string;
  readonly metric: string;
  readonly unit: string;
  readonly samples: number[];
  readonly cores: number[];
  readonly nsPerPacket: number[];
}

export interface SuiteResult {
  readonly suite: string;
  readonly title: string;
  readonly rows: readonly Row[];
  readonly missing: readonly { readonly name: string; readonly why: string }[];
}

export interface Suite {
  readonly name: string;
  /** What it varies, for tables. */
  readonly title: string;
  readonly kinds: readonly PeerKind[];
  readonly workloads: readonly Workload[];
  /** Changes the lab once all peers are up. */
  readonly prepare?: (lab: Lab, peers: readonly Peer[]) => Promise<void> | void;
  /** Runs before each turn of a peer; what it returns runs after it. */
  readonly beside?: (lab: Lab, peer: Peer) => Promise<() => Promise<void>>;
}

export interface RunOptions {
  readonly rounds: number;
  readonly seconds: number;
  readonly say: (text: string) => void;
}

/** Runs a suite in a lab of its own. */
export async function runSuite(suite: Suite, options: RunOptions): Promise<SuiteResult> {
  const lab = Lab.open('bench-');
  try {
    const context: Context = { lab, traffic: Traffic.build(lab), seconds: options.seconds };
    const { peers, missing } = await startPeers(lab, suite.kinds);
    for (const { name, why } of missing) options.say(`${name}: missing: ${why}`);
    for (const peer of peers) await startServers(context, peer);
    await suite.prepare?.(lab, peers);
    const rows = new Map<string, Row>();
    for (let round = 1; round <= options.rounds; round++) {
      options.say(`${suite.name}: round ${round} of ${options.rounds}`);
      for (const peer of peers) await measurePeer(suite, context, peer, rows);
    }
    return { suite: suite.name, title: suite.title, rows: [...rows.values()], missing };
  } finally {
    await lab.close();
  }
}

async function measurePeer(
  suite: Suite,
  context: Context,
  peer: Peer,
  rows: Map<string, Row>,
): Promise<void> {
  const after = await suite.beside?.(context.lab, peer);
  for (const workload of suite.workloads) {
    for (const { metric, unit, value, cores, nsPerPacket } of await workload(context, peer)) {
      const key = `${metric}\n${peer.name}`;
      let row = rows.get(key);
      if (row === undefined) {
        row = { peer: peer.name, metric, unit, samples: [], cores: [], nsPerPacket: [] };
        rows.set(key, row);
      }
      row.samples.push(value);
      if (cores !== undefined) row.cores.push(cores);
      if (nsPerPacket !== undefined) row.nsPerPacket.push(nsPerPacket);
    }
  }
  await after?.();
}
