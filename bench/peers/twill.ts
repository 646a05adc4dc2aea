// Pairs of twill daemons, as their flags make them.

import { join } from 'node:path';
import { addIpv6, IPV6_NETWORK } from '../../test/support/ipv6-host.js';
import { type Host, type Lab, waitFor } from '../../test/support/lab.js';
import {
  countIn,
  metricsOf,
  startDaemon,
  statusOf,
  tableOf,
  writeTable,
} from '../../test/support/twill-hosts.js';
import { betweenHosts, type Carried, isThere, pair, type Peer, type PeerKind, setInnerMtu } from './peer.js';

export interface TwillOptions {
  readonly flags?: readonly string[];
  readonly mtuBytes?: number;
  /** Leases in the table, the two hosts' own included. @default 2 */
  readonly leases?: number;
}

/** Leases of hosts that are not there, beside those of `hosts`: the last addresses of 10.0.0.0/8 first. */
function tableWith(hosts: readonly Host[], leases: number): ReturnType<typeof tableOf> {
  const table = tableOf(hosts);
  const taken = new Set(hosts.map((host) => host.subnet));
  const others = [];
  for (let i = 65_535; others.length < leases - hosts.length && i >= 0; i--) {
    const subnet = `10.${i >> 8}.${i & 255}.0/24`;
    if (!taken.has(subnet))
      others.push({ subnet, publicIP: `100.${64 + (i >> 14)}.${(i >> 6) & 255}.${(i & 63) + 1}` });
  }
  return {
    config: { ...table.config, Network: '10.0.0.0/8' },
    leases: [...table.leases, ...others],
  };
}

/** What the hosts have sent to each other, by their own counters. */
async function carriedBy(lab: Lab, hosts: readonly Host[]): Promise<Carried> {
  let [all, byLane] = [0, 0];
  for (const host of hosts) {
    const metrics = await metricsOf(lab, host);
    const read = (name: string): number => countIn(metrics, `${name}{direction="outbound"}`) || 0;
    all += read('dataplane_packets_out_total');
    byLane += read('lane_packets_total');
  }
  return { all, byLane };
}

/** What a lab asks of a pair of daemons about its lane. */
export function laneOf(lab: Lab, hosts: readonly Host[]): Pick<Peer, 'settleLane' | 'carried'> {
  return { settleLane: () => settleLane(lab, hosts), carried: () => carriedBy(lab, hosts) };
}

/** Enough that the hosts count as ones with traffic, which hear each other's lane every few seconds. */
const PINGS = ['-c', '10', '-i', '0.05'];

/** TCP goes by the lane once each host has heard the other's: among thousands, a moment after the first packets. */
async function settleLane(lab: Lab, hosts: readonly Host[]): Promise<string> {
  let mode = 'off';
  await lab.run(hosts[0].containerNs, 'ping', ['-q', ...PINGS, hosts[1].containerIp]);
  for (const host of hosts) {
    await waitFor(async () => {
      const { backend, peers } = await statusOf(lab, host);
      mode = backend.lane.mode;
      return mode === 'off' || peers.some(({ lane }) => lane === true);
    }, 'the lane of the other host to be heard');
  }
  return mode;
}

/** twill with the static store, as `name`. */
export function twill(name: string, options: TwillOptions = {}): PeerKind {
  return {
    name,
    missing: isThere,
    start: async (place) => {
      const { lab } = place;
      const hosts = pair(place, options.mtuBytes);
      const file = join(hosts[0].dir, 'static.json');
      writeTable(file, options.leases === undefined ? tableOf(hosts) : tableWith(hosts, options.leases));
      const daemons = [];
      for (const host of hosts) daemons.push(await startDaemon(lab, host, file, options.flags));
      return { ...betweenHosts(hosts, daemons), ...laneOf(lab, hosts) };
    },
  };
}

/** The bytes of an IPv6 and a UDP header. */
const OUTER_BYTES = 48;

/** twill in a network of IPv6 alone, and over IPv6. */
export function twillIpv6(name: string, flags: readonly string[]): PeerKind {
  return {
    name,
    missing: isThere,
    start: async (place) => {
      const { lab } = place;
      const hosts = pair(place);
      const addresses = hosts.map((host) => addIpv6(lab, host));
      for (const host of hosts) setInnerMtu(lab, host, 1500 - OUTER_BYTES);
      const file = join(hosts[0].dir, 'static.json');
      writeTable(file, {
        config: { ...IPV6_NETWORK, Backend: { Type: 'udp' } },
        leases: addresses.map(({ subnet, underlayIp }) => ({ ipv6Subnet: subnet, publicIPv6: underlayIp })),
      });
      const daemons = [];
      for (const host of hosts) daemons.push(await startDaemon(lab, host, file, flags));
      const ends = hosts.map(({ containerNs }, i) => ({ ns: containerNs, ip: addresses[i].containerIp }));
      return { hosts, daemons, ends: [ends[0], ends[1]] };
    },
  };
}

/** What most users have, and what kernels without tcx give them. */
export const LANE_FLAGS = ['--lane=auto', '--lane=off'] as const;

/** The name of a peer with the flag: the lane off is said. */
export const named = (name: string, lane: (typeof LANE_FLAGS)[number]): string =>
  lane === '--lane=off' ? `${name}, lane off` : name;

/** The lane as `auto` chooses. */
export const TWILL = twill('twill', { flags: ['--lane=auto'] });

/** The engine alone, as on kernels without tcx. */
export const LANE_OFF = twill('twill --lane=off', { flags: ['--lane=off'] });
export const LANE_SPARSE = twill('twill --lane=sparse', { flags: ['--lane=sparse'] });
export const LANE_ALL = twill('twill --lane=all', { flags: ['--lane=all'] });

/** Neither superpackets nor the lane. */
export const PLAIN = twill('twill --lane=off --offload=off', { flags: ['--lane=off', '--offload=off'] });
