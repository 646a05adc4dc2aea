// What a daemon takes of the machine's memory in the largest cluster that Kubernetes is made for: 5,000 nodes of 15 KB,
// whose kubelets report 500 times a second, and which are listed once more after the API server has compacted its
// history.

import t from 'tap';
import { KubeCrowd } from '../support/kube-crowd.js';
import { Lab, labUnavailable, waitFor } from '../support/lab.js';
import { COLLECT, type Memory, settledMemory } from '../support/many-leases.js';
import { countIn, metricsOf } from '../support/twill-hosts.js';

const NODES = 5_000;
const REPORTS_PER_SECOND = 500;
const REPORTS = 2_500;
const MAX_PEAK_BYTES = 200e6;
const MAX_NODE_BYTES = 6_000; // some 3,500: what is held of a node, its lease, its peer

t.test('memory in a cluster of 5,000 nodes', { skip: labUnavailable() }, async (t) => {
  const lab = Lab.open('km-');
  t.teardown(() => lab.close());
  const crowd = await KubeCrowd.open(lab, 'udp');

  const metric = async (name: string): Promise<number> => countIn(await metricsOf(lab, crowd.host), name);
  /** What a daemon takes that starts now, and has then lived through `life`. */
  const measure = async (life: () => Promise<void>): Promise<Memory> => {
    const { task, ms } = await crowd.startDaemon(COLLECT);
    await life();
    const memory = await settledMemory(task);
    const peers = await metric('peers');
    await lab.end(task);
    const { bytes, peakBytes } = memory;
    t.comment(`${peers} peers after ${ms} ms: ${bytes / 1e6} MB, at most ${peakBytes / 1e6} MB`);
    return memory;
  };

  const alone = await measure(() => Promise.resolve());
  await crowd.growTo(NODES);
  const { bytes, peakBytes } = await measure(async () => {
    await waitFor(async () => (await metric('peers')) === NODES, 'all peers to be in the table');
    await crowd.api.do('storm', REPORTS_PER_SECOND, NODES);
    const isSeen = async (): Promise<boolean> => (await metric('kube_events_unchanged_total')) >= REPORTS;
    await waitFor(isSeen, 'the reports to be seen', 30_000);
    await crowd.api.do('storm', 0, 0);
    await crowd.api.do('skipVersions', 1); // what the watch has not come past
    await crowd.api.do('compact');
    await crowd.api.do('endWatches');
    await waitFor(async () => (await metric('kube_lists_total')) === 2, 'another list', 30_000);
    t.equal(await metric('peers'), NODES);
  });
  t.ok(peakBytes <= MAX_PEAK_BYTES, `${peakBytes} bytes at the peak`);
  t.ok((bytes - alone.bytes) / NODES <= MAX_NODE_BYTES, `${bytes} bytes, without other nodes ${alone.bytes}`);
});
