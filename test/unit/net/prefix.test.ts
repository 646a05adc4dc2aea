import t from 'tap';
import type { Ipv4 } from '../../../src/net/ipv4.js';
import { ipv6 } from '../../../src/net/ipv6.js';
import {
  type Address,
  addressKey,
  type Family,
  formatAddress,
  formatPrefix,
  hasHostBits,
  lastOf,
  maskOf,
  parseCidr,
  parsePrefix,
  type Prefix,
  prefixContains,
  prefixCovers,
  prefixEquals,
  prefixesOverlap,
  prefixKey,
  prefixOf,
  sizeOf,
} from '../../../src/net/prefix.js';

const of = (text: string): Prefix<Address> => parsePrefix(text, text.includes(':') ? 6 : 4)!;

t.test('parsePrefix(), parseCidr() and formatPrefix()', (t) => {
  t.same(parseCidr('10.5.72.1/24'), { address: 0x0a054801, length: 24 });
  t.same(parseCidr('2001:db8::1/64', 6), { address: (0x20010db8n << 96n) | 1n, length: 64 });
  t.equal(parsePrefix('10.5.72.1/24'), undefined, 'host bits');
  t.equal(parsePrefix('2001:db8::1/64', 6), undefined, 'host bits');
  t.same(parsePrefix('0.0.0.0/0'), { address: 0, length: 0 });
  t.same(parsePrefix('::/0', 6), { address: 0n, length: 0 });
  for (const text of [
    '10.5.0.0',
    '10.5.0.0/',
    '10.5.0.0/33',
    '10.5.0.0/-1',
    '10.5.0.0/024',
    '10.5/16',
    '::/0',
  ])
    t.equal(parsePrefix(text), undefined, text);
  for (const text of ['::', '::/', '::/129', '::/-1', '::/0128', '10.5.0.0/16'])
    t.equal(parsePrefix(text, 6), undefined, text);
  for (const text of ['10.5.0.0/16', '255.255.255.255/32', '2001:db8::/32', 'fd00:1::/48', '::1/128'])
    t.equal(formatPrefix(of(text)), text);
  t.end();
});

t.test('maskOf(), prefixOf(), lastOf() and hasHostBits() agree with plain arithmetic', (t) => {
  const check = (family: Family, bits: number, length: number): void => {
    const mask = ((1n << BigInt(length)) - 1n) << BigInt(bits - length);
    t.equal(BigInt(maskOf(length, family)), mask, `/${length} of ${bits}`);
    const last = parseCidr(
      family === 4 ? '255.255.255.255/0' : `${'ffff:'.repeat(7)}ffff/0`,
      family,
    )!.address;
    const prefix = prefixOf(last, length);
    t.equal(BigInt(prefix.address), mask);
    t.equal(lastOf(prefix), last);
    t.equal(hasHostBits(prefix), false);
    t.equal(hasHostBits({ address: last, length }), length < bits);
  };
  for (let length = 0; length <= 32; length++) check(4, 32, length);
  for (let length = 0; length <= 128; length++) check(6, 128, length);
  t.equal(formatAddress(lastOf(of('10.5.0.0/16'))), '10.5.255.255');
  t.equal(formatAddress(lastOf(of('fd00::/112'))), 'fd00::ffff');
  t.equal(sizeOf(24), 256);
  t.end();
});

t.test('covers, contains, overlaps and equals', (t) => {
  const rows: [string, string, 'covers' | 'inside' | 'same' | 'apart'][] = [
    ['10.0.0.0/8', '10.5.0.0/16', 'covers'],
    ['10.5.0.0/16', '10.0.0.0/8', 'inside'],
    ['10.5.0.0/24', '10.5.1.0/24', 'apart'],
    ['10.5.0.0/24', '10.5.0.0/24', 'same'],
    ['0.0.0.0/0', '255.255.255.255/32', 'covers'],
    ['fd00::/8', 'fd00:1::/32', 'covers'],
    ['fd00:1::/32', 'fd00::/8', 'inside'],
    ['fd00:1::/32', 'fd00:2::/32', 'apart'],
    ['fd00::1/128', 'fd00::1/128', 'same'],
    ['::/0', 'ffff::/16', 'covers'],
    // The same bits, another family.
    ['::/0', '10.5.0.0/16', 'apart'],
    ['0.0.0.0/0', '::1/128', 'apart'],
    ['::ffff:10.5.0.0/112', '10.5.0.0/16', 'apart'],
    ['0.0.0.0/0', '::/0', 'apart'],
  ];
  for (const [a, b, expected] of rows) {
    const what = `${a} and ${b}`;
    t.equal(prefixCovers(of(a), of(b)), expected === 'covers' || expected === 'same', what);
    t.equal(prefixCovers(of(b), of(a)), expected === 'inside' || expected === 'same', what);
    t.equal(prefixContains(of(a), of(b).address), expected === 'covers' || expected === 'same', what);
    t.equal(prefixesOverlap(of(a), of(b)), expected !== 'apart', what);
    t.equal(prefixEquals(of(a), of(b)), expected === 'same', what);
  }
  t.end();
});

t.test('a map of the subnets of an IPv6 network finds each at once', (t) => {
  // By what V8 hashes, the lowest 64 bits.
  const prefixes = new Set<bigint>();
  const hosts = new Set<bigint>();
  for (let i = 0n; i < 1000n; i++) {
    const address = ipv6((0xfd000005n << 96n) | (i << 64n));
    prefixes.add(BigInt.asUintN(64, prefixKey({ address, length: 64 }) as bigint));
    hosts.add(BigInt.asUintN(64, addressKey(ipv6(address | 1n))));
  }
  t.equal(prefixes.size, 1000);
  t.equal(hosts.size, 1000);
  t.end();
});

t.test('prefixKey() differs for any two prefixes of a family', (t) => {
  for (const [family, bits] of [[4, 32] as const, [6, 128] as const]) {
    const keys = new Set<number | bigint>();
    const zero = parseCidr(family === 4 ? '0.0.0.0/0' : '::/0', family)!.address;
    const all = maskOf(bits, family);
    let count = 0;
    for (let length = 0; length <= bits; length++) {
      for (const address of new Set([zero, prefixOf(all, length).address])) {
        keys.add(prefixKey({ address, length }));
        count++;
      }
    }
    t.equal(keys.size, count);
  }
  const key: number = prefixKey({ address: 0x0a050100 as Ipv4, length: 24 });
  t.equal(
    key,
    0x0a050180,
    '32 bits for a lease of IPv4, which the maps of the hot paths keep without an object',
  );
  t.end();
});
