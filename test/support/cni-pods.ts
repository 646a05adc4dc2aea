// Pods of a lab's hosts, made and removed by a CNI plugin with Debian's real bridge and host-local, as a runtime does.

import { join } from 'node:path';
import type { Host, Lab } from './lab.js';

/** Where Debian's plugins are. */
export const CNI_PLUGINS = '/usr/lib/cni';
export const CNI_NETWORK = 'cbr0';

/** A pod to be: its network namespace, on a host. */
export interface CniPod {
  readonly host: Host;
  readonly id: string;
  readonly ns: string;
}

/** What the plugin is configured with on a host, as kube-flannel's users have it. */
export function cniConfig(host: Host, version = '0.3.1'): Record<string, unknown> {
  return {
    cniVersion: version,
    name: CNI_NETWORK,
    type: 'flannel',
    subnetFile: join(host.dir, 'subnet.env'),
    dataDir: join(host.dir, 'flannel'),
    delegate: { hairpinMode: true, isDefaultGateway: true },
    // Real hosts do not share a file system.
    ipam: { dataDir: join(host.dir, 'networks') },
  };
}

/** Runs a plugin for a pod; `program` is its command with arguments. */
export function callCni(
  lab: Lab,
  { host, id, ns }: CniPod,
  command: string,
  program: readonly string[],
  config: object,
): Promise<{ code: number; stdout: string }> {
  return lab.run(host.ns, program[0], program.slice(1), {
    mustSucceed: false,
    input: JSON.stringify(config),
    env: {
      CNI_COMMAND: command,
      CNI_CONTAINERID: id,
      CNI_NETNS: `/run/netns/${ns}`,
      CNI_IFNAME: 'eth0',
      CNI_PATH: CNI_PLUGINS,
    },
  });
}
