// A gigabyte over a link that loses and reorders: what arrives is what was sent.

import t from 'tap';
import { Lab, labUnavailable, waitFor } from '../support/lab.js';
import { startCluster, statusOf } from '../support/twill-hosts.js';

const GIGABYTE = 1 << 30;
const LOSS = 100; // of 10,000: 1 %
const REORDER = 100;

// Both ends make the same bytes from a seed, so that no file of that size is needed: 64 KiB blocks of AES-CTR.
const STREAM = `
  const { createCipheriv, createHash } = require('node:crypto');
  const cipher = createCipheriv('aes-128-ctr', Buffer.alloc(16, 7), Buffer.alloc(16));
  const zero = Buffer.alloc(65536);`;
const RECEIVER = `
  const hash = require('node:crypto').createHash('sha256'); let bytes = 0;
  require('node:net').createServer((s) => s.on('data', (d) => { hash.update(d); bytes += d.length; }).on('end', () => {
    console.log('received ' + bytes + ' ' + hash.digest('hex')); process.exit(0);
  })).listen(7000, () => console.log('listening'));`;
const SENDER = `${STREAM}
  const hash = createHash('sha256'); let left = Number(process.argv[2]);
  const s = require('node:net').connect(7000, process.argv[1]);
  const next = () => {
    while (left > 0) {
      const b = cipher.update(zero.subarray(0, Math.min(left, 65536))); left -= b.length;
      hash.update(b); if (!s.write(b)) return s.once('drain', next);
    }
    s.end(() => console.log('sent ' + hash.digest('hex')));
  };
  next();`;

t.test('1 GiB under 1 % loss and 1 % reordering', { skip: labUnavailable() }, async (t) => {
  const lab = Lab.open('bad-');
  t.teardown(() => lab.close());
  const { hosts } = await startCluster(lab, 2);
  const [a, b] = hosts;
  // Host 2's port moves from the bridge to a namespace of its own, in which the impairer joins it to the bridge.
  const middle = lab.addNamespace('mid');
  lab.ip(lab.switchNs, `link set p2 nomaster netns ${middle}`);
  lab.ip(lab.switchNs, `link add q2 type veth peer name q2m netns ${middle}`);
  lab.ip(lab.switchNs, 'link set q2 master br0 up');
  for (const link of ['p2', 'q2m']) lab.ip(middle, `link set ${link} up`);
  const noOffload = ['tso', 'off', 'gso', 'off', 'gro', 'off', 'tx', 'off', 'tx-udp-segmentation', 'off'];
  for (const [ns, link] of [
    [a.ns, 'eth0'],
    [b.ns, 'eth0'],
    [lab.switchNs, 'p1'],
    [lab.switchNs, 'q2'],
    [middle, 'p2'],
    [middle, 'q2m'],
  ]) {
    await lab.run(ns, 'ethtool', ['-K', link, ...noOffload]);
  }
  const program = lab.compile('test/support/impair.cc');
  const args = ['p2', 'q2m', LOSS, REORDER, 1].map(String);
  await lab.spawnUntil(middle, program, args, /impairing/);

  const receiver = await lab.spawnUntil(b.containerNs, process.execPath, ['-e', RECEIVER], /listening/);
  const startedMs = Date.now();
  const { stdout } = await lab.run(
    a.containerNs,
    process.execPath,
    ['-e', SENDER, b.containerIp, String(GIGABYTE)],
    { timeoutMs: 180_000 },
  );
  await waitFor(() => /received/.test(receiver.log()), 'the receiver to finish', 60_000);
  const seconds = (Date.now() - startedMs) / 1000;
  const [, bytes, received] = /received (\d+) (\w+)/.exec(receiver.log())!;
  t.equal(Number(bytes), GIGABYTE);
  t.equal(received, /sent (\w+)/.exec(stdout)![1]);
  t.comment(`${seconds.toFixed(1)} s, ${((GIGABYTE * 8) / seconds / 1e9).toFixed(2)} Gbit/s`);
  const { outbound } = (await statusOf(lab, a)).backend.counters;
  t.ok(outbound.packets_out > GIGABYTE / 1472, 'it went through the overlay');
});
