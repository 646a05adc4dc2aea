// What counters say of packets that no worker sees, and of hosts that come, go and change places.

import t from 'tap';
import { type Host, Lab, labUnavailable, waitFor } from '../../bench/lab/lab.js';
import { HEALTH_PORT, startCluster, startDaemon, statusOf } from '../../bench/lab/twill-hosts.js';

const skip = labUnavailable();

const SENT = 5_000;

/** Sends datagrams to the discard port of a container. */
async function sendDatagrams(lab: Lab, from: Host, to: Host): Promise<void> {
  const script = `
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(${SENT}): s.sendto(b'x' * 100, (sys.argv[1], 9))`;
  await lab.run(from.containerNs, 'python3', ['-c', script, to.containerIp]);
}

t.test('packets lost in the queue of the device are counted', { skip }, async (t) => {
  const lab = Lab.open('cnt-');
  t.teardown(() => lab.close());
  const { hosts, daemons, staticFile } = await startCluster(lab, 2, ['--path-probes=false']);
  const [a, b] = hosts;
  const outbound = async () => (await statusOf(lab, a)).backend.counters.outbound;
  const ping = () => lab.run(a.containerNs, 'ping', ['-c', '1', b.containerIp]);
  await waitFor(async () => (await ping()).code === 0, 'the overlay');

  const before = await outbound();
  daemons[0].child.kill('SIGSTOP');
  await sendDatagrams(lab, a, b);
  daemons[0].child.kill('SIGCONT');
  await waitFor(
    async () => (await outbound()).packets_in - before.packets_in === SENT,
    'all to be accounted for',
  );
  const after = await outbound();
  t.equal(after.packets_out - before.packets_out + after.drop_tun_queue, SENT);
  t.ok(after.drop_tun_queue > 1_000, `${after.drop_tun_queue} of ${SENT} lost`);

  await t.test('in metrics, the log and twill drops', async (t) => {
    const { body } = await lab.get(a.ns, `http://127.0.0.1:${HEALTH_PORT}/metrics`);
    const line = `twill_dropped_packets_total{direction="outbound",reason="tun_queue"} ${after.drop_tun_queue}`;
    t.ok(body.includes(line));
    await waitFor(
      () => /packets dropped: the queue of the TUN device was full/.test(daemons[0].log()),
      'the log',
    );
    const { stdout } = await lab.run(a.ns, process.execPath, ['dist/cli/main.js', 'drops']);
    t.match(stdout, /outbound +tun_queue +the queue of the TUN device was full/);
  });

  await t.test('a device that is deleted takes none of them along', async (t) => {
    lab.ip(a.ns, 'link delete flannel0');
    await waitFor(() => /data path open[^]*data path open/.test(daemons[0].log()), 'a new device');
    t.equal((await outbound()).drop_tun_queue, after.drop_tun_queue);
  });

  await t.test('what a device dropped before this run is not counted', async (t) => {
    t.equal(await lab.end(daemons[0]), 0);
    await sendDatagrams(lab, a, b); // nobody reads the device now
    const dropped = (): number =>
      Number(/"dropped":(\d+)/.exec(/"tx":(.*)/.exec(lab.ip(a.ns, '-s -j link show flannel0'))![1])![1]);
    t.ok(dropped() >= SENT);
    daemons[0] = await startDaemon(lab, a, staticFile, ['--path-probes=false']);
    t.equal((await outbound()).drop_tun_queue, 0);
  });
});
