// A suite: peers that are up at the same time and workloads that each of them gets in turn, round after round, so that
// a slow minute of the machine hits all of them. Each round has another order, which a seed gives, so that nobody is
// always the one after the heaviest. Values are kept per round; medians are taken by who shows them.

import { setTimeout as sleep } from 'node:timers/promises';
import { Lab } from '../test/support/lab.js';
import { withBusyCores } from '../test/support/measure.js';
import { randomOf } from '../test/support/random.js';
import { Traffic } from '../test/support/traffic.js';
import type { Pace } from './pace.js';
import { type Peer, type PeerKind, startPeers } from './peers/peer.js';
import { bareSwitch } from './peers/uplink.js';
import { type Context, startServers, type Workload } from './workloads.js';

/** How long the lab is watched before the first round. */
const IDLE_SECONDS = 3;

/** All values of one metric of one peer. */
export interface Row {
  readonly peer: string;
  readonly metric: string;
  readonly unit: string;
  readonly samples: number[];
  readonly cores: number[];
  readonly nsPerPacket: number[];
  /** Share of the packets meanwhile that the kernel lane carried, 0 to 1; of peers that can have one. */
  readonly laneShare: number[];
}

export interface SuiteResult {
  readonly suite: string;
  readonly title: string;
  readonly rounds: number;
  readonly pace: Pace;
  readonly rows: readonly Row[];
  readonly missing: readonly { readonly name: string; readonly why: string }[];
  /** Mode of the kernel lane, of each peer that can have one. */
  readonly lanes: Readonly<Record<string, string>>;
  /** Busy cores of the machine with all peers up and nothing to do, before the first round. */
  readonly idleCores: number;
}

/** A peer of a suite, and what it gets. */
export interface Entry {
  readonly kind: PeerKind;
  readonly workloads: readonly Workload[];
}

export interface Suite {
  readonly name: string;
  /** What it varies, for tables. */
  readonly title: string;
  /** In the order in which results are shown. */
  readonly entries: readonly Entry[];
  /** Whether the uplinks of the hosts take no superpackets. @default false */
  readonly isCut?: boolean;
  /** Whether it is left out unless it is named, or all are asked for. @default false */
  readonly isExtra?: boolean;
  /** Changes the lab once all peers are up. */
  readonly prepare?: (lab: Lab, peers: readonly Peer[]) => Promise<void> | void;
  /** Runs before each turn of a peer; what it returns runs after it. */
  readonly beside?: (lab: Lab, peer: Peer) => Promise<() => Promise<void>>;
}

export interface RunOptions {
  readonly rounds: number;
  readonly pace: Pace;
  /** Of the orders of the peers. */
  readonly seed: number;
  readonly say: (text: string) => void;
}

/** The values in an order that `random` gives (Fisher and Yates). */
export function shuffled<T>(values: readonly T[], random: () => number): T[] {
  const out = [...values];
  for (let i = out.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [out[i], out[j]] = [out[j], out[i]];
  }
  return out;
}

/** Runs a suite in a lab of its own. */
export async function runSuite(suite: Suite, options: RunOptions): Promise<SuiteResult> {
  const { rounds, pace, seed, say } = options;
  const random = randomOf(seed);
  const lab = Lab.open('bench-');
  try {
    bareSwitch(lab);
    const context: Context = { lab, traffic: Traffic.build(lab), pace };
    const kinds = suite.entries.map(({ kind }) => kind);
    const { peers, missing, lanes } = await startPeers(lab, kinds, suite.isCut ?? false);
    for (const { name, why } of missing) say(`${name}: missing: ${why}`);
    for (const peer of peers) await startServers(context, peer);
    await suite.prepare?.(lab, peers);
    const { cores: idleCores } = await withBusyCores(IDLE_SECONDS, () => sleep(IDLE_SECONDS * 1000));
    say(`${suite.name}: ${idleCores.toFixed(2)} cores busy with nothing to do`);
    const rows = new Rows();
    for (let round = 1; round <= rounds; round++) {
      say(`${suite.name}: round ${round} of ${rounds}`);
      for (const peer of shuffled(peers, random)) await measurePeer(suite, context, peer, rows);
    }
    const { name, title } = suite;
    return { suite: name, title, rounds, pace, rows: rows.inOrderOf(kinds), missing, lanes, idleCores };
  } finally {
    await lab.close();
  }
}

class Rows {
  readonly #rows = new Map<string, Row>();

  add(peer: string, metric: string, unit: string): Row {
    const key = `${metric}\n${peer}`;
    let row = this.#rows.get(key);
    if (row === undefined) {
      row = { peer, metric, unit, samples: [], cores: [], nsPerPacket: [], laneShare: [] };
      this.#rows.set(key, row);
    }
    return row;
  }

  inOrderOf(kinds: readonly PeerKind[]): Row[] {
    return kinds.flatMap(({ name }) => [...this.#rows.values()].filter(({ peer }) => peer === name));
  }
}

async function measurePeer(suite: Suite, context: Context, peer: Peer, rows: Rows): Promise<void> {
  const after = await suite.beside?.(context.lab, peer);
  const { workloads } = suite.entries.find(({ kind }) => kind.name === peer.name)!;
  for (const workload of workloads) {
    const before = await peer.carried?.();
    const values = await workload(context, peer);
    const now = await peer.carried?.();
    const laneShare = before && now && (now.byLane - before.byLane) / (now.all - before.all);
    for (const { metric, unit, value, cores, nsPerPacket } of values) {
      const row = rows.add(peer.name, metric, unit);
      row.samples.push(value);
      if (cores !== undefined) row.cores.push(cores);
      if (nsPerPacket !== undefined) row.nsPerPacket.push(nsPerPacket);
      if (laneShare !== undefined) row.laneShare.push(laneShare);
    }
  }
  await after?.();
}
