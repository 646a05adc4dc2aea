// What a host reads besides its store, flags and subnet.env, makes of bad text in either family: the rows are those of
// test/unit/store/both-families.test.ts.

import { writeFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { chooseExternalInterface, type InterfaceOptions } from '../../../src/kernel/underlay.js';
import {
  type DualRange,
  formatAddresses,
  formatPrefixes,
  lastOf,
  parseCidr,
} from '../../../src/net/prefix.js';
import type { FamilyName } from '../../../src/net/dual.js';
import { parseSubnetFile } from '../../../src/overlay/subnet-file.js';
import {
  BAD_ADDRESSES,
  BAD_SUBNETS,
  FAMILIES,
  GOOD,
  NETWORKS,
  ONE_ADDRESS,
  ONE_SUBNET,
} from '../../support/bad-text.js';
import { cniSandbox } from '../../support/cni-plugin.js';
import { linkOf } from '../../support/links.js';

const KEYS = { v4: 'FLANNEL_', v6: 'FLANNEL_IPV6_' } as const;

/** subnet.env of a network of one family. */
function fileOf(family: FamilyName, subnet: string): string {
  const networks = `${KEYS[family]}NETWORK=${NETWORKS[family]}\n${KEYS[family]}SUBNET=${subnet}\n`;
  return `${networks}FLANNEL_MTU=1430\nFLANNEL_IPMASQ=false\n`;
}

/** The subnet as it is read, or undefined. */
type SubnetReader = (text: string, family: FamilyName) => string | undefined;

function byDaemon(text: string, family: FamilyName): string | undefined {
  const { subnets, warnings } = parseSubnetFile(fileOf(family, text), 'subnet.env');
  if (subnets !== undefined) return formatPrefixes(subnets);
  t.match(warnings, [`subnet.env: ${KEYS[family]}SUBNET is ${JSON.stringify(text)}: expected one IPv`]);
  return undefined;
}

function byPlugin(t: Test): SubnetReader {
  const sandbox = cniSandbox(t);
  return (text, family) => {
    writeFileSync(String(sandbox.config['subnetFile']), fileOf(family, text));
    const { code, answer } = sandbox.run('ADD');
    if (code !== 0) {
      const problem = text === '' ? /is missing/ : new RegExp(`${KEYS[family]}SUBNET is .*: expected`);
      t.match(String(answer?.['msg']), problem);
      return undefined;
    }
    const { ipam } = sandbox.got('ADD') as { ipam: { ranges: [[{ subnet: string }]] } };
    sandbox.run('DEL');
    return ipam.ranges[0][0].subnet;
  };
}

/** Both take the first address for the subnet, as it is written, and leave the rest to who has the network. */
const TAKEN = ['host bits', 'the last host bit', 'everything'];
const READERS: Readonly<
  Record<string, { readonly open: (t: Test) => SubnetReader; readonly taken: string[] }>
> = {
  'the daemon, of its last run': { open: () => byDaemon, taken: [...TAKEN, 'a blank', 'IPv4 as IPv6'] },
  'the CNI plugin': { open: byPlugin, taken: [...TAKEN, 'IPv4 as IPv6'] },
};

for (const [name, { open, taken }] of Object.entries(READERS)) {
  t.test(`subnet.env, read by ${name}`, (t) => {
    const read = open(t);
    for (const family of FAMILIES) {
      const withHost = { v4: '10.5.1.1/24', v6: 'fd00:5:0:1::1/64' }[family];
      for (const text of [GOOD.subnet[family], withHost])
        t.equal(read(text, family), GOOD.subnet[family], text);
      for (const [fault, texts] of Object.entries(BAD_SUBNETS))
        if (!taken.includes(fault) || (family === 'v4' && fault === 'IPv4 as IPv6'))
          t.equal(read(texts[family], family), undefined, `${family}: ${fault}`);
    }
    for (const text of ONE_SUBNET) t.equal(read(text, 'v6'), ONE_SUBNET[0], text);
    t.end();
  });
}

/** Addresses chosen on a host of one interface, or the message of the refusal. */
async function chosen(family: FamilyName, options: Partial<InterfaceOptions>): Promise<string> {
  const links = [linkOf(['172.20.0.1/24', 'fd30::1/64'])];
  const network = parseCidr(NETWORKS[family], family === 'v4' ? 4 : 6)!;
  const leasable = { [family]: { first: network.address, last: lastOf(network) } } as unknown as DualRange;
  const none = { iface: [], ifaceRegex: [], ifaceCanReach: '', publicIp: '', publicIpv6: '' };
  const host = {
    listLinks: () => Promise.resolve(links),
    listRoutes: () => Promise.resolve([]),
    lookupRoute: () => Promise.resolve(undefined),
    findWithoutIpv6: () => Promise.resolve([]),
  };
  try {
    const { publicIp } = await chooseExternalInterface({ ...none, ...options }, leasable, { host });
    return formatAddresses(publicIp);
  } catch (error) {
    t.match(error, { code: 'E_INTERFACE' });
    return (error as Error).message;
  }
}

t.test('--public-ip, --public-ipv6 and --iface', async (t) => {
  const flags = { v4: 'publicIp', v6: 'publicIpv6' } as const;
  for (const family of FAMILIES) {
    const flag = { v4: '--public-ip', v6: '--public-ipv6' }[family];
    const good = GOOD.publicIp[family];
    t.equal(await chosen(family, { [flags[family]]: good }), good);
    t.equal(await chosen(family, { iface: [good] }), good);
    for (const [fault, texts] of Object.entries(BAD_ADDRESSES).filter(([fault]) => fault !== 'nothing')) {
      const text = texts[family];
      const expected = `${flag} is "${text}": expected a unicast IPv${family.slice(1)} address`;
      t.equal(await chosen(family, { [flags[family]]: text }), expected, `${family}: ${fault}`);
      // A name is any text at all.
      const problem = new RegExp(': (?:no such interface|no interface has that address)');
      t.match(await chosen(family, { iface: [text] }), problem, `--iface, ${family}: ${fault}`);
    }
    const inside = { v4: '10.5.7.1', v6: 'fd00:5:0:7::1' }[family];
    t.match(await chosen(family, { [flags[family]]: inside }), 'expected an address that no lease may hold');
  }
  for (const text of ONE_ADDRESS) {
    t.equal(await chosen('v6', { publicIpv6: text }), ONE_ADDRESS[0], text);
    t.equal(await chosen('v6', { iface: [text] }), ONE_ADDRESS[0], text);
  }
});
