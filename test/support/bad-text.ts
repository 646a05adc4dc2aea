// What is no subnet and no address of a host, in either family: one table for all that reads such text.

import type { FamilyName } from '../../src/net/dual.js';

export type Texts = Readonly<Record<FamilyName, string>>;

export const FAMILIES: readonly FamilyName[] = ['v4', 'v6'];
export const GOOD = {
  subnet: { v4: '10.5.1.0/24', v6: 'fd00:5:0:1::/64' },
  publicIp: { v4: '172.20.0.1', v6: 'fd30::1' },
} as const satisfies Record<string, Texts>;
export const NETWORKS = { v4: '10.5.0.0/16', v6: 'fd00:5::/48' } as const satisfies Texts;

export const BAD_SUBNETS: Readonly<Record<string, Texts>> = {
  'host bits': { v4: '10.5.1.7/24', v6: 'fd00:5:0:1::7/64' },
  'the last host bit': { v4: '10.5.1.1/31', v6: 'fd00:5:0:1::1/127' },
  'a length that no address has': { v4: '10.5.1.0/33', v6: 'fd00:5:0:1::/129' },
  'a length of three digits and more': { v4: '10.5.1.0/240', v6: 'fd00:5:0:1::/640' },
  'a negative length': { v4: '10.5.1.0/-24', v6: 'fd00:5:0:1::/-64' },
  'a broken length': { v4: '10.5.1.0/24.0', v6: 'fd00:5:0:1::/6e1' },
  'no length': { v4: '10.5.1.0', v6: 'fd00:5:0:1::' },
  'an empty length': { v4: '10.5.1.0/', v6: 'fd00:5:0:1::/' },
  everything: { v4: '0.0.0.0/0', v6: '::/0' },
  'text of the other family': { v4: 'fd00:5:0:1::/64', v6: '10.5.1.0/24' },
  'IPv4 as IPv6': { v4: '::ffff:10.5.1.0/24', v6: '::ffff:10.5.1.0/120' },
  'a zone': { v4: '10.5.1.0%eth0/24', v6: 'fd00:5:0:1::%eth0/64' },
  'a blank': { v4: ' 10.5.1.0/24', v6: 'fd00:5:0:1::/64 ' },
  'a mask': { v4: '10.5.1.0/255.255.255.0', v6: 'fd00:5:0:1::/ffff::' },
  'a group too much': { v4: '10.5.1.0.0/24', v6: 'fd00:5:0:1:0:0:0:0:0/64' },
  'a group too few': { v4: '10.5.1/24', v6: 'fd00:5:0:1:0:0:0/64' },
  'a group too large': { v4: '10.5.256.0/24', v6: 'fd00:5:0:10001::/64' },
  'no digits at all': { v4: 'x', v6: ':/64' },
  'two gaps': { v4: '10..1.0/24', v6: 'fd00::5::/64' },
  nothing: { v4: '', v6: '' },
  'more text than any has': { v4: '1'.repeat(100_000), v6: `${'0:'.repeat(50_000)}:/64` },
};

export const BAD_ADDRESSES: Readonly<Record<string, Texts>> = {
  'text of the other family': { v4: 'fd30::1', v6: '172.20.0.1' },
  'a zone': { v4: '172.20.0.1%eth0', v6: 'fd30::1%eth0' },
  'a prefix': { v4: '172.20.0.1/24', v6: 'fd30::1/64' },
  'a port': { v4: '172.20.0.1:8285', v6: '[fd30::1]:8285' },
  brackets: { v4: '[172.20.0.1]', v6: '[fd30::1]' },
  'a name': { v4: 'host', v6: 'host' },
  'a leading zero too much': { v4: '172.20.0.01', v6: 'fd30::00001' },
  'a blank': { v4: '172.20.0.1 ', v6: ' fd30::1' },
  'a group too few': { v4: '172.20.1', v6: 'fd30:0:0:0:0:0:1' },
  'a gap that stands for nothing': { v4: '172.20.0.1.', v6: 'fd30:1:2:3:4:5:6:7::' },
  nothing: { v4: '', v6: '' },
  nobody: { v4: '0.0.0.0', v6: '::' },
  loopback: { v4: '127.0.0.1', v6: '::1' },
  multicast: { v4: '224.0.0.1', v6: 'ff02::1' },
  'broadcast, or of a link': { v4: '255.255.255.255', v6: 'fe80::1' },
  'no address of a host': { v4: '240.0.0.1', v6: '::ffff:172.20.0.1' },
};

/** One prefix or address each: the first is how it is written. Of IPv4 there is one form only. */
export const ONE_SUBNET = [
  'fd00:5:0:1::/64',
  'FD00:5:0:1::/64',
  'fd00:0005:0:1:0:0:0:0/64',
  'fd00:5::1:0:0:0:0/64',
];
export const ONE_ADDRESS = ['fd30::1', 'FD30::1', 'fd30:0:0:0:0:0:0:1', 'fd30::0:0001', 'fd30::0.0.0.1'];
