import t from 'tap';
import { formatGuard } from '../../../src/firewall/member-guard.js';
import { ipv4, parseIpv4 } from '../../../src/net/ipv4.js';
import { parseIpv6 } from '../../../src/net/ipv6.js';

t.test('formatGuard() replaces what belongs to its VNI in one transaction', (t) => {
  const options = { port: 8472, vni: 1, sourceCheck: 'strict' as const };
  const drop = 'counter drop comment "drop VNI 1 on port 8472 from hosts without a lease"';
  t.equal(
    formatGuard(options, [ipv4(0xc0000201), ipv4(0xc0000202)]),
    `add table ip twill-vxlan
add chain ip twill-vxlan input_1
flush chain ip twill-vxlan input_1
delete chain ip twill-vxlan input_1
add set ip twill-vxlan members_1 { type ipv4_addr; }
delete set ip twill-vxlan members_1
table ip twill-vxlan {
  set members_1 {
    type ipv4_addr
    elements = { 192.0.2.1, 192.0.2.2 }
  }
  chain input_1 {
    type filter hook input priority -10; policy accept;
    udp dport 8472 @th,96,24 1 ip saddr != @members_1 ${drop}
  }
}
`,
  );
  t.notMatch(formatGuard(options, []), 'elements', 'an empty set has no elements line');
  const audit = formatGuard({ ...options, vni: 7, sourceCheck: 'audit' }, []);
  t.match(
    audit,
    '@th,96,24 7 ip saddr != @members_7 counter accept comment "note VNI 7',
    'audit counts and lets pass',
  );
  t.end();
});

t.test('formatGuard() of IPv6 is the same in a table of its own', (t) => {
  const options = { port: 8472, vni: 1, sourceCheck: 'strict' as const };
  const [v4, v6] = [parseIpv4('192.0.2.1')!, parseIpv6('2001:DB8::1')!];
  t.equal(
    formatGuard({ ...options, family: 6 }, [v6]),
    formatGuard(options, [v4])
      .replaceAll(/\bip (?=twill|saddr)/g, 'ip6 ')
      .replaceAll('ipv4_addr', 'ipv6_addr')
      .replace('192.0.2.1', '2001:db8::1'),
  );
  t.end();
});
