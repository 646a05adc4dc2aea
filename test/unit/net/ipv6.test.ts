import t from 'tap';
import { formatIpv4 } from '../../../src/net/ipv4.js';
import { formatIpv6, ipv6, mappedIpv4, parseIpv6 } from '../../../src/net/ipv6.js';

t.test('parseIpv6() takes the forms of RFC 4291, formatIpv6() writes that of RFC 5952', (t) => {
  const rows: [string, bigint, string][] = [
    ['::', 0n, '::'],
    ['::1', 1n, '::1'],
    ['0:0:0:0:0:0:0:1', 1n, '::1'],
    ['2001:DB8::8:800:200C:417A', 0x20010db8000000000008_0800200c417an, '2001:db8::8:800:200c:417a'],
    ['2001:0db8:0000:0000:0000:0000:0002:0001', (0x20010db8n << 96n) | 0x20001n, '2001:db8::2:1'],
    ['ff01::', 0xff01n << 112n, 'ff01::'],
    // The longest run of zeros is cut, of equals the first, and one group alone is none.
    ['2001:db8:0:0:1:0:0:1', 0x20010db80000000000010000_00000001n, '2001:db8::1:0:0:1'],
    ['2001:0:0:1:0:0:0:1', 0x20010000000000010000000000000001n, '2001:0:0:1::1'],
    ['2001:db8::1:1:1:1:1', 0x20010db8000000010001000100010001n, '2001:db8:0:1:1:1:1:1'],
    ['1:2:3:4:5:6:7::', 0x00010002000300040005000600070000n, '1:2:3:4:5:6:7:0'],
    ['::2:3:4:5:6:7:8', 0x00000002000300040005000600070008n, '0:2:3:4:5:6:7:8'],
    ['::ffff:172.20.0.1', 0xffff_ac140001n, '::ffff:172.20.0.1'],
    ['::ffff:ac14:1', 0xffff_ac140001n, '::ffff:172.20.0.1'],
    ['::13.1.68.3', 0x0d014403n, '::d01:4403'],
    ['64:ff9b::192.0.2.33', (0x64ff9bn << 96n) | 0xc0000221n, '64:ff9b::c000:221'],
    ['ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 2n ** 128n - 1n, 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'],
  ];
  for (const [text, address, canonical] of rows) {
    t.equal(parseIpv6(text), address, text);
    t.equal(formatIpv6(ipv6(address)), canonical, `${text} written`);
  }
  const bad = [
    '',
    ':',
    ':::',
    '1::2::3',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '1:2:3:4:5:6:7:8::',
    '::1:2:3:4:5:6:7:8',
    ':1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:',
    '12345::',
    'g::',
    'fe80::1%eth0',
    '::1/128',
    ' ::1',
    '::256.0.0.1',
    '::1.2.3',
    '1.2.3.4::',
    '::1.2.3.4:5',
    '1:2:3:4:5:6:7:1.2.3.4',
    '10.5.1.0',
    '[::1]',
  ];
  for (const text of bad) t.equal(parseIpv6(text), undefined, text);
  t.end();
});

t.test('formatIpv6() and parseIpv6() are inverse for 20,000 addresses with many zeros', (t) => {
  let state = 7;
  const random = (below: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const wrong: string[] = [];
  for (let i = 0; i < 20_000; i++) {
    let value = 0n;
    for (let group = 0; group < 8; group++)
      value = (value << 16n) | BigInt(random(2) === 0 ? 0 : random(0x10000));
    const text = formatIpv6(ipv6(value));
    if (parseIpv6(text) !== value) wrong.push(`${value} became ${text}`);
    // Every form of a group says the same.
    const long = value.toString(16).padStart(32, '0').toUpperCase().match(/.{4}/g)!.join(':');
    if (parseIpv6(long) !== value) wrong.push(`${long} is not ${value}`);
  }
  t.same(wrong, []);
  t.end();
});

t.test('mappedIpv4() is the address in ::ffff:0:0/96 and nothing else', (t) => {
  t.equal(formatIpv4(mappedIpv4(parseIpv6('::ffff:192.0.2.1')!)!), '192.0.2.1');
  for (const text of ['::', '::192.0.2.1', '::fffe:c000:201', '1::ffff:192.0.2.1'])
    t.equal(mappedIpv4(parseIpv6(text)!), undefined, text);
  t.end();
});

t.test('ipv6() takes what is an address and nothing else', (t) => {
  t.equal(ipv6(2n ** 128n - 1n), 2n ** 128n - 1n);
  for (const value of [-1n, 2n ** 128n]) t.throws(() => ipv6(value), RangeError);
  t.end();
});
