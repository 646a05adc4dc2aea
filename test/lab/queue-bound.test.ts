// The queue of the device is bounded in bytes: superpackets that nobody reads do not pile up, single packets all fit.

import { readFileSync } from 'node:fs';
import t from 'tap';
import { measurePing, startIperfServer } from '../support/measure.js';
import { type Host, Lab, labUnavailable, waitFor } from '../support/lab.js';
import { startCluster, statusOf } from '../support/twill-hosts.js';

const skip = labUnavailable();

const QUEUE_BYTES = 5 << 20;
const BULK_BYTES = 4 << 20; // the rest is kept for single packets
const SUPERPACKET_BYTES = 60_000;
// The kernel stops bounding a queue that nobody has looked at for a second.
const STALE_MS = 1_000;

for (const mtuBytes of [1500, 9000]) {
  t.test(`the queue of the device is bounded in bytes, MTU ${mtuBytes}`, { skip }, async (t) => {
    const lab = Lab.open('bound-');
    t.teardown(() => lab.close());
    const program = lab.compile('test/lab/superpackets.cc');
    const { hosts, daemons } = await startCluster(lab, 2, ['--path-probes=false', '--lane=off'], {
      mtuBytes,
    });
    const [a, b] = hosts;
    const outbound = async (): Promise<Readonly<Record<string, number>>> =>
      (await statusOf(lab, a)).backend.counters.outbound;
    await waitFor(
      async () => (await lab.run(a.containerNs, 'ping', ['-c', '1', b.containerIp])).code === 0,
      'the overlay',
    );

    /**
     * Stops the daemon while `write` runs, after `idleMs`. What the device then handed over and dropped, and how long
     * it took.
     */
    const whileStopped = async (idleMs: number, write: () => Promise<number>) => {
      const before = await outbound();
      const startedMs = performance.now();
      daemons[0].child.kill('SIGSTOP');
      await new Promise((resolve) => setTimeout(resolve, idleMs));
      const taken = await write();
      daemons[0].child.kill('SIGCONT');
      const elapsedMs = performance.now() - startedMs;
      const grown = async (name: string): Promise<number> => (await outbound())[name] - before[name];
      await waitFor(
        async () => (await grown('reads')) + (await grown('drop_tun_queue')) >= taken,
        `${taken} to be accounted for`,
      );
      return { taken, elapsedMs, reads: await grown('reads'), dropped: await grown('drop_tun_queue') };
    };
    /** Only a daemon that looked at the queue within a second is bounded: a round on a busy machine may take longer. */
    const withinASecond = async (write: () => Promise<number>) => {
      for (let round = 0; round < 10; round++) {
        const result = await whileStopped(0, write);
        if (result.elapsedMs < 0.8 * STALE_MS) return result;
      }
      throw new Error('no round took less than 0.8 s');
    };
    const writeSuperpackets = async (): Promise<number> => {
      const args = ['eth0', macOf(lab, a), a.containerIp, b.containerIp, 1400, SUPERPACKET_BYTES, 2000, 0.15];
      const { stdout } = await lab.run(a.containerNs, program, args.map(String));
      return Number(/taken (\d+)/.exec(stdout)![1]);
    };

    await t.test('superpackets', async (t) => {
      const { taken, reads, dropped } = await withinASecond(writeSuperpackets);
      const most = BULK_BYTES / SUPERPACKET_BYTES + 2;
      t.ok(taken > 200, `${taken} were written`);
      t.ok(reads <= most && reads >= most - 5, `${reads} waited, ${dropped} were dropped`);
    });

    await t.test('single packets still fit behind them', async (t) => {
      const { dropped, taken } = await withinASecond(async () => {
        const superpackets = await writeSuperpackets();
        await lab.run(a.containerNs, 'python3', ['-c', datagrams(300, mtuBytes), b.containerIp]);
        return superpackets + 300;
      });
      t.ok(dropped <= taken - 300 - Math.floor(BULK_BYTES / SUPERPACKET_BYTES), `${dropped} dropped`);
    });

    await t.test('of single packets 1,900 fit', async (t) => {
      const { dropped } = await withinASecond(async () => {
        await lab.run(a.containerNs, 'python3', ['-c', datagrams(1900, mtuBytes), b.containerIp]);
        return 1900;
      });
      t.equal(dropped, 0);
    });

    await t.test('a queue that nobody looks at is not bounded, whoever opens the device next', async (t) => {
      const { taken, dropped } = await whileStopped(1.5 * STALE_MS, writeSuperpackets);
      t.ok(taken > 200, `${taken} were written`);
      t.equal(dropped, 0);
    });

    await startIperfServer(lab, b.containerNs);
    for (const congestion of ['cubic', 'bbr']) {
      const known = readFileSync('/proc/sys/net/ipv4/tcp_available_congestion_control', 'utf8');
      const skip = known.includes(congestion) ? false : `no ${congestion} here`;
      await t.test(`no echo is lost beside four streams of ${congestion}`, { skip }, async (t) => {
        const args = ['-c', b.containerIp, '-P', '4', '-t', '3', '-C', congestion];
        const bulk = lab.run(a.containerNs, 'iperf3', args);
        const ping = await measurePing(lab, a.containerNs, b.containerIp, 200);
        t.match((await bulk).stdout, /receiver/);
        t.equal(ping.received, ping.sent);
      });
    }

    await t.test('packets flow as before', async (t) => {
      t.equal((await lab.run(a.containerNs, 'ping', ['-c', '3', '-i', '0.1', b.containerIp])).code, 0);
      const { backend } = await statusOf(lab, a);
      t.equal((backend as unknown as { offloads: { queueBytes: number } }).offloads.queueBytes, QUEUE_BYTES);
    });
  });
}

/** Python that sends single packets, nearly as long as they may be. */
function datagrams(count: number, mtuBytes: number): string {
  return `
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(${count}): s.sendto(b'x' * ${mtuBytes - 200}, (sys.argv[1], 9))`;
}

function macOf(lab: Lab, host: Host): string {
  return (JSON.parse(lab.ip(host.ns, '-j link show dev cni0')) as { address: string }[])[0].address;
}
