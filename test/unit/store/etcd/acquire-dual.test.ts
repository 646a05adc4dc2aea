// Getting a lease in networks of IPv6 and of both families.

import t from 'tap';
import { parseNetworkConfig } from '../../../../src/config/network-config.js';
import { formatLeaseValue, parseLeaseKey } from '../../../../src/lease/lease-codec.js';
import { acquireLease } from '../../../../src/store/etcd/acquire.js';
import { acquireContext, FakeKv } from '../../../support/etcd-fakes.js';
import { hostOf } from '../../../support/leases.js';

const SUBNETS = '/net/subnets/';
const IPV4 = '"Network":"10.5.0.0/22"';
const IPV6 = '"EnableIPv6":true,"IPv6Network":"fd00:5::/62"';
const CONFIGS = { v4: `{${IPV4}}`, v6: `{"EnableIPv4":false,${IPV6}}`, dual: `{${IPV4},${IPV6}}` };
const OWN_IP = { v4: '172.20.0.1', v6: '2001:db8::1', dual: '172.20.0.1&2001:db8::1' };

interface Case {
  readonly name: string;
  readonly kind: keyof typeof CONFIGS;
  /** Keys with the public IPs of their hosts. */
  readonly stored: readonly (readonly [key: string, publicIp: string])[];
  /** As keys have it. */
  readonly previous?: string;
  /** Keys with what they hold afterwards. */
  readonly expected: readonly (readonly [key: string, publicIp: string])[];
}

const OTHER = '172.20.0.2&2001:db8::2';
const CASES: readonly Case[] = [
  {
    name: 'the first subnet of each family',
    kind: 'dual',
    stored: [],
    expected: [['10.5.1.0-24&fd00:5:0:1::-64', OWN_IP.dual]],
  },
  { name: 'IPv6 alone', kind: 'v6', stored: [], expected: [['0.0.0.0-0&fd00:5:0:1::-64', OWN_IP.v6]] },
  {
    name: 'each family by itself',
    kind: 'dual',
    stored: [
      ['10.5.1.0-24&fd00:5:0:2::-64', OTHER],
      ['0.0.0.0-0&fd00:5:0:1::-64', '2001:db8::3'],
    ],
    expected: [
      ['0.0.0.0-0&fd00:5:0:1::-64', '2001:db8::3'],
      ['10.5.1.0-24&fd00:5:0:2::-64', OTHER],
      ['10.5.2.0-24&fd00:5:0:3::-64', OWN_IP.dual],
    ],
  },
  {
    name: 'the own one is found by its IPv4 address',
    kind: 'dual',
    stored: [['10.5.3.0-24&fd00:5:0:3::-64', '172.20.0.1&2001:db8::9']],
    expected: [['10.5.3.0-24&fd00:5:0:3::-64', OWN_IP.dual]],
  },
  {
    name: 'of IPv6 alone by its IPv6 address, not by the 0.0.0.0 that all have',
    kind: 'v6',
    stored: [
      ['0.0.0.0-0&fd00:5:0:1::-64', '2001:db8::2'],
      ['0.0.0.0-0&fd00:5:0:2::-64', OWN_IP.v6],
    ],
    expected: [
      ['0.0.0.0-0&fd00:5:0:1::-64', '2001:db8::2'],
      ['0.0.0.0-0&fd00:5:0:2::-64', OWN_IP.v6],
    ],
  },
  {
    name: 'under a key in a longer form it stays',
    kind: 'v6',
    stored: [['0.0.0.0-0&fd00:5:0:2:0:0:0:0-64', OWN_IP.v6]],
    expected: [['0.0.0.0-0&fd00:5:0:2:0:0:0:0-64', OWN_IP.v6]],
  },
  {
    name: 'a network that got IPv6 keeps the IPv4 subnet of subnet.env',
    kind: 'dual',
    stored: [['10.5.3.0-24', OWN_IP.v4]],
    previous: '10.5.3.0-24',
    expected: [['10.5.3.0-24&fd00:5:0:1::-64', OWN_IP.dual]],
  },
  {
    name: 'a network that lost IPv6 as well',
    kind: 'v4',
    stored: [['10.5.3.0-24&fd00:5:0:3::-64', OWN_IP.dual]],
    previous: '10.5.3.0-24&fd00:5:0:3::-64',
    expected: [['10.5.3.0-24', OWN_IP.v4]],
  },
  {
    name: 'one of two previous subnets is taken',
    kind: 'dual',
    stored: [['10.5.3.0-24&fd00:5:0:1::-64', OTHER]],
    previous: '10.5.3.0-24&fd00:5:0:3::-64',
    expected: [
      ['10.5.1.0-24&fd00:5:0:3::-64', OWN_IP.dual],
      ['10.5.3.0-24&fd00:5:0:1::-64', OTHER],
    ],
  },
  {
    name: 'upper case and host bits keep a range from others',
    kind: 'v6',
    stored: [
      ['0.0.0.0-0&FD00:5:0:1::-64', '2001:db8::2'],
      ['0.0.0.0-0&fd00:5:0:2::7-64', '2001:db8::3'],
    ],
    expected: [
      ['0.0.0.0-0&FD00:5:0:1::-64', '2001:db8::2'],
      ['0.0.0.0-0&fd00:5:0:2::7-64', '2001:db8::3'],
      ['0.0.0.0-0&fd00:5:0:3::-64', OWN_IP.v6],
    ],
  },
];

async function acquire(kv: FakeKv, { kind, previous }: Pick<Case, 'kind' | 'previous'>): Promise<void> {
  const parsed = previous === undefined ? undefined : parseLeaseKey(previous);
  const request = {
    config: parseNetworkConfig(CONFIGS[kind], 'test'),
    host: hostOf({ publicIp: OWN_IP[kind] }),
    previousSubnets: parsed?.ok === true ? parsed.value : undefined,
  };
  await acquireLease(acquireContext(kv), request, new AbortController().signal);
}

t.test('acquireLease() in networks of IPv6 and of both families', async (t) => {
  for (const { name, stored, expected, ...asked } of CASES) {
    const kv = new FakeKv();
    for (const [key, publicIp] of stored) kv.put(SUBNETS + key, formatLeaseValue(hostOf({ publicIp })), 7n);
    await acquire(kv, asked);
    const found = [...kv.entries.values()]
      .map(({ key, value }) => [key.slice(SUBNETS.length), value])
      .sort(([a], [b]) => (a! < b! ? -1 : 1));
    const wanted = expected.map(([key, publicIp]) => [key, formatLeaseValue(hostOf({ publicIp }))]);
    t.strictSame(found, wanted, name);
  }
});

t.test('acquireLease() names the family that has no subnet left', async (t) => {
  const kv = new FakeKv();
  kv.put(`${SUBNETS}0.0.0.0-0&fd00:5::-63`, formatLeaseValue(hostOf({ publicIp: '2001:db8::2' })), 7n);
  kv.put(`${SUBNETS}0.0.0.0-0&fd00:5:0:2::-63`, formatLeaseValue(hostOf({ publicIp: '2001:db8::3' })), 8n);
  await t.rejects(acquire(kv, { kind: 'dual' }), {
    code: 'E_LEASE',
    message:
      'Cannot acquire a subnet in fd00:5::/62: out of subnets ' +
      '(3 of /64 from fd00:5:0:1:: to fd00:5:0:3::, 2 leases in use)',
  });
});
