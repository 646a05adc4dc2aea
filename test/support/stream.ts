// A TCP stream of bytes that both ends make from a seed, so that none has to keep them: 64 KiB blocks of AES-CTR. The
// receiver says how many came and their hash, the sender the hash of what it sent.

import { type Lab, type Task, waitFor } from './lab.js';

const PORT = '7000';
const RECEIVER = `
  const hash = require('node:crypto').createHash('sha256'); let bytes = 0;
  require('node:net').createServer((s) => s.on('data', (d) => { hash.update(d); bytes += d.length; }).on('end', () => {
    console.log('received ' + bytes + ' ' + hash.digest('hex')); process.exit(0);
  })).listen(${PORT}, () => console.log('listening'));`;
const SENDER = `
  const { createCipheriv, createHash } = require('node:crypto');
  const cipher = createCipheriv('aes-128-ctr', Buffer.alloc(16, 7), Buffer.alloc(16));
  const zero = Buffer.alloc(65536);
  const hash = createHash('sha256'); let left = Number(process.argv[2]);
  const s = require('node:net').connect(${PORT}, process.argv[1]);
  const next = () => {
    while (left > 0) {
      const b = cipher.update(zero.subarray(0, Math.min(left, 65536))); left -= b.length;
      hash.update(b); if (!s.write(b)) return s.once('drain', next);
    }
    s.end(() => console.log('sent ' + hash.digest('hex')));
  };
  next();`;

/** What went and what came. */
export interface StreamResult {
  readonly sentHash: string;
  readonly receivedHash: string;
  readonly receivedBytes: number;
  readonly seconds: number;
}

/** Sends `bytes` from one namespace to another, at address `ip`; rejects when that takes longer than `timeoutMs`. */
export async function sendStream(
  lab: Lab,
  from: string,
  to: { readonly ns: string; readonly ip: string },
  bytes: number,
  timeoutMs: number,
): Promise<StreamResult> {
  const receiver: Task = await lab.spawnUntil(to.ns, process.execPath, ['-e', RECEIVER], /listening/);
  const startedMs = performance.now();
  const args = ['-e', SENDER, to.ip, String(bytes)];
  const { stdout } = await lab.run(from, process.execPath, args, { timeoutMs });
  await waitFor(() => /received/.test(receiver.log()), 'the receiver to finish', 60_000);
  const [, receivedBytes, receivedHash] = /received (\d+) (\w+)/.exec(receiver.log()) ?? [];
  return {
    sentHash: /sent (\w+)/.exec(stdout)?.[1] ?? '',
    receivedHash,
    receivedBytes: Number(receivedBytes),
    seconds: (performance.now() - startedMs) / 1000,
  };
}
