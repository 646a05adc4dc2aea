// The udp mode in networks of IPv4, of IPv6 and of both, over IPv4 and over IPv6: one description for all of them. The
// picture is in ways.ts.

import { join } from 'node:path';
import t from 'tap';
import { labUnavailable, waitFor } from '../support/lab.js';
import { sendStream } from '../support/stream.js';
import { dropsOf, statusOf } from '../support/twill-hosts.js';
import { containerAddress, openHosts, OUTER_BYTES, ping, WAYS } from '../support/ways.js';

const MEBIBYTES_256 = 256 * 2 ** 20;

for (const [number, one] of WAYS.entries()) {
  t.test(`udp, ${one.name}`, { skip: labUnavailable() }, async (t) => {
    const { lab, hosts } = await openHosts(t, one, `uf${number}-`);
    const [a, b] = hosts;
    const mtuBytes = 1500 - OUTER_BYTES[one.outer];
    const deviceMtu = 1500 - OUTER_BYTES[one.inner[0]];

    const { peers, backend, ready } = await statusOf(lab, a);
    t.ok(ready);
    t.match(peers, [{ mtuBytes, port: 8285 }]);
    t.equal(backend.mtuBytes, deviceMtu);
    const known = peers[0].path?.mtuBytes;
    if (known !== undefined) t.equal(known, 1500, 'measured by probes of the outer family');

    const file = join(lab.dir, 'outer.pcap');
    const capture = lab.spawn(lab.switchNs, 'tcpdump', [
      '-n',
      '-i',
      'p1',
      '-U',
      '--immediate-mode',
      '-w',
      file,
      'udp port 8285',
    ]);
    await waitFor(() => capture.log().includes('listening'), 'the capture');
    for (const family of one.inner) {
      t.match(await ping(lab, a, family, 84, 3), '3 received', `${family}: echoes`);
      t.match(await ping(lab, a, family, mtuBytes), '1 received', `${family}: the largest packet`);
      // The container's own link takes more than the way to the peer: it is told what fits.
      for (const [ns, device] of [
        [a.ns, 'cni0'],
        [a.containerNs, 'eth0'],
      ])
        lab.ip(ns, `link set ${device} mtu 1500`);
      t.match(await ping(lab, a, family, 1500), /mtu ?= ?|too long/i, `${family}: refused in words`);
      // The device of this host is as wide as the way to most hosts.
      if (deviceMtu > mtuBytes) await ping(lab, a, family, deviceMtu);
      const told = lab.ip(a.containerNs, `route get ${containerAddress(2, family)}`);
      t.match(told, ` mtu ${mtuBytes} `, `${family}: the path's MTU`);
      const of = family === 'v4' ? '-4' : '-6';
      const path = await lab.run(a.containerNs, 'tracepath', [of, '-n', containerAddress(2, family)]);
      t.match(path.stdout, `pmtu ${mtuBytes}`, `${family}: tracepath`);
    }
    capture.child.kill('SIGINT');
    await capture.exited;
    const shown = await lab.run(lab.switchNs, 'tcpdump', ['-n', '-r', file]);
    const lines = shown.stdout.split('\n').filter((line) => line !== '');
    const way =
      one.outer === 'v4'
        ? / IP 172\.20\.0\.\d\.\d+ > 172\.20\.0\.\d\.8285/
        : / IP6 fd00:aa::\d\.\d+ > fd00:aa::\d\.8285/;
    t.ok(lines.length >= 8 * one.inner.length, 'four echoes and their answers');
    t.strictSame(
      lines.filter((line) => !way.test(line)),
      [],
      'nothing takes another way',
    );
    t.strictSame(
      lines.filter((line) => /frag/.test(line)),
      [],
      'and none is in fragments',
    );

    for (const family of one.inner) {
      const to = { ns: b.containerNs, ip: containerAddress(2, family) };
      const sent = await sendStream(lab, a.containerNs, to, MEBIBYTES_256, 120_000);
      t.equal(sent.receivedHash, sent.sentHash, `${family}: 256 MiB arrive unchanged`);
    }
    for (const host of hosts) {
      const { inbound, outbound } = (await statusOf(lab, host)).backend.counters;
      t.equal(inbound.packets_in, inbound.packets_out + dropsOf(inbound));
      t.equal(outbound.packets_in, outbound.packets_out + dropsOf(outbound));
      t.equal(inbound.checksum_bad, 0);
    }
  });
}
