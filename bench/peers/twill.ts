// Pairs of twill daemons, as their flags make them.

import { join } from 'node:path';
import { type Host, type Lab, waitFor } from '../../test/support/lab.js';
import { startDaemon, statusOf, tableOf, writeTable } from '../../test/support/twill-hosts.js';
import { betweenHosts, isThere, pair, type PeerKind } from './peer.js';

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

/** TCP goes by the lane once each host has heard the other's: a moment after the first echo. */
async function settleLane(lab: Lab, hosts: readonly Host[]): Promise<string> {
  let mode = 'off';
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
      return { ...betweenHosts(hosts, daemons), settleLane: () => settleLane(lab, hosts) };
    },
  };
}

/** As it comes: the lane as `auto` chooses. */
export const TWILL = twill('twill');

/** The engine alone, as on kernels without tcx. */
export const LANE_OFF = twill('twill --lane=off', { flags: ['--lane=off'] });
export const LANE_SPARSE = twill('twill --lane=sparse', { flags: ['--lane=sparse'] });
export const LANE_ALL = twill('twill --lane=all', { flags: ['--lane=all'] });

/** Neither superpackets nor the lane. */
export const PLAIN = twill('twill --lane=off --offload=off', { flags: ['--lane=off', '--offload=off'] });
