// A network of tens of thousands: leases of hosts that do not exist, written into a lab's etcd, and what a daemon takes
// of the machine's memory for them.

import { readFileSync } from 'node:fs';
import { ETCD_PREFIX, type LabEtcd } from './etcd-hosts.js';
import { type Lab, type Task, waitFor } from './lab.js';

/** A key below the prefix of the network, and its value. */
export type Entry = readonly [key: string, value: string];

/** Leases of hosts 0 to `count` - 1: 10.0.0.0/24, 10.0.1.0/24 …, at 172.24.0.1, 172.24.0.2 … */
export function* leaseEntries(count: number): Generator<Entry> {
  for (let i = 0; i < count; i++) {
    const address = 1 + i;
    const publicIp = `172.${24 + (address >> 16)}.${(address >> 8) & 255}.${address & 255}`;
    yield [`subnets/10.${i >> 8}.${i & 255}.0-24`, JSON.stringify({ PublicIP: publicIp, PublicIPv6: null })];
  }
}

// etcd takes 128 operations at once by default, and 1.5 MiB.
const TXN_KEYS = 128;
const TXN_BYTES = 1 << 20;

/** Runs beside etcd: puts what it reads, one transaction a line. */
const PUT = `
  const lines = require('node:readline').createInterface({ input: process.stdin });
  const put = async (body) => {
    const response = await fetch('http://127.0.0.1:2379/v3/kv/txn', { method: 'POST', body });
    const text = await response.text();
    if (!response.ok) throw new Error(text);
  };
  (async () => { for await (const line of lines) await put(line); })();`;

/** Puts all entries into the store, many at a time. */
export async function putMany(lab: Lab, etcd: LabEtcd, entries: Iterable<Entry>): Promise<void> {
  const lines: string[] = [];
  let puts: { requestPut: { key: string; value: string } }[] = [];
  let bytes = 0;
  const flush = (): void => {
    if (puts.length > 0) lines.push(JSON.stringify({ success: puts }));
    puts = [];
    bytes = 0;
  };
  for (const [name, value] of entries) {
    const key = `${ETCD_PREFIX}/${name}`;
    if (puts.length === TXN_KEYS || bytes + key.length + value.length > TXN_BYTES) flush();
    puts.push({ requestPut: { key: base64(key), value: base64(value) } });
    bytes += key.length + value.length;
  }
  flush();
  await lab.run(etcd.ns, process.execPath, ['-e', PUT], { input: `${lines.join('\n')}\n` });
}

/** Node's words for a daemon that collects its garbage on SIGUSR2: what it keeps does not depend on when V8 did. */
export const COLLECT = ['--expose-gc', '--import', 'data:text/javascript,process.on("SIGUSR2",()=>gc())'];

const STILL_BYTES = 1e6;
const STILL_MS = 1_000;

/** Of a process, in bytes. */
export interface Memory {
  readonly bytes: number;
  readonly peakBytes: number;
}

/** Memory of a process: now, and at most so far. */
export function memoryOf(task: Task): Memory {
  const status = readFileSync(`/proc/${task.child.pid}/status`, 'latin1');
  const field = (name: string): number =>
    1024 * Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)![1]);
  return { bytes: field('VmRSS'), peakBytes: field('VmHWM') };
}

/**
 * Memory of a daemon with COLLECT once that is still, and what it keeps of it; the peak is from before the garbage was
 * collected.
 */
export async function settledMemory(task: Task): Promise<Memory> {
  await still(task);
  const { peakBytes } = memoryOf(task);
  task.child.kill('SIGUSR2');
  await still(task);
  return { bytes: memoryOf(task).bytes, peakBytes };
}

async function still(task: Task): Promise<void> {
  let before = memoryOf(task).bytes;
  let sinceMs = Date.now();
  await waitFor(
    () => {
      const { bytes } = memoryOf(task);
      if (Math.abs(bytes - before) > STILL_BYTES) {
        before = bytes;
        sinceMs = Date.now();
      }
      return Date.now() - sinceMs > STILL_MS;
    },
    'its memory to be still',
    30_000,
  );
}

function base64(text: string): string {
  return Buffer.from(text, 'latin1').toString('base64');
}
