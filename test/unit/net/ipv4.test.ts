import t from 'tap';
import {
  formatIpv4,
  formatPrefix,
  isBogon,
  maskOf,
  parseCidr,
  parseIpv4,
  parsePrefix,
  prefixCovers,
  prefixesOverlap,
} from '../../../src/net/ipv4.js';

t.test('parseIpv4() takes four decimal octets and nothing else', (t) => {
  const good: [string, number][] = [
    ['0.0.0.0', 0],
    ['10.5.1.0', 0x0a050100],
    ['255.255.255.255', 0xffffffff],
  ];
  for (const [text, address] of good) {
    t.equal(parseIpv4(text), address);
    t.equal(formatIpv4(address), text);
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

t.test('prefixes', (t) => {
  t.same(parseCidr('10.5.72.1/24'), { address: 0x0a054801, length: 24 });
  t.equal(parsePrefix('10.5.72.1/24'), undefined, 'host bits');
  t.same(parsePrefix('0.0.0.0/0'), { address: 0, length: 0 });
  for (const text of ['10.5.0.0', '10.5.0.0/', '10.5.0.0/33', '10.5.0.0/-1', '10.5.0.0/024', '10.5/16'])
    t.equal(parsePrefix(text), undefined, text);
  t.equal(formatPrefix({ address: 0x0a050000, length: 16 }), '10.5.0.0/16');
  for (let length = 0; length <= 32; length++) {
    t.equal(BigInt(maskOf(length)), ((1n << BigInt(length)) - 1n) << BigInt(32 - length), `/${length}`);
  }
  const of = (text: string): { address: number; length: number } => parsePrefix(text)!;
  t.ok(prefixCovers(of('10.0.0.0/8'), of('10.5.0.0/16')));
  t.notOk(prefixCovers(of('10.5.0.0/16'), of('10.0.0.0/8')));
  t.ok(prefixesOverlap(of('10.5.0.0/16'), of('10.0.0.0/8')));
  t.notOk(prefixesOverlap(of('10.5.0.0/24'), of('10.5.1.0/24')));
  t.ok(prefixesOverlap(of('0.0.0.0/0'), of('255.255.255.255/32')));
  t.end();
});

t.test('isBogon()', (t) => {
  for (const text of ['0.1.2.3', '127.0.0.1', '224.0.0.1', '239.1.1.1', '240.0.0.1', '255.255.255.255'])
    t.ok(isBogon(parseIpv4(text)!), text);
  for (const text of ['1.0.0.1', '10.5.1.1', '169.254.1.1', '192.0.2.1', '223.255.255.255'])
    t.notOk(isBogon(parseIpv4(text)!), text);
  t.end();
});
