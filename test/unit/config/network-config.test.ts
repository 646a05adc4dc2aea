import t from 'tap';
import {
  leasableRange,
  parseNetworkConfig,
  prefixesOf,
  sameConfig,
} from '../../../src/config/network-config.js';
import { familiesOf, firstOf } from '../../../src/net/dual.js';
import { formatIpv4 } from '../../../src/net/ipv4.js';
import {
  type Address,
  type AddressRange,
  formatAddress,
  formatPrefix,
  formatPrefixes,
} from '../../../src/net/prefix.js';

function summary(text: string): string {
  const { networks, backendType } = parseNetworkConfig(text, 'test');
  const { network, subnetLength, subnetMin, subnetMax } = networks.v4!;
  return `${formatPrefix(network)} /${subnetLength} ${formatIpv4(subnetMin)}-${formatIpv4(subnetMax)} ${backendType}`;
}

t.test('parseNetworkConfig() computes what is left out', (t) => {
  const rows: [string, string][] = [
    ['{"network":"10.3.0.0/16"}', '10.3.0.0/16 /24 10.3.1.0-10.3.255.0 udp'],
    ['{"Network":"10.5.7.9/16"}', '10.5.0.0/16 /24 10.5.1.0-10.5.255.0 udp'],
    [
      '{"Network":"10.3.0.0/16","SubnetMin":"10.3.5.0","SubnetMax":"10.3.8.0","SubnetLen":28}',
      '10.3.0.0/16 /28 10.3.5.0-10.3.8.0 udp',
    ],
    [
      '{"Network":"10.0.0.0/8","SubnetLen":20,"SubnetMin":"10.10.0.0","SubnetMax":"10.99.0.0",' +
        '"Backend":{"Type":"udp","Port":7890}}',
      '10.0.0.0/8 /20 10.10.0.0-10.99.0.0 udp',
    ],
    ['{"Network":"10.5.0.0/22"}', '10.5.0.0/22 /24 10.5.1.0-10.5.3.0 udp'],
    ['{"Network":"10.5.0.0/23"}', '10.5.0.0/23 /25 10.5.0.128-10.5.1.128 udp'],
    ['{"Network":"10.5.0.0/28"}', '10.5.0.0/28 /30 10.5.0.4-10.5.0.12 udp'],
    [
      '{"Network":"10.5.0.0/16","SubnetMin":"0.0.0.0","SubnetLen":0}',
      '10.5.0.0/16 /24 10.5.1.0-10.5.255.0 udp',
    ],
    ['{"Network":"10.5.0.0/16","SubnetMin":"::ffff:10.5.9.0"}', '10.5.0.0/16 /24 10.5.9.0-10.5.255.0 udp'],
    ['{"Network":"10.5.0.0/16","Backend":{"type":"VXLAN"}}', '10.5.0.0/16 /24 10.5.1.0-10.5.255.0 vxlan'],
    ['{"network":"10.1.0.0/16","Network":"10.5.0.0/16"}', '10.5.0.0/16 /24 10.5.1.0-10.5.255.0 udp'],
    ['{"Network":"10.1.0.0/16","Network":"10.5.0.0/16"}', '10.5.0.0/16 /24 10.5.1.0-10.5.255.0 udp'],
    ['{"Network":"10.5.0.0/16","Backend":{}}', '10.5.0.0/16 /24 10.5.1.0-10.5.255.0 '],
  ];
  for (const [text, expected] of rows) t.equal(summary(text), expected, text);
  t.end();
});

t.test('parseNetworkConfig() names key and value', (t) => {
  const rows: [string, RegExp][] = [
    ['', /test: not valid JSON/],
    ['{"Network":', /test: not valid JSON/],
    ['[]', /test is \[\]: expected a JSON object/],
    ['{}', /Network is missing/],
    ['{"Network":""}', /Network is ""/],
    ['{"Network":null}', /Network is null/],
    ['{"Network":"0.0.0.0/0"}', /Network is "0\.0\.0\.0\/0"/],
    ['{"Network":"fc00::/48"}', /Network is "fc00::\/48": expected an IPv4 network/],
    ['{"Network":"10.5.0.0/29"}', /at most a \/28/],
    ['{"Network":"10.5.0.0/16","SubnetLen":31}', /SubnetLen is 31: expected at most 30/],
    ['{"Network":"10.5.0.0/16","SubnetLen":17}', /at least 18/],
    ['{"Network":"10.5.0.0/16","SubnetLen":-1}', /SubnetLen is -1/],
    ['{"Network":"10.5.0.0/16","SubnetLen":"24"}', /SubnetLen is "24"/],
    [
      '{"Network":"10.5.0.0/16","SubnetMin":"10.6.0.0"}',
      /SubnetMin is "10\.6\.0\.0": expected an address inside Network/,
    ],
    [
      '{"Network":"10.5.0.0/16","SubnetMax":"10.5.9.7"}',
      /SubnetMax is "10\.5\.9\.7": expected an address on a SubnetLen boundary/,
    ],
    ['{"Network":"10.5.0.0/16","SubnetMin":null}', /SubnetMin is null/],
    [
      '{"Network":"10.5.0.0/16","SubnetMin":"10.5.9.0","SubnetMax":"10.5.8.0"}',
      /SubnetMin 10\.5\.9\.0 is above SubnetMax 10\.5\.8\.0/,
    ],
    ['{"Network":"10.5.0.0/16","Backend":null}', /Backend is null/],
    ['{"Network":"10.5.0.0/16","Backend":{"Type":7}}', /Backend\.Type is 7/],
    ['{"Network":"10.5.0.0/16","EnableIPv6":true}', /IPv6Network is missing: expected an IPv6 network/],
    ['{"Network":"10.5.0.0/16","EnableIPv6":"true"}', /EnableIPv6 is "true": expected true or false/],
    [
      '{"Network":"10.5.0.0/16","EnableIPv4":false}',
      /EnableIPv4 is false: expected true, or EnableIPv6 true/,
    ],
    ['{"Network":"10.5.0.0/16","EnableNFTables":"yes"}', /EnableNFTables is "yes"/],
    [`${'['.repeat(100_000)}`, /nested/],
  ];
  for (const [text, message] of rows)
    t.throws(() => parseNetworkConfig(text, 'test'), { code: 'E_CONFIG', message }, text.slice(0, 60));
  t.end();
});

// --- both families, by the same rules ------------------------------------------------------------------------------

interface FamilyWords {
  readonly keys: string;
  readonly enable: Record<string, unknown>;
  /** Networks by their length, and an address outside all of them. */
  readonly networks: Record<'usual' | 'wide' | 'quartered' | 'small' | 'tooSmall', string>;
  readonly outside: string;
  readonly other: string;
  readonly longest: number;
  readonly expected: Record<'usual' | 'wide' | 'quartered' | 'small', string>;
}

const FAMILIES: readonly FamilyWords[] = [
  {
    keys: '',
    enable: {},
    networks: {
      usual: '10.5.7.9/16',
      wide: '10.5.0.0/22',
      quartered: '10.5.0.0/23',
      small: '10.5.0.0/28',
      tooSmall: '10.5.0.0/29',
    },
    outside: '10.6.0.0',
    other: 'fd00:5::/48',
    longest: 30,
    expected: {
      usual: '10.5.0.0/16 /24 10.5.1.0 10.5.255.0',
      wide: '10.5.0.0/22 /24 10.5.1.0 10.5.3.0',
      quartered: '10.5.0.0/23 /25 10.5.0.128 10.5.1.128',
      small: '10.5.0.0/28 /30 10.5.0.4 10.5.0.12',
    },
  },
  {
    keys: 'IPv6',
    enable: { EnableIPv4: false, EnableIPv6: true },
    networks: {
      usual: 'FD00:5::9/48',
      wide: 'fd00:5::/62',
      quartered: 'fd00:5::/63',
      small: 'fd00:5::/124',
      tooSmall: 'fd00:5::/125',
    },
    outside: 'fd00:6::',
    other: '10.5.0.0/16',
    longest: 126,
    expected: {
      usual: 'fd00:5::/48 /64 fd00:5:0:1:: fd00:5:0:ffff::',
      wide: 'fd00:5::/62 /64 fd00:5:0:1:: fd00:5:0:3::',
      quartered: 'fd00:5::/63 /65 fd00:5:0:0:8000:: fd00:5:0:1:8000::',
      small: 'fd00:5::/124 /126 fd00:5::4 fd00:5::c',
    },
  },
];

for (const { keys, enable, networks, outside, other, longest, expected } of FAMILIES) {
  const name = keys === '' ? 'IPv4' : 'IPv6';
  const networkLength = Number(networks.usual.split('/')[1]);
  const textOf = (fields: Record<string, unknown>): string =>
    JSON.stringify({
      ...enable,
      ...Object.fromEntries(Object.entries(fields).map(([key, value]) => [`${keys}${key}`, value])),
    });
  const shown = (fields: Record<string, unknown>): string => {
    const config = parseNetworkConfig(textOf(fields), 'test');
    const found = firstOf(config.networks);
    const bounds = [found.subnetMin, found.subnetMax].map(formatAddress).join(' ');
    return `${formatPrefixes(prefixesOf(config))} /${found.subnetLength} ${bounds}`;
  };

  t.test(`parseNetworkConfig() computes what is left out of ${name}`, (t) => {
    for (const key of ['usual', 'wide', 'quartered', 'small'] as const)
      t.equal(shown({ Network: networks[key] }), expected[key], networks[key]);
    const zeros = { SubnetMin: keys === '' ? '0.0.0.0' : '::', SubnetMax: keys === '' ? '0.0.0.0' : '0::0' };
    t.equal(shown({ Network: networks.usual, SubnetLen: 0, ...zeros }), expected.usual);
    t.end();
  });

  t.test(`parseNetworkConfig() names key and value of ${name}`, (t) => {
    const usual = networks.usual;
    const rows: [Record<string, unknown>, string][] = [
      [{}, `${keys}Network is missing: expected an ${name} network`],
      [{ Network: '' }, `${keys}Network is "": expected an ${name} network`],
      [{ Network: null }, `${keys}Network is null: expected an ${name} network`],
      [{ Network: other }, `${keys}Network is "${other}": expected an ${name} network`],
      [{ Network: `${outside}/0` }, `${keys}Network is "${outside}/0": expected an ${name} network`],
      [{ Network: outside }, `${keys}Network is "${outside}": expected an ${name} network`],
      [{ Network: `${outside}%eth0/24` }, `expected an ${name} network`],
      [{ Network: `${outside}/129` }, `expected an ${name} network`],
      [{ Network: networks.tooSmall }, `expected at most a /${longest - 2}: it must hold four subnets`],
      [{ Network: usual, SubnetLen: longest + 1 }, `${keys}SubnetLen is ${longest + 1}: expected at most`],
      [{ Network: usual, SubnetLen: networkLength + 1 }, `expected at least ${networkLength + 2}`],
      [{ Network: usual, SubnetLen: -1 }, `${keys}SubnetLen is -1: expected a prefix length`],
      [{ Network: usual, SubnetLen: 24.5 }, `${keys}SubnetLen is 24.5: expected a prefix length`],
      [{ Network: usual, SubnetLen: '24' }, `${keys}SubnetLen is "24": expected a prefix length`],
      [{ Network: usual, SubnetMin: outside }, `expected an address inside ${keys}Network`],
      [{ Network: usual, SubnetMax: outside }, `${keys}SubnetMax is "${outside}"`],
      [{ Network: usual, SubnetMin: null }, `${keys}SubnetMin is null: expected an ${name} address`],
      [{ Network: usual, SubnetMin: other }, `${keys}SubnetMin is "${other}": expected an ${name} address`],
    ];
    for (const [fields, message] of rows) {
      const text = textOf(fields);
      t.throws(
        () => parseNetworkConfig(text, 'test'),
        { code: 'E_CONFIG', message: new RegExp(message.replaceAll(/[.*/]/g, '\\$&')) },
        text,
      );
    }
    t.end();
  });
}

t.test('parseNetworkConfig() of IPv6 beside or in place of IPv4', (t) => {
  const shown = (text: string): string => {
    const { networks } = parseNetworkConfig(text, 'test');
    const words = familiesOf(networks).map((family) => {
      const { network, subnetLength, subnetMin, subnetMax } = networks[family]!;
      return `${formatPrefix(network)} /${subnetLength} ${[subnetMin, subnetMax].map(formatAddress).join('-')}`;
    });
    return words.join(', ');
  };
  const dual = '"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:5::/48"';
  const rows: [string, string][] = [
    // U2 and U4 of flannel's own tests
    [
      '{"enableIPv6":true,"ipv6Network":"fc00::/48","enableIPv4":false}',
      'fc00::/48 /64 fc00:0:0:1::-fc00:0:0:ffff::',
    ],
    [
      '{"enableIPv6":true,"enableIPv4":false,"ipv6Network":"fc00::/48",' +
        '"ipv6SubnetMin":"fc00:0:0:1::","ipv6SubnetMax":"fc00:0:0:f::","ipv6SubnetLen":124}',
      'fc00::/48 /124 fc00:0:0:1::-fc00:0:0:f::',
    ],
    [`{${dual}}`, '10.5.0.0/16 /24 10.5.1.0-10.5.255.0, fd00:5::/48 /64 fd00:5:0:1::-fd00:5:0:ffff::'],
    [
      `{${dual},"SubnetLen":26,"IPv6SubnetLen":80}`,
      '10.5.0.0/16 /26 10.5.0.64-10.5.255.192, fd00:5::/48 /80 fd00:5:0:0:1::-fd00:5:0:ffff:ffff::',
    ],
    // What is said of a family that is off is not looked at.
    ['{"Network":"10.5.0.0/16","IPv6Network":"none"}', '10.5.0.0/16 /24 10.5.1.0-10.5.255.0'],
    [
      '{"EnableIPv4":false,"Network":"none","EnableIPv6":true,"IPv6Network":"fd00:5::/60"}',
      'fd00:5::/60 /64 fd00:5:0:1::-fd00:5:0:f::',
    ],
  ];
  for (const [text, expected] of rows) t.equal(shown(text), expected, text);
  t.end();
});

t.test('parseNetworkConfig() takes no IPv6Network where no host can be', (t) => {
  const rows: [string, boolean][] = [
    ['::/16', false],
    ['::ffff:10.5.0.0/112', false],
    ['::ffff:0:0/96', false],
    ['fe80::/64', false],
    ['ff05::/48', false],
    ['fc00::/7', true],
    ['2001:db8::/32', true],
    ['2000::/3', true],
  ];
  for (const [network, expected] of rows) {
    const text = `{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"${network}","IPv6SubnetLen":120}`;
    const parse = (): unknown => parseNetworkConfig(text, 'test');
    if (expected) t.doesNotThrow(parse, network);
    else
      t.throws(
        parse,
        { code: 'E_CONFIG', message: /IPv6Network is ".*": expected subnets outside ::\/128/ },
        network,
      );
  }
  t.end();
});

t.test('leasableRange() is what subnets may hold, by family', (t) => {
  const text = '{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:5::/48"}';
  const shown = (subnetsFrom: 'limits' | 'store'): string[] =>
    Object.values(leasableRange(parseNetworkConfig(text, 'test', subnetsFrom))).map(
      ({ first, last }: AddressRange<Address>) => `${formatAddress(first)} ${formatAddress(last)}`,
    );
  t.strictSame(shown('limits'), ['10.5.1.0 10.5.255.255', 'fd00:5:0:1:: fd00:5:0:ffff:ffff:ffff:ffff:ffff']);
  t.strictSame(shown('store'), ['255.255.255.255 0.0.0.0', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ::']);
  t.end();
});

t.test('unknown keys are ignored and named; "__proto__" is a key like any other', (t) => {
  const config = parseNetworkConfig(
    '{"Network":"10.5.0.0/16","Colour":1,"__proto__":{"Network":"9.9.0.0/16"}}',
    'test',
  );
  t.equal(formatPrefixes(prefixesOf(config)), '10.5.0.0/16');
  t.match(config.warnings, [/"Colour"/, /"__proto__"/]);
  t.equal(({} as Record<string, unknown>)['Network'], undefined);
  t.end();
});

// addon/packet/ipv4.h has the same ranges, checked by test/native/packet_test.cc.
t.test('parseNetworkConfig() takes a Network if, and only if, the data path carries it', (t) => {
  const isTaken = (text: string): boolean => {
    try {
      parseNetworkConfig(text, 'test');
      return true;
    } catch (error) {
      t.match(error, {
        code: 'E_CONFIG',
        message: /Network is ".*": expected subnets outside 0\.0\.0\.0\/8, 127/,
      });
      return false;
    }
  };
  for (let first = 0; first < 256; first++) {
    const isCarried = first !== 0 && first !== 127 && !(first >= 224 && first < 240);
    t.equal(isTaken(`{"Network":"${first}.5.0.0/16"}`), isCarried, `${first}.5.0.0/16`);
  }
  const rows: [string, boolean][] = [
    ['{"Network":"240.0.0.0/4"}', true],
    ['{"Network":"240.0.0.0/12"}', true],
    ['{"Network":"255.255.0.0/16"}', true],
    ['{"Network":"169.254.0.0/16"}', true],
    ['{"Network":"192.0.0.0/2"}', false],
    ['{"Network":"126.0.0.0/7"}', false],
    ['{"Network":"126.0.0.0/7","SubnetMax":"126.9.0.0"}', true],
    ['{"Network":"64.0.0.0/2","SubnetMin":"126.0.0.0"}', false],
  ];
  for (const [text, expected] of rows) t.equal(isTaken(text), expected, text);
  t.end();
});

t.test('sameConfig() compares what a config says, in either family', (t) => {
  const of = (more: string): ReturnType<typeof parseNetworkConfig> =>
    parseNetworkConfig(`{"Network":"10.5.0.0/16","EnableIPv6":true${more}}`, 'test');
  const before = of(',"IPv6Network":"fd00:5::/48"');
  t.ok(sameConfig(before, of(' ,"IPv6Network":"FD00:0005:0::9/48"')), 'another text');
  t.notOk(sameConfig(before, of(',"IPv6Network":"fd00:6::/48"')));
  t.notOk(sameConfig(before, of(',"IPv6Network":"fd00:5::/48","IPv6SubnetLen":72')));
  t.notOk(sameConfig(before, parseNetworkConfig('{"Network":"10.5.0.0/16"}', 'test')));
  t.end();
});
