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
import { type Lab, type Task, waitFor } from '../test/support/lab.js';
import type { Peer, PeerKind } from './peers.js';

const EVENTS_PER_SECOND = 1000;
const CONFIG = {
  Network: '10.0.0.0/8',
  SubnetMin: '10.5.0.0',
  SubnetMax: '10.5.99.0',
  Backend: { Type: 'udp' },
};

/** Writes leases of 500 absent hosts for ever, 10 to a transaction, each time with other addresses. */
const WRITER = `
  const [prefix, perSecond] = process.argv.slice(1);
  const base64 = (text) => Buffer.from(text).toString('base64');
  let written = 0;
  const put = () => {
    const i = written++ % 500, round = Math.floor(written / 500) % 200;
    const value = JSON.stringify({ PublicIP: '100.64.' + round + '.' + (i % 250 + 1), PublicIPv6: null });
    const name = '10.' + (200 + Math.floor(i / 250)) + '.' + i % 250 + '.0-24';
    return { requestPut: { key: base64(prefix + '/subnets/' + name), value: base64(value) } };
  };
  const started = Date.now();
  (async () => {
    for (;;) {
      while (written < (Date.now() - started) * perSecond / 1000) {
        const body = JSON.stringify({ success: Array.from({ length: 10 }, put) });
        const answer = await fetch('http://127.0.0.1:2379/v3/kv/txn', { method: 'POST', body });
        if (!answer.ok) throw new Error(await answer.text());
        await answer.text();
        if (written === 10) console.log('writing');
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  })();`;

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
    note: '',
    missing: () => undefined,
    start: async (lab, first) => {
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
    const writer: Task = lab.spawn(this.#etcd!.ns, process.execPath, [
      '-e',
      WRITER,
      side.written,
      String(EVENTS_PER_SECOND),
    ]);
    await waitFor(() => writer.log().includes('writing'), 'the first lease to be written');
    return async () => {
      if (writer.child.exitCode !== null) throw new Error(`the writer of leases ended:\n${writer.log()}`);
      await lab.end(writer, 'SIGKILL');
    };
  };
}
