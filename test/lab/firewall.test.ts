// The firewall rules in a namespace of their own, and what they do to traffic between a container, its host and an
// outside host; the picture is in kernel-lab.ts.

import { mkdtemp, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { Driver, LAB_SKIP, NETWORK, run, waitFor, withLab } from '../support/kernel-lab.js';
import { parsePrefix } from '../../src/net/prefix.js';
import type { KernelLab } from '../support/kernel-lab.js';

interface Report {
  readonly degraded: readonly string[];
  readonly repairs: number;
}

async function openFirewall(
  lab: KernelLab,
  host: string,
  options: Record<string, unknown> = {},
  subnet = '10.5.1.0/24',
) {
  const driver = new Driver(lab, host);
  const { degraded } = await driver.call<Report>('firewall', { network: NETWORK, subnet, options });
  return { driver, degraded };
}

/** 500 datagrams in about 1.5 s, each from a port of its own. */
const SEND_FLOWS = `
  const send = (left) => {
    if (left === 0) return;
    const socket = require('dgram').createSocket('udp4');
    socket.send('x', 9, '192.0.2.2', () => socket.close());
    setTimeout(send, 3, left - 1);
  };
  send(500);
`;

/** iptables-save without comments and counters. */
async function savedRules(lab: KernelLab, host: string): Promise<string[]> {
  return rulesOnly(await lab.sh(host, 'iptables-save'));
}

function rulesOnly(text: string): string[] {
  const lines = text.split('\n').filter((line) => /^(\*|:FLANNEL|-A|COMMIT)/.test(line));
  return lines.map((line) => line.replace(/ \[\d+:\d+\]$/, ''));
}

t.test(
  'iptables: the rules are those of flanneld, and come back however they are disturbed',
  { skip: LAB_SKIP },
  (t) =>
    withLab(async (lab) => {
      const file = new URL('../fixtures/golden/vxlan-iptables-save.txt', import.meta.url);
      const golden = rulesOnly(await readFile(file, 'utf8'));
      const { driver, degraded } = await openFirewall(lab, 'h1');
      t.strictSame(degraded, []);
      t.strictSame(await savedRules(lab, 'h1'), golden);
      for (const commands of [
        ['iptables -t nat -F FLANNEL-POSTRTG'],
        ['iptables -F'],
        ['iptables -t nat -D POSTROUTING 1'],
        ['iptables -t nat -D FLANNEL-POSTRTG 2'],
        ['iptables -t nat -I FLANNEL-POSTRTG -j ACCEPT'],
        [
          'iptables -t nat -D FLANNEL-POSTRTG 1',
          'iptables -t nat -A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -j RETURN',
        ],
        ['iptables -A FORWARD -j FLANNEL-FWD'],
        ['iptables -F', 'iptables -X', 'iptables -t nat -F', 'iptables -t nat -X'],
        ['nft flush ruleset'],
      ]) {
        for (const command of commands) await lab.sh('h1', command);
        t.strictSame((await driver.call<Report>('resync')).degraded, []);
        t.strictSame(await savedRules(lab, 'h1'), golden, commands.join('; '));
      }
      const { repairs } = await driver.call<Report>('resync');
      t.equal(repairs, 11, 'each table was counted, and a pass over rules in order changes nothing');

      // The jump is not moved behind other programs' rules, nor theirs touched.
      await lab.sh('h1', 'iptables -A FORWARD -s 203.0.113.0/24 -j DROP');
      await lab.sh('h1', 'iptables -I FORWARD -s 203.0.114.0/24 -j DROP');
      const before = await savedRules(lab, 'h1');
      await driver.call('resync');
      t.strictSame(await savedRules(lab, 'h1'), before);
      await driver.close();
      t.strictSame(await savedRules(lab, 'h1'), before, 'the rules stay at the end');

      // A new subnet replaces the former rules; rules of flanneld before its own chains go; then no masquerade at all.
      const old = '-s 10.5.0.0/16 -m comment --comment "flanneld masq" -j MASQUERADE';
      await lab.exec('h1', ['iptables-restore', '--noflush'], `*nat\n-A POSTROUTING ${old}\nCOMMIT\n`);
      const second = await openFirewall(lab, 'h1', {}, '10.5.2.0/24');
      const nat = (lines: readonly string[]) => lines.filter((line) => line.includes('POSTR'));
      const moved = nat(golden).map((line) => line.replace('10.5.1.0/24', '10.5.2.0/24'));
      t.strictSame(nat(await savedRules(lab, 'h1')), moved);
      await second.driver.close();
      await openFirewall(lab, 'h1', { hasMasquerade: false, hasForward: false });
      t.strictSame(
        (await savedRules(lab, 'h1')).filter((line) => line.includes('FLANNEL')),
        [],
      );
    }),
);

t.test(
  'iptables: a REJECT of FORWARD before our jump is named, and passed by on request',
  { skip: LAB_SKIP },
  (t) =>
    withLab(async (lab) => {
      const reject = '-A FORWARD -j REJECT --reject-with icmp-host-prohibited';
      await lab.sh('h1', `iptables ${reject}`);
      const text = `FORWARD rule 1 "${reject.slice(11)}" stands before ours: packets of the overlay are refused`;
      const forward = async () =>
        (await savedRules(lab, 'h1'))
          .filter((line) => line.startsWith('-A FORWARD'))
          .map((line) => line.slice(-20));
      const plain = await openFirewall(lab, 'h1');
      t.strictSame(plain.degraded, [text]);
      t.notOk(await lab.ping('c1', '192.0.2.2'));
      await lab.sh('h1', `iptables ${reject.replace('-A', '-D')}`);
      t.strictSame((await plain.driver.call<Report>('resync')).degraded, [], 'gone');
      await lab.sh('h1', `iptables ${reject}`);
      t.strictSame(
        (await plain.driver.call<Report>('resync')).degraded,
        [],
        'behind our jump it is harmless',
      );
      await lab.sh('h1', `iptables ${reject.replace('-A FORWARD', '-I FORWARD 1')}`);
      t.strictSame((await plain.driver.call<Report>('resync')).degraded, [text], 'put before it at run time');
      await plain.driver.close();

      const { driver, degraded } = await openFirewall(lab, 'h1', { isForwardFirst: true });
      t.strictSame(degraded, []);
      t.match((await forward())[0], 'FLANNEL-FWD');
      t.ok(await lab.ping('c1', '192.0.2.2'));
      await lab.sh('h1', 'iptables -I FORWARD 1 -s 203.0.113.0/24 -j DROP');
      const { repairs } = await driver.call<Report>('resync');
      t.equal(repairs, 0, 'another that refuses nothing of ours stays first');
      t.match((await forward())[1], 'FLANNEL-FWD');
      await driver.close();
    }),
);

t.test('iptables-legacy: the same rules, and a held lock is waited for', { skip: LAB_SKIP }, (t) =>
  withLab(async (lab) => {
    const file = new URL('../fixtures/golden/vxlan-iptables-save.txt', import.meta.url);
    const golden = rulesOnly(await readFile(file, 'utf8')).sort();
    const folder = await mkdtemp(join(tmpdir(), 'twill-legacy-'));
    const fields = { network: NETWORK, subnet: '10.5.1.0/24', options: {} };
    for (const program of ['iptables', 'iptables-restore']) {
      const legacy = await run('which', [program.replace('iptables', 'iptables-legacy')]);
      await symlink(legacy.trim(), join(folder, program));
      if (program === 'iptables') {
        const mixed = new Driver(lab, 'h1', folder);
        const { degraded } = await mixed.call<Report>('firewall', fields);
        t.match(degraded[0], /"iptables" and "iptables-restore" are of different kinds/);
        await mixed.close();
      }
    }
    const driver = new Driver(lab, 'h1', folder);
    t.strictSame((await driver.call<Report>('firewall', fields)).degraded, []);
    const saved = async () => rulesOnly(await lab.sh('h1', 'iptables-legacy-save')).sort();
    t.strictSame(await saved(), golden);
    await lab.sh('h1', 'iptables-legacy -t nat -D FLANNEL-POSTRTG 2');
    // flock(1) holds the lock as kube-proxy would, for a second.
    const holder = lab.start('h1', ['flock', '/run/xtables.lock', 'sleep', '1']);
    const startedAt = performance.now();
    t.strictSame((await driver.call<Report>('resync')).degraded, []);
    t.ok(performance.now() - startedAt < 5_000, 'bounded');
    t.strictSame(await saved(), golden);
    holder.kill();
    await driver.close();
    await rm(folder, { recursive: true });
  }),
);

t.test('nftables: one table, nft alone, and the other mode is cleaned up', { skip: LAB_SKIP }, (t) =>
  withLab(async (lab) => {
    const first = await openFirewall(lab, 'h1');
    await first.driver.close();
    const { driver, degraded } = await openFirewall(lab, 'h1', { useNftables: true });
    t.strictSame(degraded, []);
    t.strictSame(
      (await savedRules(lab, 'h1')).filter((line) => line.includes('FLANNEL')),
      [],
      'iptables rules removed',
    );
    const expected = `table ip flannel-ipv4 {
	comment "rules for flannel-ipv4"
	chain postrtg {
		comment "chain to manage traffic masquerading by flannel"
		type nat hook postrouting priority srcnat; policy accept;
		meta mark 0x00004000 return
		ip saddr 10.5.1.0/24 ip daddr 10.5.0.0/16 return
		ip saddr 10.5.0.0/16 ip daddr 10.5.1.0/24 return
		ip saddr != 10.5.1.0/24 ip daddr 10.5.0.0/16 return
		ip saddr 10.5.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random
		ip saddr != 10.5.0.0/16 ip daddr 10.5.0.0/16 masquerade fully-random
	}

	chain forward {
		comment "chain to accept flannel traffic"
		type filter hook forward priority filter; policy accept;
		ip saddr 10.5.0.0/16 accept
		ip daddr 10.5.0.0/16 accept
	}
}
`;
    const table = async () => await lab.sh('h1', 'nft list table ip flannel-ipv4');
    t.equal(await table(), expected);
    for (const command of [
      'nft flush ruleset',
      'nft flush chain ip flannel-ipv4 postrtg',
      'nft delete table ip flannel-ipv4',
      'nft insert rule ip flannel-ipv4 forward drop',
    ]) {
      await lab.sh('h1', command);
      await driver.call('resync');
      t.equal(await table(), expected, command);
    }
    await lab.sh('h1', 'nft flush ruleset');
    await lab.exec('h1', ['nft', '-f', '-'], 'table ip flannel-ipv4 {\n chain forward {\n }\n}\n');
    await driver.call('resync');
    t.equal(await table(), expected, 'a chain of the same name without a hook');
    t.equal((await driver.call<Report>('resync')).repairs, 5);
    await driver.close();

    const plain = await openFirewall(lab, 'h1', {
      useNftables: true,
      isFullyRandom: false,
      hasForward: false,
    });
    t.notMatch(await table(), /fully-random|chain forward/);
    await plain.driver.close();
    const back = await openFirewall(lab, 'h1');
    t.strictSame(back.degraded, []);
    t.notMatch(await lab.sh('h1', 'nft list tables'), 'flannel-ipv4', 'and back');
  }),
);

t.test('without iptables nft makes the rules, without both it is said', { skip: LAB_SKIP }, (t) =>
  withLab(async (lab) => {
    const fields = { network: NETWORK, subnet: '10.5.1.0/24', options: {} };
    // In a mount namespace of the driver alone; a file that cannot be run is there, as in a stripped image.
    const hiding = (...programs: string[]) => {
      const hide = programs.map((program) => `mount --bind /dev/null $(readlink -f $(which ${program}))`);
      return ['unshare', '-m', 'sh', '-c', `${hide.join(' && ')} && exec "$@"`, 'sh'];
    };
    const driver = new Driver(lab, 'h1', '', hiding('iptables'));
    t.strictSame((await driver.call<Report>('firewall', fields)).degraded, []);
    t.match(await lab.sh('h1', 'nft list table ip flannel-ipv4'), /masquerade[^]*accept/);
    await lab.sh('h1', 'nft flush ruleset');
    t.match(await driver.call<Report>('resync'), { degraded: [], repairs: 1 });
    t.match(await lab.sh('h1', 'nft list tables'), 'flannel-ipv4', 'and the rules stay with the next pass');
    await driver.close();
    const bare = new Driver(lab, 'h1', '', hiding('iptables', 'nft'));
    const { degraded } = await bare.call<Report>('firewall', fields);
    t.match(degraded[0], 'Cannot install rules: neither "iptables" nor "nft" here (install one)');
    await bare.close();
    await (await openFirewall(lab, 'h1')).driver.close();
    t.notMatch(await lab.sh('h1', 'nft list tables'), 'flannel-ipv4', 'iptables is there again');
  }),
);

t.test('two networks and a flanneld share a host: each sees to its own rules', { skip: LAB_SKIP }, (t) =>
  withLab(async (lab) => {
    const foreign = (text: string) => text.split('\n').filter((line) => line.includes('10.77.'));
    const rulesOf = (text: string, network: string) =>
      text.split('\n').filter((line) => line.split(' ').includes(network));
    const shell = (command: string) => lab.exec('h1', ['sh', '-c', command]);
    for (const useNftables of [false, true]) {
      const list = () =>
        shell(useNftables ? 'nft list table ip flannel-ipv4' : 'iptables-save | grep -v "^[#:]"');
      const open = async (network: string, subnet: string, options: Record<string, unknown> = {}) => {
        const driver = new Driver(lab, 'h1');
        const fields = { network, subnet, options: { useNftables, ...options } };
        const { degraded } = await driver.call<Report>('firewall', fields);
        t.strictSame(degraded, []);
        return driver;
      };
      // Both at once, on a host without chains.
      const [a, b] = await Promise.all([
        open('10.5.0.0/16', '10.5.1.0/24', { hasBlackhole: true }),
        open('10.50.0.0/16', '10.50.1.0/24', { hasBlackhole: true }),
      ]);
      const third = '-s 10.77.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT';
      await shell(
        useNftables
          ? 'nft add rule ip flannel-ipv4 forward ip saddr 10.77.0.0/16 accept'
          : `iptables -A FLANNEL-FWD ${third}`,
      );
      const resync = async () => {
        const results = [await a.call<Report>('resync'), await b.call<Report>('resync')];
        t.strictSame(
          results.flatMap(({ degraded }) => degraded),
          [],
        );
        return results.map(({ repairs }) => repairs);
      };
      const [ofA, ofB] = await resync();
      const before = await list();
      t.equal(rulesOf(before, '10.5.0.0/16').length, 7);
      t.equal(rulesOf(before, '10.50.0.0/16').length, 7);
      t.equal((before.match(/RETURN|return/g) ?? []).length, 7, 'the rule about the mark stands once');
      t.equal(foreign(before).length, 1);
      t.strictSame(await resync(), [ofA, ofB], 'no repair in turns');
      t.equal(await list(), before);

      await shell(
        useNftables
          ? 'nft flush ruleset'
          : 'iptables -F; iptables -X; iptables -t nat -F; iptables -t nat -X',
      );
      await Promise.all([a.call('resync'), b.call('resync')]);
      await resync();
      t.strictSame(
        (await list()).split('\n').sort(),
        before
          .split('\n')
          .filter((line) => foreign(line).length === 0)
          .sort(),
        'all rules back after both repaired at once',
      );
      const holes = () => shell('ip route show type blackhole');
      t.match(await holes(), /10\.5\.1\.0.*\n?.*10\.50\.1\.0/, 'two blackholes');

      // A restart with another subnet, then without rules, then of another network: b's never change.
      const others = rulesOf(await list(), '10.50.0.0/16');
      await a.close();
      await (await open('10.5.0.0/16', '10.5.2.0/24')).close();
      t.strictSame(rulesOf(await list(), '10.50.0.0/16'), others);
      t.match(rulesOf(await list(), '10.5.0.0/16').join(), '10.5.2.0/24');
      t.notMatch(await list(), '10.5.1.0/24');
      await (await open('10.5.0.0/16', '10.5.2.0/24', { hasMasquerade: false, hasForward: false })).close();
      t.strictSame(rulesOf(await list(), '10.50.0.0/16'), others);
      t.equal(rulesOf(await list(), '10.5.0.0/16').length, 0);
      t.match(await holes(), '10.50.1.0/24');
      await (await open('10.5.0.0/16', '10.5.2.0/24')).close();
      await (
        await open('10.6.0.0/16', '10.6.2.0/24', { formerNetworks: { v4: parsePrefix('10.5.0.0/16')! } })
      ).close();
      t.equal(rulesOf(await list(), '10.5.0.0/16').length, 0, 'the former network is gone');
      t.equal(rulesOf(await list(), '10.6.0.0/16').length, 7);
      t.strictSame(rulesOf(await list(), '10.50.0.0/16'), others);
      await b.close();
      await shell('nft flush ruleset');
      await shell('ip route flush type blackhole');
    }
  }),
);

t.test('what leaves the overlay is masqueraded, what stays inside is not', { skip: LAB_SKIP }, (t) =>
  withLab(async (lab) => {
    for (const useNftables of [false, true]) {
      const mode = useNftables ? 'nftables' : 'iptables';
      const { driver } = await openFirewall(lab, 'h1', { useNftables });
      await lab.sh('h1', 'iptables -P FORWARD DROP');
      await lab.sh('h1', 'ip route replace 10.5.2.0/24 via 192.0.2.2');
      await lab.sh('h2', 'ip route replace 10.5.1.0/24 via 192.0.2.1');
      await lab.sh('h1', 'conntrack -F');
      // An nft accept does not lift another table's drop.
      if (useNftables) await lab.sh('h1', 'iptables -P FORWARD ACCEPT');
      const capture = await lab.capture('h2', 'eth0', 'icmp');
      t.ok(await lab.ping('c1', '192.0.2.2'), `${mode}: to the outside`);
      t.ok(await lab.ping('c1', '10.5.2.2'), `${mode}: inside`);
      await waitFor('capture', () =>
        Promise.resolve(capture.text().includes('10.5.1.2 > 10.5.2.2: ICMP echo request')),
      );
      t.match(
        capture.text(),
        '192.0.2.1 > 192.0.2.2: ICMP echo request',
        `${mode}: this host's address outside`,
      );
      t.notMatch(capture.text(), '10.5.1.2 > 192.0.2.2', `${mode}: and no other`);
      const tracked = (await lab.sh('h1', 'conntrack -L')).split('\n');
      const outside = tracked.find((line) => line.includes('dst=192.0.2.2 '));
      t.match(
        outside,
        /src=10\.5\.1\.2 dst=192\.0\.2\.2 .*src=192\.0\.2\.2 dst=192\.0\.2\.1 /,
        `${mode}: conntrack`,
      );
      const inside = tracked.find((line) => line.includes('dst=10.5.2.2 '));
      t.match(
        inside,
        /src=10\.5\.1\.2 dst=10\.5\.2\.2 .*src=10\.5\.2\.2 dst=10\.5\.1\.2 /,
        `${mode}: conntrack`,
      );
      capture.end();
      await driver.close();
    }
  }),
);

t.test('rules are replaced without a moment in which they are missing', { skip: LAB_SKIP }, (t) =>
  withLab(async (lab) => {
    const { driver } = await openFirewall(lab, 'h1');
    await lab.sh('h1', 'iptables -P FORWARD DROP');
    // FORWARD sees each echo; POSTROUTING sees each new flow, hence a new UDP port for each datagram.
    const capture = await lab.capture('h2', 'eth0', 'udp');
    const pinging = lab.exec('c1', ['ping', '-n', '-q', '-i', '0.002', '-c', '750', '-W', '1', '192.0.2.2']);
    const flows = lab.exec('c1', [process.execPath, '-e', SEND_FLOWS]);
    for (let i = 0; i < 15; i++) {
      await lab.sh('h1', 'iptables -t nat -A FLANNEL-POSTRTG -s 10.99.0.0/16 -j RETURN');
      await lab.sh('h1', 'iptables -A FLANNEL-FWD -s 10.99.0.0/16 -j RETURN');
      await driver.call('resync');
    }
    t.match(await pinging, '750 packets transmitted, 750 received, 0% packet loss');
    await flows;
    const sent = () =>
      capture
        .text()
        .split('\n')
        .filter((line) => line.includes(' > 192.0.2.2.9: '));
    await waitFor('all flows', () => Promise.resolve(sent().length === 500));
    t.strictSame(
      sent().filter((line) => !line.includes('IP 192.0.2.1.')),
      [],
      'no packet left unmasqueraded',
    );
    t.equal((await driver.call<Report>('resync')).repairs, 30);
  }),
);

t.test('the blackhole route stands behind a bridge and is removed with its flag', { skip: LAB_SKIP }, (t) =>
  withLab(async (lab) => {
    await lab.sh('h1', 'ip route add blackhole 10.5.66.0/24 proto 94 metric 4294967294');
    await lab.sh('h1', 'ip route add blackhole 10.5.67.0/24');
    const { driver, degraded } = await openFirewall(lab, 'h1', { hasBlackhole: true });
    t.strictSame(degraded, []);
    const holes = async () =>
      (await lab.sh('h1', 'ip route show type blackhole'))
        .trim()
        .split('\n')
        .map((line) => line.trim());
    const own = 'blackhole 10.5.1.0/24 proto 94 metric 4294967294';
    t.strictSame((await holes()).sort(), [own, 'blackhole 10.5.67.0/24'], 'that of a former subnet is gone');
    t.ok(await lab.ping('h1', '10.5.1.2'), 'the bridge comes first');
    await lab.sh('h1', 'ip route del blackhole 10.5.1.0/24 proto 94 metric 4294967294');
    await driver.call('resync');
    t.ok((await holes()).includes(own), 'comes back');
    await driver.close();
    t.ok((await holes()).includes(own), 'stays at the end');
    await openFirewall(lab, 'h1', { hasBlackhole: false });
    t.strictSame(await holes(), ['blackhole 10.5.67.0/24']);
  }),
);
