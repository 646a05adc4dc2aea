// The udp mode over links that delay, lose, reorder and duplicate, by the kernel's netem (tc-netem(8)): with offloads,
// where netem does so to superpackets and trains, and without, where it does to what a wire carries.

import { execFileSync } from 'node:child_process';
import t from 'tap';
import { type Host, Lab, labUnavailable, patient, waitFor } from '../support/lab.js';
import { sendStream } from '../support/stream.js';
import { checkSums, startCluster } from '../support/twill-hosts.js';

const STREAM_BYTES = 8 << 20;
const DATAGRAMS = 4000;
// A jitter beyond the distance of two packets reorders them; the limit holds what is on its way.
const LINK = 'netem limit 20000 delay 4ms 2ms loss 1% duplicate 1%';

// Each datagram carries its number, and bytes that follow from it.
const SINK = `
  const s = require('node:dgram').createSocket('udp4');
  const seen = new Set(); let duplicates = 0, late = 0, bad = 0, last = -1;
  s.on('message', (m) => {
    if (m.toString() === 'end') { s.close(); return console.log('counted ' +
      JSON.stringify({ distinct: seen.size, duplicates, late, bad })); }
    const n = m.readUInt32BE(0);
    if (m.length !== 100 + n % 1300 || m.subarray(4).some((x) => x !== (n & 255))) bad++;
    if (seen.has(n)) duplicates++; else if (n < last) late++;
    seen.add(n); last = Math.max(last, n);
  });
  s.bind(7001, () => { s.setRecvBufferSize(200_000); console.log('listening'); });`;
const SOURCE = `
  const s = require('node:dgram').createSocket('udp4');
  const [ip, count, pauseMs] = [process.argv[1], ...process.argv.slice(2).map(Number)]; let n = 0;
  const send = () => {
    for (let i = 0; i < 20 && n < count; i++, n++) {
      const m = Buffer.alloc(100 + n % 1300, n & 255); m.writeUInt32BE(n, 0); s.send(m, 7001, ip);
    }
    if (n < count) setTimeout(send, pauseMs); else s.close();
  };
  send();`;

interface Counted {
  readonly distinct: number;
  readonly duplicates: number;
  readonly late: number;
  readonly bad: number;
  /** What came for the sink while its socket was full. */
  readonly overflow: number;
}

/** Whether the kernel has netem. */
function hasNetem(lab: Lab): boolean {
  try {
    tc(lab.switchNs, 'qdisc add dev lo root netem delay 0ms');
    return true;
  } catch {
    return false;
  }
}

function tc(ns: string, words: string): string {
  return execFileSync('ip', ['netns', 'exec', ns, 'tc', ...words.split(' ')], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

/** What netem counted toward one host. */
function netemOf(lab: Lab, port: string): { readonly drops: number; readonly qlen: number } {
  const shown = JSON.parse(tc(lab.switchNs, `-s -j qdisc show dev ${port}`)) as {
    kind: string;
    drops: number;
    qlen: number;
  }[];
  return shown.find(({ kind }) => kind === 'netem')!;
}

/** Datagrams from one container to the other, and what became of them. */
async function sendDatagrams(lab: Lab, from: Host, to: Host, ports: readonly string[]): Promise<Counted> {
  const sink = await lab.spawnUntil(to.containerNs, process.execPath, ['-e', SINK], /listening/);
  // No faster than the sink reads, or its socket would lose them.
  const args = ['-e', SOURCE, to.containerIp, ...[DATAGRAMS, patient(5)].map(String)];
  await lab.run(from.containerNs, process.execPath, args);
  await waitFor(() => ports.every((port) => netemOf(lab, port).qlen === 0), 'the links to be empty');
  for (const port of ports) tc(lab.switchNs, `qdisc del dev ${port} root`);
  // Behind the last of them, over a link that loses nothing any more.
  const end = `require('node:dgram').createSocket('udp4').send('end', 7001, process.argv[1], () => process.exit())`;
  await lab.run(from.containerNs, process.execPath, ['-e', end, to.containerIp]);
  await waitFor(() => /counted/.test(sink.log()), 'the sink to count');
  const { stdout } = await lab.run(to.containerNs, 'nstat', ['-asz', 'UdpRcvbufErrors']);
  const overflow = Number(/UdpRcvbufErrors\s+(\d+)/.exec(stdout)?.[1]);
  return { ...(JSON.parse(/counted (.*)/.exec(sink.log())![1]) as Omit<Counted, 'overflow'>), overflow };
}

for (const links of ['with', 'without']) {
  t.test(
    `links ${links} offloads that delay, lose, reorder and duplicate`,
    { skip: labUnavailable() },
    async (t) => {
      const lab = Lab.open('netem-');
      t.teardown(() => lab.close());
      if (!hasNetem(lab)) {
        t.pass('', { skip: 'this kernel has no netem' });
        return;
      }
      const { hosts } = await startCluster(lab, 2);
      const [a, b] = hosts;
      if (links === 'without') lab.turnOffloadsOff();
      const ports = hosts.map(({ index }) => `p${index}`);
      for (const port of ports) tc(lab.switchNs, `qdisc add dev ${port} root ${LINK}`);

      const to = { ns: b.containerNs, ip: b.containerIp };
      const stream = await sendStream(lab, a.containerNs, to, STREAM_BYTES, 120_000);
      t.equal(stream.receivedBytes, STREAM_BYTES);
      t.equal(stream.receivedHash, stream.sentHash, 'a stream arrives as it was sent');
      const { drops } = netemOf(lab, 'p2');
      t.ok(drops > 0, `${drops} frames lost`);
      t.comment(`${stream.seconds.toFixed(1)} s`);

      const { distinct, duplicates, late, bad, overflow } = await sendDatagrams(lab, a, b, ports);
      t.comment(
        `${distinct} of ${DATAGRAMS} arrived, ${duplicates} twice, ${late} late, ${overflow} too many`,
      );
      t.equal(bad, 0, 'each datagram arrives as it was sent, or not');
      t.ok(distinct > DATAGRAMS / 2 && distinct < DATAGRAMS, 'what the link loses is lost');
      t.ok(distinct + overflow > DATAGRAMS * 0.95, 'and nothing else');
      t.ok(duplicates > 0 && duplicates < DATAGRAMS * 0.05, 'what the link sends twice comes twice');
      t.ok(late > 0, 'in the order in which the link leaves it');
      for (const host of hosts) await checkSums(t, lab, host);
    },
  );
}
