// Changes to leases beside traffic. Two pairs of hosts on one etcd, each under a prefix of its own: while the first is
// measured, the same writes go to a prefix that nobody watches, so that etcd and the writer cost both the same, and the
// difference is what a change costs the daemons.

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

const EVENTS_PER_SECOND = 1000;
const CONFIG = {
  Network: '10.0.0.0/8',
  SubnetMin: '10.5.0.0',
  SubnetMax: '10.5.99.0',
  Backend: { Type: 'udp' },
};

const WITHOUT = { name: 'events elsewhere', prefix: ETCD_PREFIX, written: '/unwatched/network' };
const WITH = {
  name: `${EVENTS_PER_SECOND} lease events/s`,
  prefix: '/second/network',
  written: '/second/network',
};
const SIDES = [WITHOUT, WITH];

/** The two pairs as peers, and what runs beside each. */
export class Churn {
  #etcd: LabEtcd | undefined;

  readonly kinds: readonly PeerKind[] = SIDES.map(({ name, prefix }) => ({
    name,
    missing: isThere,
    start: async ({ lab, first }) => {
      this.#etcd ??= await startEtcd(lab, CONFIG);
      await etcdctl(lab, this.#etcd, ['put', `${prefix}/config`, JSON.stringify(CONFIG)]);
      const flags = [`--etcd-prefix=${prefix}`];
      const a = await joinHost(lab, first, flags);
      const b = await joinHost(lab, first + 1, flags);
      const end = ({ host }: typeof a): Peer['ends'][0] => ({ ns: host.containerNs, ip: host.containerIp });
      return { ends: [end(a), end(b)], hosts: [a.host, b.host], daemons: [a.daemon, b.daemon] };
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
