// Two hosts, two containers, real packets: what crosses, what it looks like on the wire, and that every packet is
// counted. Run with offloads and without, because both must do the same, in networks of either family and of both. The
// picture is in ways.ts.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { FamilyName } from '../../src/net/dual.js';
import { type Host, type Lab, labUnavailable } from '../support/lab.js';
import { startIperfServer } from '../support/measure.js';
import { checkDatagram, readPcap } from '../support/pcap.js';
import { sendStream } from '../support/stream.js';
import { checkSums, statusOf } from '../support/twill-hosts.js';
import { containerAddress, openHosts, OUTER_BYTES, WAYS, type Way } from '../support/ways.js';

const skip = labUnavailable();
const [V4, V6, DUAL_OVER_V4, DUAL_OVER_V6] = WAYS;
/** What the network is, and an address there that nobody has. */
const OF_FAMILY = {
  v4: { of: '-4', network: '10.5.0.0/16', nobody: '10.5.77.7' },
  v6: { of: '-6', network: 'fd00:5::/48', nobody: 'fd00:5:0:77::7' },
} as const;
/** IP and UDP headers of the containers' datagrams. */
const UDP_BYTES = { v4: 28, v6: 48 } as const;

const RUNS: readonly (readonly [name: string, flag: string, way: Way])[] = [
  ['auto', '--offload=auto', DUAL_OVER_V4],
  ['off4', '--offload=off', V4],
  ['off6', '--offload=off', V6],
  ['mq', '--queues=2', DUAL_OVER_V6],
];

for (const [name, flag, way] of RUNS) {
  t.test(`two hosts, ${flag}, ${way.name}`, { skip }, async (t) => {
    // Between veth devices a lane leaves inner checksums to the other lane: what is captured is not whole.
    const { lab, hosts, daemons } = await openHosts(t, way, `ov-${name}-`, [flag, '--lane=off']);
    const [a, b] = hosts;
    const mtuBytes = 1500 - OUTER_BYTES[way.outer];
    for (const { ns, containerNs } of hosts) {
      lab.ip(ns, `link set cni0 mtu ${mtuBytes}`);
      lab.ip(containerNs, `link set eth0 mtu ${mtuBytes}`);
    }
    for (const { containerNs } of hosts) await startIperfServer(lab, containerNs);
    const ping = async (from: Host, family: FamilyName, ...args: string[]): Promise<string> => {
      const to = containerAddress(3 - from.index, family);
      return (await lab.run(from.containerNs, 'ping', ['-i', '0.1', ...args, to])).stdout;
    };

    for (const family of way.inner) {
      const ofB = containerAddress(2, family);

      await t.test(`${family}: echoes cross both ways, four hops below the sender’s TTL`, async (t) => {
        for (const from of hosts) {
          const text = await ping(from, family, '-c', '3');
          t.match(text, /3 received/);
          t.match(text, /ttl=60/, 'each crossing takes one for each kernel and one for each daemon');
        }
      });

      await t.test(`${family}: fragments of a large datagram cross`, async (t) => {
        t.match(await ping(a, family, '-c', '2', '-s', '3000'), /2 received/);
      });

      await t.test(`${family}: each datagram on the wire is exactly one valid packet`, async (t) => {
        const file = join(lab.dir, `${family}.pcap`);
        // -B: the buffer holds the burst; -s 0: whole packets.
        const dump = await lab.spawnUntil(
          b.ns,
          'tcpdump',
          ['-i', 'eth0', '-U', '-s', '0', '-B', '65536', '-w', file, 'udp port 8285'],
          /listening on/,
        );
        const toA = ['-c', containerAddress(1, family)];
        await lab.run(b.containerNs, 'iperf3', [...toA, '-n', '4M']);
        await lab.run(b.containerNs, 'iperf3', [...toA, '-u', '-b', '50M', '-l', '700', '-n', '4M']);
        await ping(b, family, '-c', '3', '-s', '4000');
        await lab.end(dump, 'SIGINT');
        const packets = readPcap(readFileSync(file));
        t.ok(packets.length > 100, `${packets.length} captured`);
        t.same(
          packets.filter(({ ip }) => ip[0] >> 4 !== Number(way.outer[1])),
          [],
          'over the outer family alone',
        );
        t.same(packets.flatMap((packet) => checkDatagram(packet)).slice(0, 5), []);
      });

      await t.test(`${family}: a stream arrives with an equal hash`, async (t) => {
        const { sentHash, receivedHash } = await sendStream(
          lab,
          a.containerNs,
          { ns: b.containerNs, ip: ofB },
          64 << 20,
          60_000,
        );
        t.equal(receivedHash, sentHash);
      });

      await t.test(`${family}: UDP of every length up to three fragments crosses unchanged`, async (t) => {
        await checkUdpEcho(t, lab, { a, b }, family, mtuBytes - UDP_BYTES[family]);
      });
    }

    await t.test('every packet ends in one counter', async (t) => {
      for (const family of way.inner) {
        await lab.run(a.containerNs, 'iperf3', ['-c', containerAddress(2, family), '-n', '64M', '-P', '4']);
        const echoes = ['-q', '-c', '10', '-i', '0.01', '-W', '0.1', OF_FAMILY[family].nobody];
        await lab.run(a.containerNs, 'ping', echoes, { mustSucceed: false });
      }
      for (const host of hosts) {
        const { outbound, inbound } = (await statusOf(lab, host)).backend.counters;
        t.ok(outbound.packets_in > 0 && inbound.packets_in > 0);
        await checkSums(t, lab, host);
      }
      const { outbound } = (await statusOf(lab, a)).backend.counters;
      t.equal(outbound.drop_no_route, 10 * way.inner.length);
    });

    await t.test('SIGTERM ends the daemon with 0, and leaves the device', async (t) => {
      t.equal(await lab.end(daemons[0]), 0);
      t.match(lab.ip(a.ns, 'link show flannel0'), /flannel0/);
      for (const family of way.inner) {
        const { of, network } = OF_FAMILY[family];
        t.match(lab.ip(a.ns, `${of} route show`), `${network} dev flannel0`);
      }
    });
  });
}

/** Echoes of `largest` bytes make a packet as large as the overlay takes. */
async function checkUdpEcho(
  t: Test,
  lab: Lab,
  { a, b }: { a: Host; b: Host },
  family: FamilyName,
  largest: number,
): Promise<void> {
  const port = family === 'v4' ? '7004' : '7006';
  const udp = `udp${family[1]}`;
  const echo = `
    const s = require('node:dgram').createSocket('${udp}');
    s.on('message', (m, r) => s.send(m, r.port, r.address)); s.bind(${port}, () => console.log('listening'));`;
  const probe = `
    const s = require('node:dgram').createSocket('${udp}');
    const lengths = []; for (let i = 0; i < 3000; i += 37) lengths.push(i);
    lengths.push(${largest}, ${largest + 1}, ${2 * largest});
    let at = 0, bad = 0, timer;
    const next = () => { clearTimeout(timer); if (at === lengths.length) { console.log('bad ' + bad); process.exit(0); }
      timer = setTimeout(() => { bad++; at++; next(); }, 1000);
      s.send(Buffer.alloc(lengths[at], at & 255), ${port}, process.argv[1]); };
    s.on('message', (m) => { if (m.length !== lengths[at] || m.some((x) => x !== (at & 255))) bad++; at++; next(); });
    next();`;
  await lab.spawnUntil(b.containerNs, process.execPath, ['-e', echo], /listening/);
  const to = containerAddress(2, family);
  const { stdout } = await lab.run(a.containerNs, process.execPath, ['-e', probe, to]);
  t.match(stdout, /bad 0/);
}
