// What the sockets between hosts make of the network: forged ICMP, a path that becomes narrower, several queues.

import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { type Host, Lab, labUnavailable, type Task, waitFor } from '../support/lab.js';
import { startIperfServer } from '../support/measure.js';
import {
  daemonArguments,
  dropsOf,
  startCluster,
  statusOf,
  tableOf,
  writeTable,
} from '../support/twill-hosts.js';

const skip = labUnavailable();
const PORT = 8285;

t.test('forged ICMP about one peer costs another nothing', { skip }, async (t) => {
  const lab = Lab.open('icmpf-');
  t.teardown(() => lab.close());
  const { hosts } = await startCluster(lab, 3);
  const [a, b, c] = hosts;
  const forger = lab.addServer('forger', 66);
  const program = lab.compile('test/lab/forge_icmp.cc');
  const perSecond = 50_000;
  const args = [a.underlayIp, c.underlayIp, PORT, perSecond, 2500].map(String);
  const task = await lab.spawnUntil(forger, program, args, /forging/);
  const { stdout } = await lab.run(a.containerNs, 'ping', [
    ...['-q', '-c', '2000', '-i', '0.001', '-W', '1'],
    b.containerIp,
  ]);
  const isDuring = task.child.exitCode === null;
  await task.exited;
  t.ok(isDuring, 'the pings ended before the forger did');
  t.match(stdout, /2000 received/);
  const { outbound } = (await statusOf(lab, a)).backend.counters;
  t.equal(dropsOf(outbound), 0, 'no drop, under whatever reason');
  t.equal(outbound.packets_in, outbound.packets_out);
  const heard = await lab.run(a.ns, 'nstat', ['-asz', 'IcmpInDestUnreachs']);
  const count = Number(/IcmpInDestUnreachs\s+(\d+)/.exec(heard.stdout)?.[1]);
  t.ok(count > perSecond, `${count} of them arrived`);
});

for (const source of ['preferred', 'second', 'ruled'] as const) {
  t.test(`a path that becomes narrower is learned, ${source} address`, { skip }, async (t) => {
    const lab = Lab.open(`mtu-${source}-`);
    t.teardown(() => lab.close());
    const { a, b, router } = await startRouted(lab, source);
    t.equal((await statusOf(lab, a)).peers[0].mtuBytes, 1472);
    await startIperfServer(lab, b.containerNs);
    const iperf = lab.run(a.containerNs, 'iperf3', ['-c', b.containerIp, '-t', '4', '-i', '0.5', '-J']);
    await waitFor(
      async () => (await statusOf(lab, a)).backend.counters.outbound.packets_out > 10_000,
      'TCP to be under way',
    );
    lab.ip(router, `route replace ${b.underlayIp}/32 dev eth0 mtu lock 1300`);
    const { stdout } = await iperf;
    const { intervals } = JSON.parse(stdout) as {
      intervals: { sum: { seconds: number; bits_per_second: number } }[];
    };
    const rates = intervals.filter(({ sum }) => sum.seconds > 0.4).map(({ sum }) => sum.bits_per_second);
    t.comment(`Gbit/s by half second: ${rates.map((rate) => (rate / 1e9).toFixed(2)).join(' ')}`);
    t.ok(Math.min(...rates) > 1e6, 'TCP never stands still for half a second');
    t.equal((await statusOf(lab, a)).peers[0].mtuBytes, 1272);
    t.match(lab.ip(a.containerNs, `route get ${b.containerIp}`), /mtu 1272/, 'the container was told');
    for (const bytes of ['1200', '1440']) {
      const ping = ['-M', 'dont', '-c', '5', '-i', '0.05', '-W', '1', '-s', bytes, b.containerIp];
      const { stdout: pings } = await lab.run(a.containerNs, 'ping', ping, { mustSucceed: false });
      t.match(pings, /5 received/, `${bytes} bytes without DF`);
    }
    const { outbound } = (await statusOf(lab, a)).backend.counters;
    t.equal(outbound.drop_send_too_big, 0);
    // Bulk may fill the queue of the device, which TCP takes as its signal.
    t.equal(dropsOf(outbound), outbound.drop_too_big + outbound.drop_tun_queue);
  });
}

async function dropsByName(lab: Lab, host: Host): Promise<ReadonlyMap<string, number>> {
  const { outbound, inbound } = (await statusOf(lab, host)).backend.counters;
  const drops = Object.entries({ outbound, inbound }).flatMap(([direction, counters]) =>
    Object.entries(counters)
      .filter(([name]) => name.startsWith('drop_'))
      .map(([name, value]): [string, number] => [`${direction} ${name}`, value]),
  );
  return new Map(drops);
}

for (const queues of [2, 4]) {
  t.test(`--queues=${queues}: each queue has a port, and a thread at the other host`, { skip }, async (t) => {
    const lab = Lab.open(`mq${queues}-`);
    t.teardown(() => lab.close());
    const { hosts, daemons } = await startCluster(lab, 2, [`--queues=${queues}`, '--lane=off']);
    const [a, b] = hosts;
    const file = join(lab.dir, 'wire.pcap');
    const filter = `udp and src host ${a.underlayIp} and dst host ${b.underlayIp}`;
    const capture = await lab.spawnUntil(
      b.ns,
      'tcpdump',
      ['-i', 'eth0', '-nn', '-s', '64', '-U', '-Z', 'root', '-w', file, filter],
      /listening on/,
    );
    await startIperfServer(lab, b.containerNs);
    const before = threadsOf(daemons[1]);
    const atStart = await dropsByName(lab, b); // what the hosts said to each other before both knew the leases
    await lab.run(a.containerNs, 'iperf3', ['-c', b.containerIp, '-t', '3', '-P', '32']);
    const after = threadsOf(daemons[1]);
    await lab.end(capture);
    const { stdout } = await lab.run(b.ns, 'tcpdump', ['-nn', '-r', file]);
    const tuples = [...stdout.matchAll(/\.(\d+) > [\d.]+\.(\d+): /g)];
    const sources = new Set(tuples.map(([, source]) => source));
    t.equal(sources.size, queues, `source ports ${[...sources].join(' ')}`);
    t.same(new Set(tuples.map(([, , target]) => target)), new Set([String(PORT)]));
    const ticks = (name: string): number => after.get(name)! - before.get(name)!;
    for (const direction of ['inbound', 'outbound']) {
      const busy = Array.from({ length: queues }, (_, k) => ticks(`${direction}-${k}`));
      t.comment(`${direction} threads of the receiver, CPU in 10 ms: ${busy.join(' ')}`);
      if (direction === 'inbound') t.ok(Math.min(...busy) > 0, 'each inbound thread has worked');
    }
    const atEnd = await dropsByName(lab, b);
    const grown = [...atEnd.keys()].filter((name) => atEnd.get(name) !== atStart.get(name));
    t.same(
      grown.filter((name) => name !== 'outbound drop_tun_queue'),
      [],
    );

    await t.test('what is sent to such a port is kept by nobody', async (t) => {
      const [port] = sources;
      const script = `const s = require('node:dgram').createSocket('udp4'); let n = 0;
        const next = () => (n++ < 5000 ? s.send(Buffer.alloc(1000), ${port}, '${a.underlayIp}', next) : s.close());
        next();`;
      await lab.run(b.ns, process.execPath, ['-e', script]);
      const { stdout: sockets } = await lab.run(a.ns, 'ss', ['-Hlnu', 'sport', '=', port]);
      t.match(sockets.trim().split(/\s+/)[1], /^0$/, 'its receive queue is empty');
      const { stdout: pings } = await lab.run(a.containerNs, 'ping', ['-c', '3', '-i', '0.1', b.containerIp]);
      t.match(pings, /3 received/);
    });
  });
}

/**
 * Host 1 reaches host 2 through a router whose link to it is as wide as theirs, so far. Host 1 listens on its only
 * address, on a second one, or on one for which a rule has a table of its own.
 */
async function startRouted(
  lab: Lab,
  source: 'preferred' | 'second' | 'ruled',
): Promise<{ a: Host; b: Host; router: string }> {
  const [first, b] = [lab.addHost(1), lab.addHost(2)];
  const a = source === 'preferred' ? first : { ...first, underlayIp: '172.20.0.101' };
  const router = lab.addServer('router', 9);
  if (a !== first) lab.ip(a.ns, `address add ${a.underlayIp}/24 dev eth0`);
  await lab.run(router, 'sysctl', [
    ...['-qw', 'net.ipv4.ip_forward=1', 'net.ipv4.conf.all.send_redirects=0'],
    'net.ipv4.conf.eth0.send_redirects=0',
  ]);
  if (source === 'ruled') {
    lab.ip(a.ns, `route add ${b.underlayIp}/32 via 172.20.0.9 table 77`);
    lab.ip(a.ns, `rule add from ${a.underlayIp} table 77`);
  } else {
    lab.ip(a.ns, `route add ${b.underlayIp}/32 via 172.20.0.9`);
  }
  const staticFile = join(lab.dir, 'static.json');
  writeTable(staticFile, tableOf([a, b]));
  for (const host of [a, b]) {
    const args = daemonArguments(host, staticFile).filter((arg) => arg !== '--iface=eth0');
    await lab.spawnUntil(host.ns, process.execPath, [...args, `--iface=${host.underlayIp}`], /ready after/);
  }
  for (const host of [a, b]) {
    await waitFor(async () => (await statusOf(lab, host)).peers.length === 1, 'the peer to be known');
  }
  return { a, b, router };
}

/** CPU of each thread of a daemon by name, in 10 ms (proc(5), /proc/<pid>/task/<tid>/stat). */
function threadsOf(daemon: Task): ReadonlyMap<string, number> {
  // setpriv, ip and env have become the daemon: the pid is the same.
  const folder = `/proc/${daemon.child.pid}/task`;
  const threads = new Map<string, number>();
  for (const tid of readdirSync(folder)) {
    const [, name, rest] = /\((.*)\) (.*)/.exec(readFileSync(join(folder, tid, 'stat'), 'utf8'))!;
    const fields = rest.split(' ');
    threads.set(name, Number(fields[11]) + Number(fields[12]));
  }
  return threads;
}
