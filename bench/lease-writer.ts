// Changes to leases, made at a steady rate: who writes them into a lab's etcd beside a measurement.

import type { LabEtcd } from '../test/support/etcd-hosts.js';
import { type Lab, type Task, waitFor } from '../test/support/lab.js';

/** What each write does to its lease: gives it another public IP, or nothing but a later revision. */
export type LeaseWrite = 'moved' | 'renewed';

export interface LeaseWrites {
  /** Of the keys, such as "/coreos.com/network". */
  readonly prefix: string;
  readonly perSecond: number;
  /** Puts of one transaction, which a watch gets in one message. */
  readonly perTransaction: number;
  readonly write: LeaseWrite;
  /** After so many it prints "written" and ends. @default never */
  readonly count?: number;
}

/** Writes leases of 500 absent hosts, all of one etcd lease, as a host's own key hangs on one. */
const WRITER = `
  const { prefix, perSecond, perTransaction, write, count } = JSON.parse(process.argv[1]);
  const base64 = (text) => Buffer.from(text).toString('base64');
  const post = async (path, body) => {
    const answer = await fetch('http://127.0.0.1:2379/v3/' + path, { method: 'POST', body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(await answer.text());
    return answer.json();
  };
  let written = 0;
  let lease;
  const put = () => {
    const i = written++ % 500;
    const round = write === 'moved' ? Math.floor(written / 500) % 200 : 0;
    const value = JSON.stringify({ PublicIP: '100.64.' + round + '.' + (i % 250 + 1), PublicIPv6: null });
    const name = '10.' + (200 + Math.floor(i / 250)) + '.' + i % 250 + '.0-24';
    return { requestPut: { key: base64(prefix + '/subnets/' + name), value: base64(value), lease } };
  };
  (async () => {
    lease = (await post('lease/grant', { TTL: 86400 })).ID;
    const started = Date.now();
    for (;;) {
      while (written < (Date.now() - started) * perSecond / 1000) {
        await post('kv/txn', { success: Array.from({ length: perTransaction }, put) });
        if (written === perTransaction) console.log('writing');
        if (written >= count) return console.log('written');
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  })();`;

/** Starts the writer beside etcd; resolves when the first leases are written. */
export async function startWriter(lab: Lab, etcd: LabEtcd, writes: LeaseWrites): Promise<Task> {
  const writer = lab.spawn(etcd.ns, process.execPath, ['-e', WRITER, JSON.stringify(writes)]);
  await waitFor(() => writer.log().includes('writing'), 'the first lease to be written');
  return writer;
}
