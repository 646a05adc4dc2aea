import t from 'tap';
import { formatIpv4, ipv4, parseIpv4 } from '../../../src/net/ipv4.js';

t.test('parseIpv4() takes four decimal octets and nothing else', (t) => {
  const good: [string, number][] = [
    ['0.0.0.0', 0],
    ['10.5.1.0', 0x0a050100],
    ['255.255.255.255', 0xffffffff],
  ];
  for (const [text, address] of good) {
    t.equal(parseIpv4(text), address);
    t.equal(formatIpv4(ipv4(address)), text);
  }
  const bad = [
    '',
    '10.5.1',
    '10.5.1.0.0',
    '010.0.0.1',
    '10.0.0.01',
    '256.0.0.1',
    ' 10.0.0.1',
    '10.0.0.1 ',
    '0x7f.0.0.1',
  ];
  for (const text of [...bad, '10.5.1.-1', '1e1.0.0.1', '::1', '10.5.1.0/24', '١.1.1.1'])
    t.equal(parseIpv4(text), undefined, text);
  t.end();
});

t.test('ipv4() takes what is an address and nothing else', (t) => {
  for (const value of [0, 1, 0x7fffffff, 0x80000000, 0xffffffff]) t.equal(ipv4(value), value);
  for (const value of [-1, 2 ** 32, 0.5, NaN, Infinity])
    t.throws(() => ipv4(value), RangeError, String(value));
  t.end();
});
