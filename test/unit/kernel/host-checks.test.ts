import t from 'tap';
import { checkHost, type HostState } from '../../../src/kernel/host-checks.js';
import { parsePrefix } from '../../../src/net/prefix.js';
import { prefixesOf } from '../../support/leases.js';

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
      { device: 'flannel0', ownSubnets: { v4: parsePrefix('10.5.1.0/24')! }, usesIptables },
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
    const options = { device: 'flannel0', ownSubnets: prefixesOf(subnets), usesIptables: true };
    t.strictSame(
      checkHost(options, host(files)).map(({ text }) => text),
      expected,
      name,
    );
  }
  t.end();
});
