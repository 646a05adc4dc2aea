// A path of 1,400 bytes in the middle, over IPv4 and over IPv6: containers are told what fits by ping, by tracepath and
// by the MTU that their kernel then keeps, and TCP goes on.
//
//   container ── host 1 ── sw ══ 1400 ══ far ── host 2 ── container        the rest is in ways.ts

import t from 'tap';
import { type Host, type Lab, labUnavailable, waitFor } from '../support/lab.js';
import { sendStream } from '../support/stream.js';
import { checkSums, statusOf } from '../support/twill-hosts.js';
import { containerAddress, openHosts, ping, WAYS } from '../support/ways.js';

const STREAM_BYTES = 64 << 20;
const PATH_BYTES = 1400;
const FAMILIES = {
  v4: { overheadBytes: 28, address: (host: number) => `172.20.0.${host}`, wire: '192.0.2.', bits: 32 },
  v6: { overheadBytes: 48, address: (host: number) => `fd00:aa::${host}`, wire: 'fd00:cc::', bits: 128 },
} as const;

/** Puts two routers between the hosts, with a narrow link between them. */
async function narrow(lab: Lab, [first, second]: readonly Host[], outer: 'v4' | 'v6'): Promise<string> {
  const far = lab.addNamespace('far');
  const { switchNs } = lab;
  const { address, wire, bits } = FAMILIES[outer];
  const on = ['net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1'];
  for (const ns of [switchNs, far]) await lab.run(ns, 'sysctl', ['-qw', ...on]);
  lab.ip(switchNs, `link set p2 netns ${far}`);
  const mtu = `mtu ${PATH_BYTES}`;
  lab.ip(switchNs, `link add narrow ${mtu} type veth peer name narrow ${mtu} netns ${far}`);
  const sides = [
    { ns: switchNs, link: 'br0', own: 254, wireHost: 1, near: first, beyond: second },
    { ns: far, link: 'p2', own: 253, wireHost: 2, near: second, beyond: first },
  ];
  const nodad = outer === 'v6' ? ' nodad' : '';
  const length = outer === 'v6' ? 64 : 24;
  for (const { ns, link, own, wireHost } of sides) {
    lab.ip(ns, `link set ${link} up`);
    lab.ip(ns, 'link set narrow up');
    lab.ip(ns, `address add ${address(own)}/${bits} dev ${link}${nodad}`);
    lab.ip(ns, `address add ${wire}${wireHost}/${length} dev narrow${nodad}`);
  }
  for (const { ns, link, own, wireHost, near, beyond } of sides) {
    lab.ip(ns, `route add ${address(near.index)}/${bits} dev ${link}`);
    lab.ip(ns, `route add ${address(beyond.index)}/${bits} via ${wire}${3 - wireHost}`);
    lab.ip(near.ns, `route add ${address(own)}/${bits} dev eth0`);
    lab.ip(near.ns, `route add ${address(beyond.index)}/${bits} via ${address(own)}`);
  }
  return far;
}

for (const outer of ['v4', 'v6'] as const) {
  const way = WAYS.find((known) => known.inner.length === 2 && known.outer === outer)!;
  t.test(`a path of ${PATH_BYTES} bytes, ${way.name}`, { skip: labUnavailable() }, async (t) => {
    const { lab, hosts } = await openHosts(t, way, `np${outer}-`);
    const [a, b] = hosts;
    const far = await narrow(lab, hosts, outer);
    const fits = PATH_BYTES - FAMILIES[outer].overheadBytes;
    const fragments = await lab.spawnUntil(
      far,
      'tcpdump',
      ['-n', '-l', '-i', 'p2', 'ip6[6] == 44 or (ip[6:2] & 0x3fff != 0)'],
      /listening/,
    );
    for (const family of way.inner) {
      const to = containerAddress(2, family);
      const isHeard = async (): Promise<boolean> => (await ping(lab, a, family, 84)).includes('1 received');
      await waitFor(isHeard, `${family}: the way through the routers`);
      for (const host of hosts) {
        await ping(lab, host, family, fits + 1); // the first large one may be what lets the host know
        t.match(await ping(lab, host, family, fits + 1), /mtu ?= ?|too long/i, `${family}: refused in words`);
        t.match(await ping(lab, host, family, fits), '1 received', `${family}: the largest packet`);
      }
      t.match(lab.ip(a.containerNs, `route get ${to}`), ` mtu ${fits} `, `${family}: the path's MTU`);
      lab.ip(a.containerNs, `-${family[1]} route flush cache`);
      const args = [`-${family[1]}`, '-n', to];
      const { stdout: path } = await lab.run(a.containerNs, 'tracepath', args);
      t.match(path, new RegExp(`pmtu ${fits}\\n[^]*reached`), `${family}: tracepath`);
      t.match(path, new RegExp(`Resume: pmtu ${fits} `), `${family}: and no less`);
      // What may be cut goes through: of IPv6 the sender cuts it, of IPv4 the way.
      const large = ['-n', '-c', '2', '-i', '0.2', '-W', '2', '-M', 'dont', '-s', '4000', to];
      const { stdout: cut } = await lab.run(a.containerNs, 'ping', large, { mustSucceed: false });
      t.match(cut, '2 received', `${family}: in fragments`);
    }
    await lab.end(fragments, 'SIGINT');
    t.notMatch(fragments.log(), /IP6? /, 'no datagram is in fragments');
    for (const family of way.inner) {
      const to = { ns: b.containerNs, ip: containerAddress(2, family) };
      const sent = await sendStream(lab, a.containerNs, to, STREAM_BYTES, 60_000);
      t.equal(sent.receivedHash, sent.sentHash, `${family}: TCP, ${sent.seconds.toFixed(1)} s`);
    }
    t.equal((await statusOf(lab, a)).peers[0].mtuBytes, fits);
    for (const host of hosts) {
      await checkSums(t, lab, host);
      t.equal((await statusOf(lab, host)).backend.counters.outbound.drop_send_too_big, 0);
    }
  });
}
