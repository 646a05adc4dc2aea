// Two hosts, two containers, real packets: what crosses, what it looks like on the wire, and that every packet is
// counted. Run with offloads and without, because both must do the same.

import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type Host, Lab, labUnavailable, waitFor } from '../support/lab.js';
import { measurePing, measureTcp, startIperfServer } from '../support/measure.js';
import { checkSums, startCluster, statusOf } from '../support/twill-hosts.js';
import { checkDatagram, readPcap } from '../support/pcap.js';

const skip = labUnavailable();

for (const [name, flag] of [
  ['auto', '--offload=auto'],
  ['off', '--offload=off'],
  ['mq', '--queues=2'],
]) {
  t.test(`two hosts, ${flag}`, { skip }, async (t) => {
    const lab = Lab.open(`ov-${name}-`);
    t.teardown(() => lab.close());
    // Between veth devices a lane leaves inner checksums to the other lane: what is captured is not whole.
    const { hosts, daemons } = await startCluster(lab, 2, [flag, '--lane=off']);
    const [a, b] = hosts;

    await t.test('ICMP echo crosses both ways, four hops below the sender’s TTL', async (t) => {
      for (const [from, to] of [
        [a, b],
        [b, a],
      ]) {
        const { stdout } = await lab.run(from.containerNs, 'ping', ['-c', '3', '-i', '0.1', to.containerIp]);
        t.match(stdout, /3 received/);
        t.match(stdout, /ttl=60/, 'each crossing takes one for each kernel and one for each daemon');
      }
    });

    await t.test('fragments of a large datagram cross', async (t) => {
      const { stdout } = await lab.run(a.containerNs, 'ping', [
        '-c',
        '2',
        '-i',
        '0.1',
        '-s',
        '3000',
        b.containerIp,
      ]);
      t.match(stdout, /2 received/);
    });

    await t.test('each datagram on the wire is exactly one valid IPv4 packet', async (t) => {
      await checkWire(t, lab, a, b);
    });

    await t.test('a file arrives with an equal hash', async (t) => {
      const sent = randomBytes(64 << 20);
      const file = join(a.dir, 'sent');
      writeFileSync(file, sent);
      const received = await transfer(lab, a, b, file);
      t.equal(received, createHash('sha256').update(sent).digest('hex'));
    });

    await t.test('UDP of every length up to three fragments crosses unchanged', async (t) => {
      await checkUdpEcho(t, lab, a, b);
    });

    await t.test('every packet ends in one counter', async (t) => {
      await startIperfServer(lab, b.containerNs);
      await measureTcp(lab, a.containerNs, b.containerIp, 1, 4);
      await measurePing(lab, a.containerNs, '10.5.77.7', 10);
      for (const host of hosts) await checkCounters(t, lab, host);
    });

    await t.test('SIGTERM ends the daemon with 0, and leaves the device', async (t) => {
      t.equal(await lab.end(daemons[0]), 0);
      t.match(lab.ip(a.ns, 'link show flannel0'), /flannel0/);
      t.match(lab.ip(a.ns, 'route show'), /10\.5\.0\.0\/16 dev flannel0/);
    });
  });
}

async function checkWire(t: Test, lab: Lab, a: Host, b: Host): Promise<void> {
  const file = join(lab.dir, 'wire.pcap');
  // -B: the buffer holds the burst; -s 0: whole packets.
  const dump = await lab.spawnUntil(
    b.ns,
    'tcpdump',
    ['-i', 'eth0', '-U', '-s', '0', '-B', '65536', '-w', file, 'udp port 8285'],
    /listening on/,
  );
  await startIperfServer(lab, a.containerNs);
  await lab.run(b.containerNs, 'iperf3', ['-c', a.containerIp, '-n', '4M']);
  await lab.run(b.containerNs, 'iperf3', ['-c', a.containerIp, '-u', '-b', '50M', '-l', '700', '-t', '1']);
  await lab.run(b.containerNs, 'ping', ['-c', '3', '-i', '0.1', '-s', '4000', a.containerIp]);
  await lab.end(dump, 'SIGINT');
  const packets = readPcap(readFileSync(file));
  t.ok(packets.length > 100, `${packets.length} captured`);
  const faults = packets.flatMap((packet) => checkDatagram(packet));
  t.same(faults.slice(0, 5), []);
}

/** Sends a file through TCP and returns the receiver's SHA-256. */
async function transfer(lab: Lab, from: Host, to: Host, file: string): Promise<string> {
  const receiver = `
    const hash = require('node:crypto').createHash('sha256');
    require('node:net').createServer((s) => s.on('data', (d) => hash.update(d)).on('end', () => {
      console.log('hash ' + hash.digest('hex')); process.exit(0); })).listen(7000, () => console.log('listening'));`;
  const sender = `
    require('node:fs').createReadStream(process.argv[1]).pipe(require('node:net').connect(7000, process.argv[2]));`;
  const task = await lab.spawnUntil(to.containerNs, process.execPath, ['-e', receiver], /listening/);
  await lab.run(from.containerNs, process.execPath, ['-e', sender, file, to.containerIp]);
  await waitFor(() => /hash \w+/.test(task.log()), 'the receiver to finish', 60_000);
  return /hash (\w+)/.exec(task.log())![1];
}

async function checkUdpEcho(t: Test, lab: Lab, a: Host, b: Host): Promise<void> {
  const echo = `
    const s = require('node:dgram').createSocket('udp4');
    s.on('message', (m, r) => s.send(m, r.port, r.address)); s.bind(7001, () => console.log('listening'));`;
  const probe = `
    const s = require('node:dgram').createSocket('udp4');
    const lengths = []; for (let i = 0; i < 3000; i += 37) lengths.push(i); lengths.push(1444, 1445, 2888);
    let at = 0, bad = 0, timer;
    const next = () => { clearTimeout(timer); if (at === lengths.length) { console.log('bad ' + bad); process.exit(0); }
      timer = setTimeout(() => { bad++; at++; next(); }, 1000);
      s.send(Buffer.alloc(lengths[at], at & 255), 7001, process.argv[1]); };
    s.on('message', (m) => { if (m.length !== lengths[at] || m.some((x) => x !== (at & 255))) bad++; at++; next(); });
    next();`;
  await lab.spawnUntil(b.containerNs, process.execPath, ['-e', echo], /listening/);
  const { stdout } = await lab.run(a.containerNs, process.execPath, ['-e', probe, b.containerIp]);
  t.match(stdout, /bad 0/);
}

async function checkCounters(t: Test, lab: Lab, host: Host): Promise<void> {
  const { outbound, inbound } = (await statusOf(lab, host)).backend.counters;
  t.ok(outbound.packets_in > 0 && inbound.packets_in > 0);
  await checkSums(t, lab, host);
}
