import t from 'tap';
import { checkHost, type HostState } from '../../../src/kernel/host-checks.js';
import { parsePrefix } from '../../../src/net/prefix.js';
import { addressesOf, prefixesOf } from '../../support/leases.js';

const FORWARD = '/proc/sys/net/ipv4/ip_forward';
const DEVICE = '/proc/sys/net/ipv4/conf/flannel0/forwarding';
const BRIDGE = '/proc/sys/net/bridge/bridge-nf-call-iptables';

function host(files: Record<string, string>, bridge = 'cni0'): HostState {
  const address = { address: '10.5.1.1', netmask: '', family: 'IPv4', mac: '', internal: false, cidr: null };
  return {
    read: (path) => files[path],
    addresses: () => ({ cni0: [address as never], eth0: [{ ...address, address: '172.20.0.1' } as never] }),
    isBridge: (name) => name === bridge,
  };
}

t.test('checkHost() says what of the host stops packets, and nothing else', (t) => {
  const good = { [FORWARD]: '1', [DEVICE]: '1', [BRIDGE]: '1' };
  const missing = { [FORWARD]: '1', [DEVICE]: '1' };
  const cases: [string, HostState, boolean, string[]][] = [
    ['all is well', host(good), true, []],
    ['a kernel that shows nothing', host({ [BRIDGE]: '1' }), true, []],
    ['ip_forward', host({ ...good, [FORWARD]: '0' }), true, ['forwarding-off net.ipv4.ip_forward']],
    [
      'of our device alone',
      host({ ...good, [DEVICE]: '0' }),
      true,
      ['forwarding-off net.ipv4.conf.flannel0.forwarding'],
    ],
    [
      'bridged packets miss iptables',
      host({ ...good, [BRIDGE]: '0' }),
      true,
      ['bridge-filter-off net.bridge'],
    ],
    ['no module', host(missing), true, ['bridge-filter-off br_netfilter is not loaded']],
    ['nft needs no module', host(missing), false, []],
    ['no bridge of pods', host(missing, 'other'), true, []],
  ];
  for (const [name, state, usesIptables, expected] of cases) {
    const found = checkHost(
      {
        device: 'flannel0',
        ownSubnets: { v4: parsePrefix('10.5.1.0/24')! },
        uplink: { name: 'eth0', address: undefined },
        usesIptables,
      },
      state,
    );
    const starts = found.map(({ code, text }, i) => `${code} ${text}`.slice(0, expected[i]?.length));
    t.strictSame(starts, expected, name);
  }
  t.end();
});

t.test('checkHost() looks at the families that the host has subnets of', (t) => {
  const ipv6 = '/proc/sys/net/ipv6/conf';
  const bridges = '/proc/sys/net/bridge/bridge-nf-call-ip6tables';
  const good = {
    [FORWARD]: '1',
    [DEVICE]: '1',
    [BRIDGE]: '1',
    [`${ipv6}/all/forwarding`]: '1',
    [bridges]: '1',
  };
  const rows: [string, string, Record<string, string>, string[]][] = [
    ['IPv4 alone', '10.5.1.0/24', { ...good, [`${ipv6}/all/forwarding`]: '0' }, []],
    [
      'IPv6 alone',
      'fd00:5:0:1::/64',
      { ...good, [FORWARD]: '0', [`${ipv6}/all/forwarding`]: '0' },
      ['net.ipv6.conf.all.forwarding is 0: packets are not forwarded'],
    ],
    [
      'both',
      '10.5.1.0/24&fd00:5:0:1::/64',
      { ...good, [FORWARD]: '0', [`${ipv6}/all/forwarding`]: '0' },
      ['net.ipv4.ip_forward and net.ipv6.conf.all.forwarding are 0: packets are not forwarded'],
    ],
    [
      'our device',
      'fd00:5:0:1::/64',
      { ...good, [`${ipv6}/flannel0/forwarding`]: '0' },
      ['net.ipv6.conf.flannel0.forwarding is 0: packets are not forwarded'],
    ],
    [
      'a device without IPv6',
      '10.5.1.0/24&fd00:5:0:1::/64',
      { ...good, [`${ipv6}/flannel0/forwarding`]: '0', [`${ipv6}/flannel0/disable_ipv6`]: '1' },
      [],
    ],
    [
      'bridged packets miss ip6tables',
      '10.5.1.0/24&fd00:5:0:1::/64',
      { ...good, [bridges]: '0' },
      ['net.bridge.bridge-nf-call-ip6tables is 0, and pods of this host share the bridge cni0'],
    ],
  ];
  for (const [name, subnets, files, expected] of rows) {
    const uplink = { name: 'eth0', address: undefined };
    const options = { device: 'flannel0', ownSubnets: prefixesOf(subnets), uplink, usesIptables: true };
    t.strictSame(
      checkHost(options, host(files)).map(({ text }) => text),
      expected,
      name,
    );
  }
  t.end();
});

t.test('checkHost() says when no router renews the address of the uplink', (t) => {
  const conf = '/proc/sys/net/ipv6/conf/eth0.7';
  const ADDRESSES = '/proc/net/if_inet6';
  const line = (flags: string): string =>
    'fe800000000000000000000000000001 02 40 20 80   eth0.7\n' +
    `fd000099000000000000000000000001 02 40 00 ${flags}   eth0.7`;
  const expiring = { [`${conf}/accept_ra`]: '1', [`${conf}/forwarding`]: '1', [ADDRESSES]: line('00') };
  const said = [
    'accept-ra-off net.ipv6.conf.eth0/7.accept_ra is 1, and the host forwards: no router renews fd00:99::1',
  ];
  const rows: [string, Record<string, string>, string | undefined, string[]][] = [
    ['it will expire', expiring, 'fd00:99::1', said],
    ['no IPv6 address in use', expiring, undefined, []],
    ['accept_ra is 2', { ...expiring, [`${conf}/accept_ra`]: '2' }, 'fd00:99::1', []],
    ['somebody else renews it', { ...expiring, [`${conf}/accept_ra`]: '0' }, 'fd00:99::1', []],
    ['it does not forward', { ...expiring, [`${conf}/forwarding`]: '0' }, 'fd00:99::1', []],
    ['for ever', { ...expiring, [ADDRESSES]: line('80') }, 'fd00:99::1', []],
    ['another address', expiring, 'fd00:99::2', []],
    ['a kernel that shows no addresses', { ...expiring, [ADDRESSES]: '' }, 'fd00:99::1', []],
  ];
  for (const [name, files, address, expected] of rows) {
    const uplink = {
      name: 'eth0.7',
      address: address === undefined ? undefined : addressesOf(address).v6,
    };
    const options = {
      device: undefined,
      ownSubnets: prefixesOf('fd00:5:0:1::/64'),
      uplink,
      usesIptables: false,
    };
    const found = checkHost(options, host(files)).map(({ code, text }) => `${code} ${text}`);
    t.strictSame(found, expected, name);
  }
  t.end();
});
