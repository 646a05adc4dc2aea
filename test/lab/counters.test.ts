// What counters say of packets that no worker sees, and of hosts that come, go and change places.

import t from 'tap';
import { type Host, Lab, labUnavailable, waitFor } from '../support/lab.js';
import {
  countIn,
  metricsOf,
  startCluster,
  startDaemon,
  type StaticLease,
  statusOf,
  tableOf,
  writeTable,
} from '../support/twill-hosts.js';

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
  const { hosts, daemons, staticFile } = await startCluster(lab, 2, ['--path-probes=false', '--lane=off']);
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
    const counted = 'dropped_packets_total{direction="outbound",reason="tun_queue"}';
    t.equal(countIn(await metricsOf(lab, a), counted), after.drop_tun_queue);
    await waitFor(
      () => /packets dropped: the queue of the TUN device was full/.test(daemons[0].log()),
      'the log',
      15_000,
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
    daemons[0] = await startDaemon(lab, a, staticFile, ['--path-probes=false', '--lane=off']);
    t.equal((await outbound()).drop_tun_queue, 0);
  });
});

t.test('counters of a peer are those of one host', { skip }, async (t) => {
  const lab = Lab.open('peer-');
  t.teardown(() => lab.close());
  const { hosts, daemons, staticFile } = await startCluster(lab, 2, ['--path-probes=false']);
  const [a, b] = hosts;
  const [own] = tableOf(hosts).leases;
  const peer = async () => (await statusOf(lab, a)).peers[0];
  /** Replaces all peers by one lease, or by none. */
  const setPeer = async (lease?: StaticLease): Promise<void> => {
    writeTable(staticFile, { ...tableOf(hosts), leases: [own, ...(lease === undefined ? [] : [lease])] });
    await waitFor(async () => {
      const { peers } = await statusOf(lab, a);
      const wanted = lease === undefined ? [] : [{ subnet: lease.subnet, publicIp: lease.publicIP }];
      return (
        JSON.stringify(peers.map(({ subnet, publicIp }) => ({ subnet, publicIp }))) === JSON.stringify(wanted)
      );
    }, 'the table');
  };
  const ping = async (count: number): Promise<void> => {
    await lab.run(a.containerNs, 'ping', ['-c', String(count), '-i', '0.05', b.containerIp]);
  };
  const ofPeer2 = { subnet: '10.5.2.0/24', publicIP: b.underlayIp };
  const none = { packetsOut: 0, bytesOut: 0, packetsIn: 0, bytesIn: 0 };

  await ping(10);
  const ten = { packetsOut: 10, bytesOut: 840, packetsIn: 10, bytesIn: 840 };
  const first = await peer();
  t.match(first, ten);

  await t.test('they outlive the data path', async (t) => {
    lab.ip(a.ns, 'link delete flannel0');
    await waitFor(() => /data path open[^]*data path open/.test(daemons[0].log()), 'a new device');
    t.match(await peer(), ten);
    await ping(10);
    t.match(await peer(), { packetsOut: 20, bytesOut: 1680, packetsIn: 20, bytesIn: 1680 });
  });

  await t.test('a lease that gets the row of another starts at 0', async (t) => {
    await setPeer();
    await setPeer({ subnet: '10.5.7.0/24', publicIP: '172.20.0.7' });
    t.match(await peer(), { ...none, row: first.row });
  });

  await t.test('so does another host with the same subnet, and the first one when it is back', async (t) => {
    await setPeer(ofPeer2);
    t.match(await peer(), none);
    await ping(5);
    t.match(await peer(), { packetsOut: 5, packetsIn: 5 });
    await setPeer({ ...ofPeer2, publicIP: '172.20.0.8' });
    t.match(await peer(), { ...none, row: first.row });
    await setPeer(ofPeer2);
    t.match(await peer(), none);
  });
});
