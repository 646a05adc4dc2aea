// Changes to leases beside traffic. Pairs of hosts on one etcd, each under a prefix of its own: while one is measured
// without changes, the same writes go to a prefix that nobody watches, so that etcd and the writer cost all the same:
// the difference is what a change costs the daemons.

import {
  ETCD_PREFIX,
  ETCD_PROGRAMS,
  etcdctl,
  joinHost,
  type LabEtcd,
  startEtcd,
} from '../test/support/etcd-hosts.js';
import type { Lab } from '../test/support/lab.js';
import { startWriter } from './lease-writer.js';
import { isThere, type Peer, type PeerKind } from './peers/peer.js';
import { LANE_FLAGS, laneOf, named } from './peers/twill.js';

const EVENTS_PER_SECOND = 1000;
const CONFIG = {
  Network: '10.0.0.0/8',
  SubnetMin: '10.5.0.0',
  SubnetMax: '10.5.99.0',
  Backend: { Type: 'udp' },
};

interface Side {
  readonly name: string;
  readonly lane: (typeof LANE_FLAGS)[number];
  /** What its daemons watch, and what is written meanwhile. */
  readonly prefix: string;
  readonly written: string;
}

const SIDES: readonly Side[] = LANE_FLAGS.flatMap((lane, i) => [
  {
    name: named('events elsewhere', lane),
    lane,
    prefix: i === 0 ? ETCD_PREFIX : `/still-${i}/network`,
    written: '/unwatched/network',
  },
  {
    name: named(`${EVENTS_PER_SECOND} lease events/s`, lane),
    lane,
    prefix: `/moving-${i}/network`,
    written: `/moving-${i}/network`,
  },
]);

/** The pairs as peers, and what runs beside each. */
export class Churn {
  #etcd: LabEtcd | undefined;

  readonly kinds: readonly PeerKind[] = SIDES.map(({ name, prefix, lane }) => ({
    name,
    missing: isThere,
    start: async ({ lab, first }) => {
      this.#etcd ??= await startEtcd(lab, CONFIG);
      await etcdctl(lab, this.#etcd, ['put', `${prefix}/config`, JSON.stringify(CONFIG)]);
      const flags = [`--etcd-prefix=${prefix}`, lane];
      const a = await joinHost(lab, first, flags);
      const b = await joinHost(lab, first + 1, flags);
      const end = ({ host }: typeof a): Peer['ends'][0] => ({ ns: host.containerNs, ip: host.containerIp });
      const hosts = [a.host, b.host];
      return { ends: [end(a), end(b)], hosts, daemons: [a.daemon, b.daemon], ...laneOf(lab, hosts) };
    },
  }));

  static readonly programs = ETCD_PROGRAMS;

  /** Writes until the returned function is called. */
  readonly beside = async (lab: Lab, peer: Peer): Promise<() => Promise<void>> => {
    const side = SIDES.find(({ name }) => name === peer.name)!;
    const writer = await startWriter(lab, this.#etcd!, {
      prefix: side.written,
      perSecond: EVENTS_PER_SECOND,
      perTransaction: 10,
      write: 'moved',
    });
    return async () => {
      if (writer.child.exitCode !== null) throw new Error(`the writer of leases ended:\n${writer.log()}`);
      await lab.end(writer, 'SIGKILL');
    };
  };
}
