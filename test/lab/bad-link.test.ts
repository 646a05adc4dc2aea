// A file over a link that loses, reorders and sends twice, of either family and over either: what arrives is what was
// sent. The picture of the hosts is in ways.ts.

import t from 'tap';
import { type Host, type Lab, labUnavailable, type Task, waitFor } from '../support/lab.js';
import { sendStream } from '../support/stream.js';
import { checkSums, statusOf } from '../support/twill-hosts.js';
import { containerAddress, openHosts, WAYS } from '../support/ways.js';

/** `npm run test:bad-link` asks for a gigabyte. */
const FILE_BYTES = Number(process.env['BAD_LINK_MIB'] ?? 256) * 2 ** 20;
/** What becomes of frames, of 10,000. */
const LOST = 100;
const LATE = 100;
const TWICE = 100;

/** Makes the link of the second host bad. Frames are what a wire carries: no link has offloads. */
async function impair(lab: Lab, [first, second]: readonly Host[]): Promise<Task> {
  // The port moves from the bridge to a namespace of its own, in which the impairer joins it to the bridge.
  const middle = lab.addNamespace('mid');
  lab.ip(lab.switchNs, `link set p2 nomaster netns ${middle}`);
  lab.ip(lab.switchNs, `link add q2 type veth peer name q2m netns ${middle}`);
  lab.ip(lab.switchNs, 'link set q2 master br0 up');
  // No frames of their own: these two are the two ends of a wire.
  for (const link of ['p2', 'q2m']) lab.ip(middle, `link set ${link} addrgenmode none up`);
  const noOffload = ['tso', 'off', 'gso', 'off', 'gro', 'off', 'tx', 'off', 'tx-udp-segmentation', 'off'];
  for (const [ns, link] of [
    [first.ns, 'eth0'],
    [second.ns, 'eth0'],
    [lab.switchNs, 'p1'],
    [lab.switchNs, 'q2'],
    [middle, 'p2'],
    [middle, 'q2m'],
  ])
    await lab.run(ns, 'ethtool', ['-K', link, ...noOffload]);
  const args = ['p2', 'q2m', LOST, LATE, TWICE, 1].map(String);
  return await lab.spawnUntil(middle, lab.compile('test/support/impair.cc'), args, /impairing/);
}

for (const outer of ['v4', 'v6'] as const) {
  const way = WAYS.find((known) => known.inner.length === 2 && known.outer === outer)!;
  const title = `1 % lost, 1 % reordered and 1 % twice: ${way.name}`;
  t.test(title, { skip: labUnavailable(), timeout: 600_000 }, async (t) => {
    const { lab, hosts } = await openHosts(t, way, `bad${outer}-`);
    const [a, b] = hosts;
    const link = await impair(lab, hosts);
    for (const family of way.inner) {
      const sentBefore = (await statusOf(lab, a)).backend.counters.outbound.packets_out;
      const to = { ns: b.containerNs, ip: containerAddress(2, family) };
      const { seconds, ...result } = await sendStream(lab, a.containerNs, to, FILE_BYTES, 180_000);
      t.equal(result.receivedBytes, FILE_BYTES);
      t.equal(result.receivedHash, result.sentHash, `${family}: unchanged`);
      t.comment(
        `${family}: ${seconds.toFixed(1)} s, ${((FILE_BYTES * 8) / seconds / 1e9).toFixed(2)} Gbit/s`,
      );
      const { outbound } = (await statusOf(lab, a)).backend.counters;
      t.ok(outbound.packets_out - sentBefore > FILE_BYTES / 1472, `${family}: it went through the overlay`);
    }
    await lab.end(link);
    await waitFor(() => /doubled/.test(link.log()), 'the link to tell');
    const [, passed, ...bad] = /passed (\d+) lost (\d+) moved (\d+) doubled (\d+)/.exec(link.log())!;
    t.comment(`${passed} frames passed, ${bad.join(', ')} were lost, late and twice`);
    for (const count of bad) t.ok(Number(count) > Number(passed) / 200, `${count} of ${passed}`);
    for (const host of hosts) {
      await checkSums(t, lab, host);
      t.equal((await statusOf(lab, host)).backend.counters.inbound.checksum_bad, 0);
    }
  });
}
