// A real flanneld in its udp mode, which FLANNELD names.

import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { ETCD_URL, leasedSubnet, startEtcd } from '../../test/support/etcd-hosts.js';
import { type Host, type Task, waitFor } from '../../test/support/lab.js';
import { addHost, betweenHosts, missingProgram, type PeerKind } from './peer.js';

/** A real flanneld, udp backend, with an etcd of its own; its path comes from the environment. */
export const FLANNELD: PeerKind = {
  name: 'flanneld udp',
  missing: () => {
    const path = process.env['FLANNELD'] ?? '';
    if (path === '') return 'FLANNELD does not name a flanneld';
    try {
      accessSync(path, constants.X_OK);
      return missingProgram('etcd');
    } catch {
      return `FLANNELD is "${path}": not an executable file`;
    }
  },
  start: async (place) => {
    const { lab, first } = place;
    await startEtcd(lab, { Network: '10.5.0.0/16', SubnetMin: '10.5.128.0', Backend: { Type: 'udp' } });
    const bare = [first, first + 1].map((index) => addHost(place, index, { subnet: undefined }));
    const daemons: Task[] = [];
    const hosts: Host[] = [];
    for (const host of bare) {
      const file = join(host.dir, 'subnet.env');
      const args = [
        `--etcd-endpoints=${ETCD_URL}`,
        '--iface=eth0',
        `--subnet-file=${file}`,
        '--ip-masq=false',
      ];
      daemons.push(lab.spawn(host.ns, process.env['FLANNELD']!, args));
      await waitFor(() => leasedSubnetOr(host) !== undefined, 'flanneld to write subnet.env', 20_000);
      hosts.push(lab.connectContainer(host, leasedSubnetOr(host)!));
    }
    return betweenHosts([hosts[0], hosts[1]], daemons);
  },
};

function leasedSubnetOr(host: Host): string | undefined {
  try {
    return leasedSubnet(host);
  } catch {
    return undefined; // not written yet
  }
}
