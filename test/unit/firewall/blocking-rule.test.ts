import t from 'tap';
import { blockingRule } from '../../../src/firewall/blocking-rule.js';
import { forwardChain } from '../../../src/firewall/rules.js';
import { parsePrefix } from '../../../src/net/prefix.js';

const NETWORK = parsePrefix('10.5.0.0/16')!;
const { jump } = forwardChain({ network: NETWORK });

t.test('blockingRule() finds what refuses the overlay before our jump', (t) => {
  const reject = '-j REJECT --reject-with icmp-host-prohibited';
  const check = (rules: readonly string[], number: number | undefined) => {
    const parent = rules.map((rule) => (rule === jump ? rule : `-A FORWARD ${rule}`));
    const found = blockingRule(parent, 'FLANNEL-FWD', NETWORK);
    const expected = number === undefined ? undefined : { number, rule: rules[number - 1] };
    t.strictSame(found, expected, rules.join(' | '));
  };
  check([reject, jump], 1);
  check([reject], 1);
  check([jump, reject], undefined);
  check(['-j DROP', jump], 1);
  check(['-m comment --comment "the -p end" -j DROP', jump], 1);
  check(['-s 10.0.0.0/8 -j DROP', jump], 1);
  check(['-d 10.5.0.0/16 -m conntrack --ctstate NEW,INVALID -j DROP', jump], 1);
  check(['-m conntrack ! --ctstate RELATED,ESTABLISHED -j REJECT', jump], 1);
  check(['-i flannel.1 -j DROP', jump], 1);
  check(['-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT', '-j DOCKER-USER', reject, jump], 3);
  for (const harmless of [
    '-m conntrack --ctstate INVALID -j DROP',
    '-m conntrack ! --ctstate NEW -j DROP',
    '-m state --state INVALID -j DROP',
    '-s 10.6.0.0/16 -j DROP',
    '-s 10.5.1.0/24 -j DROP',
    '! -s 10.5.0.0/16 -j DROP',
    '-p tcp -m tcp --dport 22 -j DROP',
    '-i docker0 -j DROP',
    '-o virbr0 -j REJECT --reject-with icmp-port-unreachable',
    '-m addrtype --dst-type MULTICAST -j DROP',
    '-m comment --comment "-j DROP" -j DOCKER-USER',
    '-j LOG --log-prefix "DROP "',
    '-g OTHER',
  ]) {
    check([harmless, jump], undefined);
  }
  check(['-j ACCEPT', reject, jump], undefined);
  check(['-s 10.5.0.0/16 -j ACCEPT', reject, jump], undefined);
  check(['-i docker0 -j ACCEPT', reject, jump], 2);
  check([], undefined);
  t.end();
});

t.test('blockingRule() looks into other chains', (t) => {
  const reject = '-A FORWARD -j REJECT --reject-with icmp-host-prohibited';
  const check = (chains: Record<string, string[]>, expected: number | undefined) => {
    const rulesOf = (name: string) => (chains[name] ?? []).map((rule) => `-A ${name} ${rule}`);
    const parent = [...rulesOf('FORWARD'), reject, jump];
    const found = blockingRule(parent, 'FLANNEL-FWD', NETWORK, rulesOf);
    t.equal(found?.number, expected, JSON.stringify(chains));
  };
  // As firewalld makes them for a source and for an interface in the zone "trusted".
  const trusted = ['-j FWDI_trusted_deny', '-j FWDI_trusted_allow', '-j ACCEPT'];
  for (const match of ['-s 10.5.0.0/16', '-i flannel.1']) {
    const zones = [`${match} -g FWDI_trusted`, '-g FWDI_public'];
    check({ FORWARD: ['-j FORWARD_IN_ZONES'], FORWARD_IN_ZONES: zones, FWDI_trusted: trusted }, undefined);
  }
  const open = ['-s 10.9.0.0/16 -g FWDI_trusted', '-g FWDI_public'];
  check({ FORWARD: ['-j FORWARD_IN_ZONES'], FORWARD_IN_ZONES: open, FWDI_trusted: trusted }, 2);
  check({ FORWARD: ['-j MINE'], MINE: ['-p tcp -j ACCEPT', '-j DROP'] }, 1);
  check({ FORWARD: ['-j MINE'], MINE: ['-j RETURN', '-j DROP'] }, 2);
  check(
    { FORWARD: ['-j MINE'], MINE: ['-j DEEPER', '-j ACCEPT'], DEEPER: ['-g DEEPEST', '-j DROP'] },
    undefined,
  );
  check({ FORWARD: ['-g MINE'], MINE: ['-m mark --mark 0x1 -j DROP'] }, undefined);
  t.end();
});
