import t from 'tap';
import { parseNetworkConfig, prefixesOf } from '../../../src/config/network-config.js';
import { formatIpv4 } from '../../../src/net/ipv4.js';
import { formatPrefix, formatPrefixes } from '../../../src/net/prefix.js';

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
    ['{"Network":"10.5.0.0/16","EnableIPv6":true}', /EnableIPv6 is true: expected false/],
    ['{"Network":"10.5.0.0/16","EnableIPv4":false}', /EnableIPv4 is false/],
    ['{"Network":"10.5.0.0/16","EnableNFTables":"yes"}', /EnableNFTables is "yes"/],
    [`${'['.repeat(100_000)}`, /nested/],
  ];
  for (const [text, message] of rows)
    t.throws(() => parseNetworkConfig(text, 'test'), { code: 'E_CONFIG', message }, text.slice(0, 60));
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
