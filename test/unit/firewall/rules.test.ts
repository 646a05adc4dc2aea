import { readFile } from 'node:fs/promises';
import t from 'tap';
import { forwardChain, masqueradeChain } from '../../../src/firewall/rules.js';
import { parseIptablesVersion } from '../../../src/firewall/iptables.js';
import { parsePrefix } from '../../../src/net/prefix.js';

const OPTIONS = {
  network: parsePrefix('10.5.0.0/16')!,
  subnet: parsePrefix('10.5.1.0/24')!,
  isFullyRandom: true,
};
const MASQUERADE = masqueradeChain(OPTIONS);
const FORWARD = forwardChain(OPTIONS);
const MASQUERADE_RULES = [...MASQUERADE.shared, ...MASQUERADE.rules];

t.test('the rules are those that flanneld left in each mode', async (t) => {
  for (const mode of ['udp', 'vxlan', 'host-gw']) {
    const file = new URL(`../../fixtures/golden/${mode}-iptables-save.txt`, import.meta.url);
    const golden = (await readFile(file, 'utf8')).split('\n').filter((line) => line.startsWith('-A '));
    t.strictSame([FORWARD.jump, ...FORWARD.rules, MASQUERADE.jump, ...MASQUERADE_RULES], golden, mode);
  }
});

t.test('the rules of IPv6 are the same with the values of IPv6', async (t) => {
  const network = parsePrefix('fd00:5::/48', 6)!;
  const subnet = parsePrefix('fd00:5:0:1::/64', 6)!;
  const masquerade = masqueradeChain({ network, subnet, isFullyRandom: true });
  const forward = forwardChain({ network });
  t.strictSame([masquerade.family, forward.family, MASQUERADE.family], [6, 6, 4]);
  const file = new URL('../../fixtures/golden/vxlan-iptables-save.txt', import.meta.url);
  const golden = (await readFile(file, 'utf8')).split('\n').filter((line) => line.startsWith('-A '));
  const expected = golden.map((line) =>
    line
      .replaceAll('10.5.0.0/16', 'fd00:5::/48')
      .replaceAll('10.5.1.0/24', 'fd00:5:0:1::/64')
      .replace('224.0.0.0/4', 'ff00::/8'),
  );
  const { shared, rules, jump } = masquerade;
  t.strictSame([forward.jump, ...forward.rules, jump, ...shared, ...rules], expected);
});

t.test('masqueradeChain() leaves out --random-fully on request', (t) => {
  const { rules } = masqueradeChain({ ...OPTIONS, isFullyRandom: false });
  t.equal(
    rules[3],
    '-A FLANNEL-POSTRTG -s 10.5.0.0/16 ! -d 224.0.0.0/4 -m comment --comment "flanneld masq" -j MASQUERADE',
  );
  t.notMatch(rules.join(), 'random');
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
