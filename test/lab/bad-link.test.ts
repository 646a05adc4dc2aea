// A gigabyte over a link that loses and reorders: what arrives is what was sent.

import t from 'tap';
import { Lab, labUnavailable } from '../support/lab.js';
import { sendStream } from '../support/stream.js';
import { startCluster, statusOf } from '../support/twill-hosts.js';

const GIGABYTE = 1 << 30;
const LOSS = 100; // of 10,000: 1 %
const REORDER = 100;

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

  const to = { ns: b.containerNs, ip: b.containerIp };
  const { seconds, ...result } = await sendStream(lab, a.containerNs, to, GIGABYTE, 180_000);
  t.equal(result.receivedBytes, GIGABYTE);
  t.equal(result.receivedHash, result.sentHash);
  t.comment(`${seconds.toFixed(1)} s, ${((GIGABYTE * 8) / seconds / 1e9).toFixed(2)} Gbit/s`);
  const { outbound } = (await statusOf(lab, a)).backend.counters;
  t.ok(outbound.packets_out > GIGABYTE / 1472, 'it went through the overlay');
});
