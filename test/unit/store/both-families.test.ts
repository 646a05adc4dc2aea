// What each store, and the config, makes of bad input, in one table of cases for both families.
//
// A row is one fault with its text in either family. Every reader has to refuse it in the family in which it stands,
// and to take the same text where it is good; the judge looks at what a store has read.

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { leasableRange, parseNetworkConfig, prefixesOf } from '../../../src/config/network-config.js';
import { Judge } from '../../../src/lease/judge.js';
import type { Lease } from '../../../src/lease/lease.js';
import { formatLeaseKey, parseLeaseKey, parseLeaseValue } from '../../../src/lease/lease-codec.js';
import type { FamilyName } from '../../../src/net/dual.js';
import { formatAddress, formatAddresses, formatPrefixes } from '../../../src/net/prefix.js';
import { hostOf as annotatedHost, operatorProblem } from '../../../src/store/kube/annotations.js';
import { podSubnets } from '../../../src/store/kube/pod-cidr.js';
import { readTable } from '../../../src/store/static/static-file.js';
import {
  BAD_ADDRESSES,
  BAD_SUBNETS,
  FAMILIES,
  GOOD,
  NETWORKS,
  ONE_ADDRESS,
  ONE_SUBNET,
} from '../../support/bad-text.js';
import { addressesOf, hostOf, prefixesOf as subnetsOf } from '../../support/leases.js';

/** What a reader finds: the canonical text, or undefined when it refuses. */
type Reader = (text: string, family: FamilyName) => string | undefined | Promise<string | undefined>;

const configOf = (family: FamilyName, network: string = NETWORKS[family]): string =>
  JSON.stringify(
    family === 'v4' ? { Network: network } : { EnableIPv4: false, EnableIPv6: true, IPv6Network: network },
  );

const folder = await mkdtemp(join(tmpdir(), 'twill-families-'));
t.teardown(() => rm(folder, { recursive: true }));

/** A lease in words, if the judge of a network of this family takes it. */
function judged(
  family: FamilyName,
  { subnets, host }: Pick<Lease, 'subnets' | 'host'>,
): string[] | undefined {
  const config = parseNetworkConfig(configOf(family), 'test');
  const judge = new Judge({
    networks: prefixesOf(config),
    leasable: leasableRange(config),
    own: subnetsOf('10.5.200.0/24&fd00:5:0:200::/64'),
    ownPublicIp: addressesOf('172.20.0.200&fd30::200'),
  });
  const isFit = judge.judge({ id: 'x', subnets, host, seniority: undefined }) === undefined;
  return isFit ? [formatPrefixes(subnets), formatAddresses(host.publicIp)] : undefined;
}

/** The subnet and the address of a lease that a static file has, if both are good. */
async function inFile(family: FamilyName, subnet: string, publicIp: string): Promise<string[] | undefined> {
  const path = join(folder, 'static.json');
  const fields = family === 'v4' ? ['subnet', 'publicIP'] : ['ipv6Subnet', 'publicIPv6'];
  const lease = { [fields[0]]: subnet, [fields[1]]: publicIp };
  await writeFile(path, `{"config":${configOf(family)},"leases":[${JSON.stringify(lease)}]}`);
  try {
    return judged(family, (await readTable(path)).leases[0]);
  } catch (error) {
    t.match(error, { code: 'E_CONFIG' });
    return undefined;
  }
}

const SUBNET_READERS: Readonly<Record<string, Reader>> = {
  'key in etcd': (text, family) => {
    const key = text.replace('/', '-');
    const subnets = parseLeaseKey(family === 'v4' ? key : `0.0.0.0-0&${key}`);
    return subnets.ok ? formatLeaseKey(subnets.value).replace('0.0.0.0-0&', '').replace('-', '/') : undefined;
  },
  podCIDR: (text, family) => {
    const subnets = podSubnets([text], [family]);
    if (!subnets.ok || subnets.value === undefined) return undefined;
    return judged(family, { subnets: subnets.value, host: hostOf({ publicIp: GOOD.publicIp[family] }) })?.[0];
  },
  'static file': async (text, family) => (await inFile(family, text, GOOD.publicIp[family]))?.[0],
};

const ADDRESS_READERS: Readonly<Record<string, Reader>> = {
  'value in etcd': (text, family) => {
    const value =
      family === 'v4' ? { PublicIP: text, PublicIPv6: null } : { PublicIP: '0.0.0.0', PublicIPv6: text };
    const host = parseLeaseValue(JSON.stringify(value));
    return host.ok ? formatAddresses(host.value.publicIp) : undefined;
  },
  annotation: (text, family) => {
    const name = family === 'v4' ? 'public-ip' : 'public-ipv6';
    const host = annotatedHost({ 'backend-type': '', [name]: text }, [family]);
    return host.ok ? formatAddresses(host.value.publicIp) : undefined;
  },
  'annotation of an operator': (text, family) => {
    const name = family === 'v4' ? 'public-ip-overwrite' : 'public-ipv6-overwrite';
    return operatorProblem({ [name]: text }, [family]) === undefined
      ? formatAddresses(addressesOf(text))
      : undefined;
  },
  'static file': async (text, family) => (await inFile(family, GOOD.subnet[family], text))?.[1],
};

for (const [readers, good, bad, forms] of [
  [SUBNET_READERS, GOOD.subnet, BAD_SUBNETS, ONE_SUBNET],
  [ADDRESS_READERS, GOOD.publicIp, BAD_ADDRESSES, ONE_ADDRESS],
] as const) {
  for (const [name, read] of Object.entries(readers)) {
    t.test(`${name}: ${good.v6} and whatever is none`, async (t) => {
      for (const family of FAMILIES) {
        t.equal(await read(good[family], family), good[family], `${family}: good`);
        for (const [fault, texts] of Object.entries(bad))
          t.equal(await read(texts[family], family), undefined, `${family}: ${fault}`);
      }
      // What flannel wrote into a key has no upper case, and no dots.
      const read6 = forms.filter((text) => name !== 'key in etcd' || text === text.toLowerCase());
      for (const text of read6) t.equal(await read(text, 'v6'), forms[0], text);
    });
  }
}

t.test('a Network may have host bits, and nothing else of it', (t) => {
  const networkOf = (text: string, family: FamilyName): string => {
    try {
      return formatPrefixes(prefixesOf(parseNetworkConfig(configOf(family, text), 'test')));
    } catch (error) {
      t.match(error, { code: 'E_CONFIG', message: /Network is ".*": expected/ });
      return 'none';
    }
  };
  const bits = ['host bits', 'the last host bit'];
  for (const family of FAMILIES)
    for (const [fault, texts] of Object.entries(BAD_SUBNETS).filter(([fault]) => !bits.includes(fault)))
      t.equal(networkOf(texts[family], family), 'none', `${family}: ${fault}`);
  t.equal(networkOf('10.5.1.7/16', 'v4'), NETWORKS.v4);
  for (const text of ['fd00:5::7/48', 'FD00:5::/48', 'fd00:0005:0:0:0:0:0:0/48'])
    t.equal(networkOf(text, 'v6'), NETWORKS.v6, text);
  t.end();
});

t.test('SubnetMin and SubnetMax are addresses of the Network, and none is all zeros', (t) => {
  const firstOf = (key: string, text: string, family: FamilyName): string => {
    const keys = family === 'v4' ? '' : 'IPv6';
    const config = { ...(JSON.parse(configOf(family)) as object), [`${keys}${key}`]: text };
    try {
      return formatAddress(leasableRange(parseNetworkConfig(JSON.stringify(config), 'test'))[family]!.first);
    } catch (error) {
      t.match(error, { code: 'E_CONFIG', message: new RegExp(`${keys}${key} is ".*": expected`) });
      return 'none';
    }
  };
  for (const family of FAMILIES) {
    const first = { v4: '10.5.1.0', v6: 'fd00:5:0:1::' }[family];
    for (const [fault, texts] of Object.entries(BAD_ADDRESSES))
      for (const key of ['SubnetMin', 'SubnetMax'])
        t.equal(
          firstOf(key, texts[family], family),
          fault === 'nobody' ? first : 'none',
          `${family}: ${fault}`,
        );
  }
  t.equal(firstOf('SubnetMin', '10.5.3.0', 'v4'), '10.5.3.0');
  for (const text of ['fd00:5:0:3::', 'FD00:5:0:3::', 'fd00:0005:0:3:0:0:0:0'])
    t.equal(firstOf('SubnetMin', text, 'v6'), 'fd00:5:0:3::', text);
  t.end();
});

// --- leases of both families in a static file ---------------------------------------------------

const BOTH = '{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:5::/48"}';

/** The leases of a dual-stack file in words, or what is wrong with it. */
async function leasesOf(leases: readonly unknown[], of = BOTH): Promise<string[] | string> {
  const path = join(folder, 'dual.json');
  await writeFile(path, `{"config":${of},"leases":${JSON.stringify(leases)}}`);
  try {
    const table = await readTable(path);
    return table.leases.map(
      ({ id, subnets, host }) => `${id}: ${formatPrefixes(subnets)} of ${formatAddresses(host.publicIp)}`,
    );
  } catch (error) {
    return (error as Error).message.replace(`${path}: `, '');
  }
}

t.test('readTable() takes leases of both families, and of one', async (t) => {
  const both = {
    subnet: '10.5.1.0/24',
    ipv6Subnet: 'FD00:5:0:1:0::/64',
    publicIP: '172.20.0.1',
    publicIPv6: 'FD30::1',
  };
  const v4 = { subnet: '10.5.2.0/24', publicIP: '172.20.0.2' };
  const v6 = { ipv6subnet: 'fd00:5:0:3::/64', PublicIPv6: 'fd30::3' };
  const crossed = { ipv6Subnet: 'fd00:5:0:4::/64', publicIP: '172.20.0.4' };
  t.strictSame(await leasesOf([both, v4, v6, crossed]), [
    '10.5.1.0/24: 10.5.1.0/24 and fd00:5:0:1::/64 of 172.20.0.1 and fd30::1',
    '10.5.2.0/24: 10.5.2.0/24 of 172.20.0.2',
    'fd00:5:0:3::/64: fd00:5:0:3::/64 of fd30::3',
    'fd00:5:0:4::/64: fd00:5:0:4::/64 of 172.20.0.4',
  ]);
  const odd = { ...both, ipv6Subnet: 7, publicIPv6: 'x', backendV6Data: 'y' };
  t.strictSame(await leasesOf([odd], configOf('v4')), ['10.5.1.0/24: 10.5.1.0/24 of 172.20.0.1']);
  t.strictSame(await leasesOf([{ ...both, subnet: null, publicIP: 'x' }], configOf('v6')), [
    'fd00:5:0:1::/64: fd00:5:0:1::/64 of fd30::1',
  ]);
});

t.test('readTable() names what is wrong with a lease of both families', async (t) => {
  const v4 = { subnet: '10.5.1.0/24', publicIP: '172.20.0.1' };
  const v6 = { ipv6Subnet: 'fd00:5:0:1::/64', publicIPv6: 'fd30::1' };
  const rows: [leases: unknown[], message: string][] = [
    [[{}], 'leases[0]: subnet and ipv6Subnet are missing: expected one of them'],
    [[null], 'leases[0]: subnet and ipv6Subnet are missing: expected one of them'],
    [
      [{ ...v4, publicIP: undefined }],
      'leases[0]: publicIP and publicIPv6 are missing: expected one of them',
    ],
    [[v4, { ...v6, ipv6Subnet: null }], 'leases[1].ipv6Subnet is null: expected a string'],
    [
      [{ ...v4, ipv6Subnet: '10.5.1.0/24' }],
      'leases[0].ipv6Subnet is "10.5.1.0/24": expected a network such as fd00:5:0:1::/64',
    ],
    [
      [{ ...v6, subnet: 'fd00:5:0:2::/64' }],
      'leases[0].subnet is "fd00:5:0:2::/64": expected a network such as 10.5.1.0/24',
    ],
    [
      [{ ...v4, publicIPv6: 'fd30::1%eth0' }],
      'leases[0].publicIPv6 is "fd30::1%eth0": expected an IPv6 address',
    ],
    [
      [{ ...v4, ipv6Subnet: 'fd00:6::/64' }],
      'leases[0].ipv6Subnet fd00:6::/64 is not inside the IPv6Network fd00:5::/48',
    ],
    [
      [{ ...v4, ipv6Subnet: 'fd00:5::/48' }],
      'leases[0].ipv6Subnet fd00:5::/48 is not inside the IPv6Network fd00:5::/48',
    ],
    [
      [v6, { ...v6, ipv6Subnet: 'FD00:5:0:1::/64' }],
      'leases: subnets fd00:5:0:1::/64 and fd00:5:0:1::/64 overlap',
    ],
    [
      [v4, v6, { ...v4, subnet: '10.5.2.0/24', ipv6Subnet: 'fd00:5::/63' }],
      'leases: subnets fd00:5::/63 and fd00:5:0:1::/64 overlap',
    ],
    [
      [
        { ...v6, ...v4 },
        { ...v4, ipv6Subnet: 'fd00:5:0:2::/64' },
      ],
      'leases: subnets 10.5.1.0/24 and 10.5.1.0/24 overlap',
    ],
  ];
  for (const [leases, message] of rows) t.equal(await leasesOf(leases), message);
});
