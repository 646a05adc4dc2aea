// A host that datagrams of every kind are sent to, with leases of two peers, and a stranger that sends them.
//
//   victim 172.20.0.1, fd00:aa::1 ── switch ── stranger 172.20.0.9, fd00:aa::9, and the addresses of peer 2 as well

import { join } from 'node:path';
import type { Test } from 'tap';
import type { FamilyName } from '../../src/net/dual.js';
import { type Host, Lab, waitFor } from './lab.js';
import { startDaemon, type StaticTable, statusOf, tableOf, uncountedOf, writeTable } from './twill-hosts.js';

export const STRANGER = '172.20.0.9';
export const PEER = '172.20.0.2';
export const VICTIM = '172.20.0.1';

export interface Scene {
  readonly lab: Lab;
  readonly victim: Host;
  readonly strangerNs: string;
  readonly staticFile: string;
  readonly log: () => string;
}

/** A victim with leases of two peers, and a stranger that also has peer 2's address. */
export async function openScene(
  t: Test,
  name: string,
  extra: readonly string[],
  change?: (table: StaticTable) => StaticTable,
): Promise<Scene> {
  const lab = Lab.open(name);
  t.teardown(() => lab.close());
  const victim = lab.addHost(1);
  const strangerNs = lab.addNamespace('s');
  lab.ip(lab.switchNs, `link add ps type veth peer name eth0 netns ${strangerNs}`);
  lab.ip(lab.switchNs, 'link set ps master br0 up');
  lab.ip(strangerNs, 'link set eth0 up');
  for (const address of [STRANGER, PEER]) lab.ip(strangerNs, `address add ${address}/24 dev eth0`);
  for (const host of [9, 2]) lab.ip(strangerNs, `address add fd00:aa::${host}/64 dev eth0 nodad`);
  lab.ip(victim.ns, 'address add fd00:aa::1/64 dev eth0 nodad');
  const staticFile = join(lab.dir, 'static.json');
  const table = tableOf([victim]);
  const leases = [
    ...table.leases,
    { subnet: '10.5.2.0/24', publicIP: PEER },
    { subnet: '10.5.3.0/24', publicIP: '172.20.0.3' },
  ];
  writeTable(staticFile, (change ?? ((same) => same))({ ...table, leases }));
  const daemon = await startDaemon(lab, victim, staticFile, ['--path-probes=false', ...extra]);
  return { lab, victim, strangerNs, staticFile, log: () => daemon.log() };
}

/** A table of both families, whose peers have one way: over IPv6 they publish no address of IPv4. */
export function dualTable(table: StaticTable, outer: FamilyName): StaticTable {
  const leases = table.leases.map(({ subnet, publicIP }) => {
    const host = subnet.split('.')[2];
    const isOwn = publicIP === VICTIM;
    return {
      ...{ subnet, ipv6Subnet: `fd00:5:0:${host}::/64`, publicIPv6: `fd00:aa::${host}` },
      ...((isOwn || outer === 'v4') && { publicIP }),
    } as unknown as StaticTable['leases'][number];
  });
  return { config: { ...table.config, EnableIPv6: true, IPv6Network: 'fd00:5::/48' }, leases };
}

/** Counters once `count` datagrams have come in; checks that they add up. */
export async function settled(
  lab: Lab,
  host: Host,
  count: number,
): Promise<Record<'inbound' | 'outbound', Record<string, number>>> {
  await waitFor(
    async () => (await statusOf(lab, host)).backend.counters.inbound.packets_in >= count,
    `${count} datagrams`,
  );
  const { inbound, outbound } = (await statusOf(lab, host)).backend.counters;
  if (uncountedOf(inbound) !== 0) throw new Error('inbound counters do not add up');
  return { inbound, outbound };
}
