// The rules of IPv6 beside those of IPv4: they are flanneld's, come back, let through and masquerade what they should,
// and go. A host without ip6tables loses nothing in IPv4. The picture is in kernel-lab.ts.

import t from 'tap';
import { Driver, type KernelLab, LAB_SKIP, NETWORKS, waitFor, withLab } from '../support/kernel-lab.js';

interface Report {
  readonly degraded: readonly string[];
  readonly repairs: number;
}

const DUAL = NETWORKS[2];
const OWN = '10.5.1.0/24&fd00:5:0:1::/64';

/** Runs a command where there is no ip6tables: the folder is copied, since the names in it lead to one program. */
const WITHOUT_IP6TABLES = [
  'unshare',
  '-m',
  'sh',
  '-c',
  'mount -t tmpfs none /mnt; cp -a /usr/sbin/. /mnt; rm -f /mnt/ip6tables*; mount --bind /mnt /usr/sbin; exec "$@"',
  'sh',
];

async function openFirewall(
  lab: KernelLab,
  options: Record<string, unknown> = {},
  { network = DUAL.network, subnet = OWN, wrapper = [] as readonly string[] } = {},
) {
  const driver = new Driver(lab, 'h1', '', wrapper);
  const { degraded } = await driver.call<Report>('firewall', { network, subnet, options });
  return { driver, degraded };
}

async function saved(lab: KernelLab, tool = 'ip6tables-save'): Promise<string[]> {
  return (await lab.sh('h1', tool)).split('\n').filter((line) => line.startsWith('-A '));
}

// What flanneld v0.28 leaves with --ip-masq, by its rules for IPv4 (test/fixtures/golden) with the values of IPv6.
const [N, S] = ['fd00:5::/48', 'fd00:5:0:1::/64'];
const MASQ = '-m comment --comment "flanneld masq" -j';
const FORWARD = '-m comment --comment "flanneld forward" -j';
const IP6TABLES = [
  `-A FORWARD ${FORWARD} FLANNEL-FWD`,
  `-A FLANNEL-FWD -s ${N} ${FORWARD} ACCEPT`,
  `-A FLANNEL-FWD -d ${N} ${FORWARD} ACCEPT`,
  `-A POSTROUTING ${MASQ} FLANNEL-POSTRTG`,
  `-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 ${MASQ} RETURN`,
  `-A FLANNEL-POSTRTG -s ${S} -d ${N} ${MASQ} RETURN`,
  `-A FLANNEL-POSTRTG -s ${N} -d ${S} ${MASQ} RETURN`,
  `-A FLANNEL-POSTRTG ! -s ${N} -d ${S} ${MASQ} RETURN`,
  `-A FLANNEL-POSTRTG -s ${N} ! -d ff00::/8 ${MASQ} MASQUERADE --random-fully`,
  `-A FLANNEL-POSTRTG ! -s ${N} -d ${N} ${MASQ} MASQUERADE --random-fully`,
];
const NFT = [
  'table ip6 flannel-ipv6 {',
  'comment "rules for flannel-ipv6"',
  'chain postrtg {',
  'comment "chain to manage traffic masquerading by flannel"',
  'type nat hook postrouting priority srcnat; policy accept;',
  'meta mark 0x00004000 return',
  `ip6 saddr ${S} ip6 daddr ${N} return`,
  `ip6 saddr ${N} ip6 daddr ${S} return`,
  `ip6 saddr != ${S} ip6 daddr ${N} return`,
  `ip6 saddr ${N} ip6 daddr != ff00::/8 masquerade fully-random`,
  `ip6 saddr != ${N} ip6 daddr ${N} masquerade fully-random`,
  '}',
  'chain forward {',
  'comment "chain to accept flannel traffic"',
  'type filter hook forward priority filter; policy accept;',
  `ip6 saddr ${N} accept`,
  `ip6 daddr ${N} accept`,
  '}',
  '}',
];

async function table(lab: KernelLab): Promise<string[]> {
  const text = await lab.sh('h1', 'nft -s list table ip6 flannel-ipv6');
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
}

t.test(
  'ip6tables: the rules are those of flanneld, come back, and do what they say',
  { skip: LAB_SKIP },
  (t) =>
    withLab(async (lab) => {
      const { driver, degraded } = await openFirewall(lab);
      t.strictSame(degraded, []);
      t.strictSame((await saved(lab)).sort(), [...IP6TABLES].sort());
      t.equal((await saved(lab, 'iptables-save')).length, IP6TABLES.length, 'as many as in IPv4');
      const inOrder = await saved(lab);
      for (const command of [
        'ip6tables -t nat -F FLANNEL-POSTRTG',
        'ip6tables -F',
        'ip6tables -t nat -D POSTROUTING 1',
        'ip6tables -t nat -I FLANNEL-POSTRTG -j ACCEPT',
        'nft flush ruleset',
      ]) {
        await lab.sh('h1', command);
        t.strictSame((await driver.call<Report>('resync')).degraded, []);
        t.strictSame(await saved(lab), inOrder, command);
      }

      // A pod leaves as its host, and a policy of DROP does not stop it.
      await lab.sh('h1', 'ip6tables -P FORWARD DROP');
      const capture = await lab.capture('r', 'p1', 'icmp6');
      t.ok(await lab.ping('c1', 'fd00:99::2'));
      await waitFor('capture', () =>
        Promise.resolve(/fd00:99::1 > fd00:99::2: ICMP6, echo request/.test(capture.text())),
      );
      t.notMatch(capture.text(), /fd00:5:0:1::2 >/, 'never as itself');

      await lab.sh('h1', 'ip6tables -I FORWARD 1 -j REJECT');
      t.match((await driver.call<Report>('resync')).degraded, [/^IPv6: FORWARD rule 1 "-j REJECT/]);
      await lab.sh('h1', 'ip6tables -D FORWARD 1');
      await driver.close();
      t.strictSame(await saved(lab), inOrder, 'the rules stay at the end');

      const second = await openFirewall(lab, { useNftables: true });
      t.strictSame(second.degraded, []);
      t.strictSame(await saved(lab), [], 'those of the other kind go');
      t.strictSame(await table(lab), NFT);
      await lab.sh('h1', 'nft flush ruleset');
      t.strictSame((await second.driver.call<Report>('resync')).degraded, []);
      t.strictSame(await table(lab), NFT, 'back again');
      await second.driver.close();

      const third = await openFirewall(lab);
      await t.rejects(table(lab), 'and back to ip6tables');
      await third.driver.close();
      await (await openFirewall(lab, { hasMasquerade: false, hasForward: false })).driver.close();
      t.strictSame(await saved(lab), []);
    }, DUAL),
);

t.test(
  'a host without ip6tables has the rules of IPv6 in nft, those of IPv4 as ever',
  { skip: LAB_SKIP },
  (t) =>
    withLab(async (lab) => {
      const { driver, degraded } = await openFirewall(lab, {}, { wrapper: WITHOUT_IP6TABLES });
      t.strictSame(degraded, []);
      t.strictSame(await table(lab), NFT);
      t.strictSame(await saved(lab), []);
      t.equal((await saved(lab, 'iptables-save')).length, IP6TABLES.length);
      t.strictSame((await driver.call<Report>('resync')).degraded, []);
      t.strictSame(await table(lab), NFT, 'the pass of IPv4 leaves it');
      await driver.close();
    }, DUAL),
);

t.test(
  'an IPv4 network asks for no ip6tables, and leaves the IPv6 table of another',
  { skip: LAB_SKIP },
  (t) =>
    withLab(async (lab) => {
      const only = { network: '10.5.0.0/16', subnet: '10.5.1.0/24', wrapper: WITHOUT_IP6TABLES };
      const empty = 'add table ip6 flannel-ipv6\nadd chain ip6 flannel-ipv6 postrtg\n';
      const rule = 'add rule ip6 flannel-ipv6 postrtg ip6 saddr fd00:7::/48 return\n';
      await lab.exec('h1', ['nft', '-f', '-'], empty + rule);
      const first = await openFirewall(lab, {}, only);
      t.strictSame(first.degraded, []);
      t.match((await table(lab)).join(), 'fd00:7::/48');
      await first.driver.close();
      await lab.exec('h1', ['nft', '-f', '-'], `delete table ip6 flannel-ipv6\n${empty}`);
      const second = await openFirewall(lab, {}, only);
      t.strictSame(second.degraded, []);
      await t.rejects(table(lab), 'one without a rule, as flanneld leaves it, goes');
      await second.driver.close();
    }),
);

t.test('the blackhole route is of each family, and gives way to a bridge', { skip: LAB_SKIP }, (t) =>
  withLab(async (lab) => {
    const { driver } = await openFirewall(lab, { hasBlackhole: true });
    const holes = async () => [
      await lab.sh('h1', 'ip -4 route show type blackhole'),
      await lab.sh('h1', 'ip -6 route show type blackhole'),
    ];
    t.match(await holes(), [
      /10\.5\.1\.0\/24 proto 94 metric 4294967294/,
      /fd00:5:0:1::\/64 dev lo proto 94 metric 4294967294/,
    ]);
    t.match(await lab.sh('h1', 'ip route get fd00:5:0:1::2'), 'dev vk', 'the route to the pods comes first');
    await driver.close();
    await (await openFirewall(lab)).driver.close();
    t.strictSame(await holes(), ['', '']);
  }, DUAL),
);
