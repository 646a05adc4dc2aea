import { readFile } from 'node:fs/promises';
import t from 'tap';
import {
  forwardChain,
  isInOrder,
  masqueradeChain,
  nftScript,
  restoreScript,
} from '../../../src/firewall/rules.js';
import { parseIptablesVersion } from '../../../src/firewall/iptables.js';
import { parsePrefix } from '../../../src/net/ipv4.js';

const OPTIONS = {
  network: parsePrefix('10.5.0.0/16')!,
  subnet: parsePrefix('10.5.1.0/24')!,
  isFullyRandom: true,
};
const MASQUERADE = masqueradeChain(OPTIONS);
const FORWARD = forwardChain(OPTIONS);

t.test('the rules are those that flanneld left in each mode', async (t) => {
  for (const mode of ['udp', 'vxlan', 'host-gw']) {
    const file = new URL(`../../fixtures/golden/${mode}-iptables-save.txt`, import.meta.url);
    const golden = (await readFile(file, 'utf8')).split('\n').filter((line) => line.startsWith('-A '));
    t.strictSame([FORWARD.jump, ...FORWARD.rules, MASQUERADE.jump, ...MASQUERADE.rules], golden, mode);
  }
});

t.test('masqueradeChain() leaves out --random-fully on request', (t) => {
  const { rules } = masqueradeChain({ ...OPTIONS, isFullyRandom: false });
  t.equal(
    rules[4],
    '-A FLANNEL-POSTRTG -s 10.5.0.0/16 ! -d 224.0.0.0/4 -m comment --comment "flanneld masq" -j MASQUERADE',
  );
  t.notMatch(rules.join(), 'random');
  t.end();
});

t.test('restoreScript() fills the chain and hooks it in one transaction', (t) => {
  const foreign = '-A FORWARD -j DOCKER-USER';
  const expected = (jump: readonly string[]) =>
    ['*filter', ':FLANNEL-FWD - [0:0]', ...FORWARD.rules, ...jump, 'COMMIT', ''].join('\n');
  t.equal(restoreScript(FORWARD, [foreign], true), expected([FORWARD.jump]), 'nothing there');
  t.equal(restoreScript(FORWARD, [foreign, FORWARD.jump], true), expected([]), 'jump kept where it is');
  const bare = '-A FORWARD -j FLANNEL-FWD';
  const twice = [FORWARD.jump, foreign, FORWARD.jump, bare];
  const removed = [FORWARD.jump, bare].map((rule) => rule.replace('-A', '-D'));
  t.equal(restoreScript(FORWARD, twice, true), expected(removed), 'one jump of several kept');
  const old = '-A FORWARD -s 10.4.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT';
  t.equal(
    restoreScript(FORWARD, [old], true),
    expected([old.replace('-A', '-D'), FORWARD.jump]),
    'rule of flanneld before v0.20',
  );
  t.end();
});

t.test('restoreScript() removes the chain after all that leads to it', (t) => {
  t.equal(
    restoreScript(FORWARD, [FORWARD.jump], false),
    [
      '*filter',
      ':FLANNEL-FWD - [0:0]',
      FORWARD.jump.replace('-A', '-D'),
      '-X FLANNEL-FWD',
      'COMMIT',
      '',
    ].join('\n'),
  );
  t.end();
});

t.test('isInOrder() notices a rule that is missing, moved, doubled or added', (t) => {
  const { rules, jump } = MASQUERADE;
  t.ok(isInOrder(MASQUERADE, rules, ['-A POSTROUTING -j KUBE', jump, '-A POSTROUTING -j OTHER']));
  t.notOk(isInOrder(MASQUERADE, rules, []), 'no jump');
  t.notOk(isInOrder(MASQUERADE, rules, [jump, jump]), 'two jumps');
  t.notOk(isInOrder(MASQUERADE, rules.slice(1), [jump]), 'missing');
  t.notOk(isInOrder(MASQUERADE, [rules[1], rules[0], ...rules.slice(2)], [jump]), 'moved');
  t.notOk(isInOrder(MASQUERADE, [...rules, rules[0]], [jump]), 'added');
  t.end();
});

t.test('nftScript() is one transaction that keeps the chains it refills', (t) => {
  const script = nftScript({ ...OPTIONS, hasMasquerade: true, hasForward: false });
  t.equal(
    script,
    `add table ip flannel-ipv4 { comment "rules for flannel-ipv4"; }
add chain ip flannel-ipv4 postrtg { type nat hook postrouting priority 100; policy accept; comment "chain to manage traffic masquerading by flannel"; }
flush chain ip flannel-ipv4 postrtg
add rule ip flannel-ipv4 postrtg meta mark 0x4000 return
add rule ip flannel-ipv4 postrtg ip saddr 10.5.1.0/24 ip daddr 10.5.0.0/16 return
add rule ip flannel-ipv4 postrtg ip saddr 10.5.0.0/16 ip daddr 10.5.1.0/24 return
add rule ip flannel-ipv4 postrtg ip saddr != 10.5.1.0/24 ip daddr 10.5.0.0/16 return
add rule ip flannel-ipv4 postrtg ip saddr 10.5.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random
add rule ip flannel-ipv4 postrtg ip saddr != 10.5.0.0/16 ip daddr 10.5.0.0/16 masquerade fully-random
add chain ip flannel-ipv4 forward { type filter hook forward priority 0; policy accept; comment "chain to accept flannel traffic"; }
flush chain ip flannel-ipv4 forward
delete chain ip flannel-ipv4 forward
`,
  );
  t.end();
});

t.test('parseIptablesVersion() tells what an iptables can do', (t) => {
  for (const [text, isModern] of [
    ['iptables v1.8.9 (nf_tables)', true],
    ['iptables v1.6.2', true],
    ['iptables v1.6.1', false],
    ['iptables v1.4.21', false],
    ['iptables v2.0', true],
    ['unheard of', false],
  ] as const) {
    t.strictSame(parseIptablesVersion(text), { isModern }, text);
  }
  t.end();
});
