// A cluster of thousands in a lab: nodes that do not exist, in a stand-in of the API server, and a daemon that follows
// them.
//
//   stand-in 172.20.0.240 ─── host 172.20.0.1, node "self"
//     w00000, w00001 …: 10.0.0.0/24, 10.0.1.0/24 … behind 172.24.0.0, 172.24.0.1 …

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ApiServerProcess } from './api-server-process.js';
import { DAEMON, type Host, type Lab, type Task } from './lab.js';
import { HEALTH_PORT } from './twill-hosts.js';

const SELF = 'self';
const CLUSTER_CIDRS = [{ cidr: '10.255.0.0/16', nodeMask: 24 }];
const START_MS = 60_000;

export type CrowdMode = 'udp' | 'vxlan';

/** A daemon that was started. */
export interface Started {
  readonly task: Task;
  /** From its start to the line of its log that was waited for. */
  readonly ms: number;
}

/** One host, and the nodes that it is told of. */
export class KubeCrowd {
  readonly api: ApiServerProcess;
  readonly host: Host;
  readonly #lab: Lab;
  readonly #mode: CrowdMode;
  #size = 0;

  private constructor(lab: Lab, api: ApiServerProcess, host: Host, mode: CrowdMode) {
    this.#lab = lab;
    this.api = api;
    this.host = host;
    this.#mode = mode;
  }

  /** Without nodes but the own one. Ends with the lab. */
  static async open(lab: Lab, mode: CrowdMode): Promise<KubeCrowd> {
    const ns = lab.addServer('kube', 240);
    const dir = join(lab.dir, 'api');
    const options = { dir, address: '172.20.0.240', port: 6443, clusterCidrs: CLUSTER_CIDRS };
    const { api } = await ApiServerProcess.openIn(lab, ns, options);
    await api.do('createNode', SELF);
    const host = lab.addHost(1, { subnet: undefined });
    lab.ip(host.ns, 'route add default via 172.20.0.250'); // a way to peers that do not exist
    const config = { Network: '10.0.0.0/8', Backend: { Type: mode } };
    writeFileSync(join(lab.dir, 'net-conf.json'), JSON.stringify(config));
    return new KubeCrowd(lab, api, host, mode);
  }

  /** Makes them as many as `size`, the own one not counted. */
  async growTo(size: number): Promise<void> {
    await this.api.do('createManyNodes', this.#size, size, this.#mode);
    this.#size = size;
  }

  /** A daemon that has all nodes in its table. `node`: options of Node.js. */
  startDaemon(node: readonly string[] = []): Promise<Started> {
    const size = this.#size;
    return startUntil(
      this.#lab,
      this.host,
      this.#words(node),
      new RegExp(`"added":${size},.*"leases changed"`),
    );
  }

  /** A daemon that forwards, whatever it knows. */
  startForwarding(): Promise<Started> {
    return startUntil(this.#lab, this.host, this.#words([]), /ready after/);
  }

  #words(node: readonly string[]): string[] {
    return [
      `NODE_NAME=${SELF}`,
      process.execPath,
      ...node,
      DAEMON,
      '--kube-subnet-mgr',
      `--kubeconfig-file=${join(this.#lab.dir, 'api', 'flannel.kubeconfig')}`,
      `--net-config-path=${join(this.#lab.dir, 'net-conf.json')}`,
      '--iface=eth0',
      `--subnet-file=${join(this.host.dir, 'subnet.env')}`,
      '--healthz-ip=127.0.0.1',
      `--healthz-port=${HEALTH_PORT}`,
    ];
  }
}

/** Runs `env <words>` on a host until a line of its log, which is to be that of a daemon, matches. */
export async function startUntil(
  lab: Lab,
  host: Host,
  words: readonly string[],
  line: RegExp,
): Promise<Started> {
  const startedMs = Date.now();
  const task = await lab.spawnUntil(host.ns, 'env', [...words, '--log-format=json'], line, START_MS);
  const [said] = task
    .log()
    .split('\n')
    .filter((each) => line.test(each));
  const { time } = JSON.parse(said) as { time: string };
  return { task, ms: Date.parse(time) - startedMs };
}
