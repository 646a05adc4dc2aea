import t from 'tap';
import {
  blockedRanges,
  formatLeaseKey,
  formatLeaseValue,
  MAX_JSON_DEPTH,
  MAX_VALUE_BYTES,
  parseLeaseKey,
  parseLeaseValue,
} from '../../../src/lease/lease-codec.js';
import { sameHost } from '../../../src/lease/lease.js';
import { formatPrefixes } from '../../../src/net/prefix.js';
import { hostOf, type HostWords } from '../../support/leases.js';

const DUAL_KEYS = [
  '10.12.13.0-24&fd00:12:13::-56',
  '10.12.13.0-24&2001:db8:0:1::-64',
  '0.0.0.0-0&fd00:12:13::-56',
  '0.0.0.0-0&8000::-1',
  '0.0.0.0-0&fd00::fffe-127',
  // The longer run of zeros is left out, of two alike the first, and a single group is written (RFC 5952).
  '10.12.13.0-24&fd00:0:0:1::-64',
  '10.12.13.0-24&2001:db8::1:1:0:0-112',
  '10.12.13.0-24&2001:db8:0:1:1:1:1:0-112',
];

t.test('parseLeaseKey() and formatLeaseKey() are inverse on valid names', (t) => {
  for (const name of [
    '10.5.52.0-24',
    '10.0.0.0-8',
    '128.0.0.0-1',
    '255.255.255.254-31',
    '0.0.0.0-1',
    ...DUAL_KEYS,
  ]) {
    const subnet = parseLeaseKey(name);
    t.ok(subnet.ok, name);
    if (subnet.ok) t.equal(formatLeaseKey(subnet.value), name);
  }
  t.end();
});

t.test('parseLeaseKey() reads every form of an IPv6 subnet that flannel reads', (t) => {
  const names = ['fd00:5:1:0:0:0:0:0-64', 'fd00:5:1:0::-64', '00fd00:5:1::-64', 'fd00:0005:0001::-64'];
  const found = names.map((text) => {
    const subnets = parseLeaseKey(`10.5.1.0-24&${text}`);
    return subnets.ok ? formatLeaseKey(subnets.value) : 'none';
  });
  const canonical = '10.5.1.0-24&fd00:5:1::-64';
  t.strictSame(found, [canonical, canonical, 'none', canonical]);
  t.end();
});

t.test('parseLeaseKey() refuses every other name', (t) => {
  const names = [
    // flannel's own rejects
    ...[
      '10',
      '10.12.13.0',
      '10.12.13-24',
      '10.12.13.300-24',
      '10.12.13.0-24hi',
      '&2001::-56',
      '10.12.13.0-24&:12:13:-56',
    ],
    ...[
      '10.12.13.0-24&20011::-56',
      '10.12.13.0-24&2001-56',
      '10.12.13.0-24&2001::',
      '10.12.13.0-24&2001::-56hi',
    ],
    // what flannel would take
    ...[
      '10.12.13.7-24&fd00:12:13::-56',
      '10.12.13.0-24&fd00:12:13::1-56',
      '10.12.13.0-24&fd00:12:13::-056',
      '10.12.13.0-24&fd00:12:13::-0',
      '0.0.0.0-0&::-0',
      '10.12.13.7-24',
      '010.12.13.0-24',
      '10.12.13.0-024',
      '0.0.0.0-0',
      'x10.12.13.0-24',
    ],
    ...[
      '',
      '-',
      '10.12.13.0-32',
      '10.12.13.0-99',
      '10.12.13.0-',
      '10.12.13.0--1',
      '10.12.13.0-2 4',
      '10.12.13.0-24\n',
    ],
    // nobody’s
    ...[
      '10.12.13.0-24&FD00:12:13::-56',
      '10.12.13.0-24&fd00:12:13::-128',
      '10.12.13.0-24&fd00:12:13::%eth0-56',
      '10.12.13.0-24&10.12.13.0-24',
      '10.12.13.0-24&::ffff:10.12.13.0-120',
      '10.12.13.0-24&fd00:12:13::-56&fd00:12:14::-56',
      '0.0.0.0-1&fd00:12:13::1-56',
      '0.0.0.0-00&fd00:12:13::-56',
      'fd00:12:13::-56',
      '&fd00:12:13::-56',
      `${'1'.repeat(200)}`,
    ],
  ];
  for (const name of names) {
    const parsed = parseLeaseKey(name);
    t.notOk(parsed.ok, JSON.stringify(name));
    if (!parsed.ok) t.ok(parsed.problem.length > 0);
  }
  t.end();
});

t.test('blockedRanges() sees the range of keys that are no leases for us', (t) => {
  const cases: [string, string | undefined][] = [
    ['10.5.1.0-24', '10.5.1.0/24'],
    ['10.5.1.7-24', '10.5.1.0/24'],
    ['10.5.1.0-32', '10.5.1.0/32'],
    ['10.5.1.0-24&fd00::-56', '10.5.1.0/24 and fd00::/56'],
    ['10.5.1.0-24&FD00::1-56', '10.5.1.0/24 and fd00::/56'],
    ['10.5.1.0-24&fd00::-129', '10.5.1.0/24'],
    ['10.5.1.0-24&none', '10.5.1.0/24'],
    ['0.0.0.0-0&fd00::-56', 'fd00::/56'],
    ['300.0.0.0-8&fd00::-56', 'fd00::/56'],
    ['0.0.0.0-0', '0.0.0.0/0'],
    ['10.5.1.0-33', undefined],
    ['10.5.1.0-24hi', undefined],
    ['foo', undefined],
  ];
  for (const [name, expected] of cases) {
    const ranges = blockedRanges(name);
    t.equal(ranges && formatPrefixes(ranges), expected, name);
  }
  t.end();
});

t.test("formatLeaseValue() writes flannel's bytes", (t) => {
  const publicIp = '172.20.0.1';
  const cases: [HostWords, string][] = [
    [{ publicIp, backendType: '' }, '{"PublicIP":"172.20.0.1","PublicIPv6":null}'],
    [
      { publicIp, backendType: 'host-gw' },
      '{"PublicIP":"172.20.0.1","PublicIPv6":null,"BackendType":"host-gw"}',
    ],
    [
      { publicIp, backendType: 'vxlan', backendData: { VNI: 1, VtepMAC: 'da:cf:2f:a4:f8:4a' } },
      '{"PublicIP":"172.20.0.1","PublicIPv6":null,"BackendType":"vxlan",' +
        '"BackendData":{"VNI":1,"VtepMAC":"da:cf:2f:a4:f8:4a"}}',
    ],
    [
      { publicIp, backendType: 'extension', backendData: '<a>&\u2028' },
      '{"PublicIP":"172.20.0.1","PublicIPv6":null,"BackendType":"extension",' +
        String.raw`"BackendData":"\u003ca\u003e\u0026\u2028"}`,
    ],
    [
      {
        publicIp: '172.20.0.1&2001:db8::3',
        backendType: 'vxlan',
        backendData: { VNI: 1, VtepMAC: '02:00:00:00:00:01' },
        backendV6Data: { VNI: 1, VtepMAC: '02:00:00:00:00:02' },
      },
      '{"PublicIP":"172.20.0.1","PublicIPv6":"2001:db8::3","BackendType":"vxlan",' +
        '"BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:01"},' +
        '"BackendV6Data":{"VNI":1,"VtepMAC":"02:00:00:00:00:02"}}',
    ],
    [
      { publicIp: 'fd00::3', backendType: 'vxlan', backendV6Data: { VNI: 1 } },
      '{"PublicIP":"0.0.0.0","PublicIPv6":"fd00::3","BackendType":"vxlan","BackendV6Data":{"VNI":1}}',
    ],
    [{ publicIp: 'fd00::3' }, '{"PublicIP":"0.0.0.0","PublicIPv6":"fd00::3"}'],
    [
      { publicIp: '172.20.0.1&fd00::3', backendType: 'host-gw' },
      '{"PublicIP":"172.20.0.1","PublicIPv6":"fd00::3","BackendType":"host-gw"}',
    ],
    [
      { publicIp: 'fd00::3', backendType: 'host-gw' },
      '{"PublicIP":"0.0.0.0","PublicIPv6":"fd00::3","BackendType":"host-gw"}',
    ],
    [{ publicIp: '172.20.0.1&fd00::3' }, '{"PublicIP":"172.20.0.1","PublicIPv6":"fd00::3"}'],
  ];
  for (const [words, expected] of cases) {
    const host = hostOf(words);
    t.equal(formatLeaseValue(host), expected);
    const parsed = parseLeaseValue(expected);
    t.ok(parsed.ok && sameHost(parsed.value, host), 'and reads them back');
  }
  t.end();
});

t.test('parseLeaseValue() reads what Go reads', (t) => {
  const cases: [string, HostWords][] = [
    ['{"publicip":"1.2.3.4"}', { publicIp: '1.2.3.4', backendType: '' }],
    ['{"PublicIP":"1.2.3.4","PUBLICIP":"9.9.9.9"}', { publicIp: '1.2.3.4', backendType: '' }],
    ['{"PublicIP":"9.9.9.9","PublicIP":"1.2.3.4"}', { publicIp: '1.2.3.4', backendType: '' }],
    ['{"PublicIP":"::ffff:1.2.3.4"}', { publicIp: '1.2.3.4', backendType: '' }],
    [
      '{"PublicIP":"1.2.3.4","BackendType":null,"BackendData":null}',
      { publicIp: '1.2.3.4', backendType: '' },
    ],
    [
      '{"PublicIP":"1.2.3.4","PublicIPv6":"FD00:0::3","BackendV6Data":{},"New":[1]}',
      { publicIp: '1.2.3.4&fd00::3', backendType: '', backendV6Data: {} },
    ],
    ['{"PublicIPv6":"fd00::3"}', { publicIp: 'fd00::3' }],
    ['{"PublicIP":"::ffff:0.0.0.0","PublicIPv6":"fd00::3"}', { publicIp: 'fd00::3' }],
    ['{"PublicIP":"1.2.3.4","PublicIPv6":null,"BackendV6Data":null}', { publicIp: '1.2.3.4' }],
    // flanneld, on a host that has no other address of IPv6.
    ['{"PublicIP":"1.2.3.4","PublicIPv6":"fe80::a:b"}', { publicIp: '1.2.3.4' }],
    [' { "PublicIP" : "1.2.3.4" }\n', { publicIp: '1.2.3.4', backendType: '' }],
    [
      '{"PublicIP":"1.2.3.4","BackendType":"wireguard","BackendData":{"PublicKey":"a[{","Port":51820}}',
      { publicIp: '1.2.3.4', backendType: 'wireguard', backendData: { PublicKey: 'a[{', Port: 51820 } },
    ],
  ];
  for (const [text, expected] of cases)
    t.same(parseLeaseValue(text), { ok: true, value: hostOf(expected) }, text);
  t.end();
});

t.test('parseLeaseValue() refuses what no host can mean, naming the value', (t) => {
  const deep = '['.repeat(MAX_JSON_DEPTH) + ']'.repeat(MAX_JSON_DEPTH);
  const cases: [string, RegExp][] = [
    ['', /not valid JSON/],
    ['{"PublicIP":"1.2.3.4"', /not valid JSON/],
    ['{"PublicIP":"1.2.3.4"}x', /not valid JSON/],
    ['[]', /not a JSON object/],
    ['null', /not a JSON object/],
    ['"x"', /not a JSON object/],
    ['{}', /PublicIP is missing/],
    ['{"PublicIP":null}', /PublicIP is not an IPv4 address: null/],
    ['{"PublicIP":16909060}', /PublicIP is not an IPv4 address: 16909060/],
    ['{"PublicIP":"fd00::1"}', /PublicIP is not an IPv4 address: "fd00::1"/],
    ['{"PublicIP":"01.2.3.4"}', /PublicIP is not an IPv4 address/],
    ['{"PublicIP":"0.0.0.0"}', /0\.0\.0\.0 is no address a host can have/],
    ['{"PublicIP":"127.0.0.1"}', /no address a host can have/],
    ['{"PublicIP":"224.0.0.5"}', /no address a host can have/],
    ['{"PublicIP":"1.2.3.4","PublicIPv6":"5.6.7.8"}', /PublicIPv6 is not an IPv6 address: "5\.6\.7\.8"/],
    ['{"PublicIP":"1.2.3.4","PublicIPv6":"fd00::3%eth0"}', /PublicIPv6 is not an IPv6 address/],
    ['{"PublicIP":"1.2.3.4","PublicIPv6":7}', /PublicIPv6 is not an IPv6 address: 7/],
    ['{"PublicIP":"1.2.3.4","PublicIPv6":""}', /PublicIPv6 is not an IPv6 address: ""/],
    ['{"PublicIP":"0.0.0.0","PublicIPv6":"fe80::1"}', /PublicIPv6 fe80::1 is no address a host can have/],
    ['{"PublicIP":"1.2.3.4","PublicIPv6":"fe80::1%eth0"}', /PublicIPv6 is not an IPv6 address/],
    ['{"PublicIP":"1.2.3.4","PublicIPv6":"ff02::1"}', /PublicIPv6 ff02::1 is no address a host can have/],
    ['{"PublicIP":"0.0.0.0","PublicIPv6":"ff02::1"}', /PublicIPv6 ff02::1 is no address a host can have/],
    ['{"PublicIP":"0.0.0.0","PublicIPv6":"::ffff:1.2.3.4"}', /PublicIPv6 ::ffff:1\.2\.3\.4 is no address/],
    ['{"PublicIP":"127.0.0.1","PublicIPv6":"fd00::3"}', /PublicIP 127\.0\.0\.1 is no address/],
    ['{"PublicIP":"1.2.3.4","BackendType":7}', /BackendType is not a string: 7/],
    [`{"PublicIP":"1.2.3.4","BackendType":"${'x'.repeat(65)}"}`, /BackendType of 65 bytes/],
    [`{"PublicIP":"1.2.3.4","BackendData":${deep}}`, /nested 17 deep/],
    [`{"PublicIP":"1.2.3.4","X":"${'x'.repeat(MAX_VALUE_BYTES)}"}`, /value of \d+ bytes/],
    ['{"PublicIP":"1.2.3.4","BackendData":{"a":[{"__proto__":1}]}}', /__proto__/],
  ];
  for (const [text, expected] of cases) {
    const parsed = parseLeaseValue(text);
    t.notOk(parsed.ok, text.slice(0, 60));
    if (!parsed.ok) t.match(parsed.problem, expected);
  }
  t.equal(({} as Record<string, unknown>).PublicIP, undefined, 'no prototype was touched');
  t.end();
});

t.test('parseLeaseValue() survives every truncation and every flipped byte of a value', (t) => {
  const text =
    '{"PublicIP":"172.20.0.1","PublicIPv6":null,"BackendType":"vxlan",' +
    '"BackendData":{"VNI":1,"VtepMAC":"da:cf:2f:a4:f8:4a"}}';
  let refused = 0;
  for (let i = 0; i < text.length; i++) {
    t.equal(parseLeaseValue(text.slice(0, i)).ok, false);
    for (let bit = 0; bit < 8; bit++) {
      const flipped =
        text.slice(0, i) + String.fromCharCode(text.charCodeAt(i) ^ (1 << bit)) + text.slice(i + 1);
      if (!parseLeaseValue(flipped).ok) refused++;
    }
  }
  t.ok(refused > 0);
  t.end();
});
