// twill on the hosts of a lab with its default store: a real etcd on a host of its own, daemons that lease their
// subnets from it, and containers that get their addresses from subnet.env, as a container runtime gives them.

import { mkdtempSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DAEMON, type Host, type Lab, type Task, waitFor } from './lab.js';
import { HEALTH_PORT } from './twill-hosts.js';

const ETCD_INDEX = 250;
export const ETCD_URL = `http://172.20.0.${ETCD_INDEX}:2379`;
export const ETCD_PREFIX = '/coreos.com/network';

/** The etcd of a lab. */
export interface LabEtcd {
  readonly ns: string;
  readonly dataDir: string;
  task: Task;
}

/** Programs a lab with etcd needs besides LAB_PROGRAMS. */
export const ETCD_PROGRAMS = ['etcd', 'etcdctl'] as const;

/** Starts etcd with an empty store and writes the network config. */
export async function startEtcd(lab: Lab, config: Readonly<Record<string, unknown>>): Promise<LabEtcd> {
  const ns = lab.addServer('etcd', ETCD_INDEX);
  const dataDir = mkdtempSync(join(lab.dir, 'etcd-'));
  const etcd = { ns, dataDir, task: await runEtcd(lab, ns, dataDir) };
  await etcdctl(lab, etcd, ['put', `${ETCD_PREFIX}/config`, JSON.stringify(config)]);
  return etcd;
}

/** Starts it again on the same data, after it was ended. */
export async function restartEtcd(lab: Lab, etcd: LabEtcd): Promise<void> {
  etcd.task = await runEtcd(lab, etcd.ns, etcd.dataDir);
}

async function runEtcd(lab: Lab, ns: string, dataDir: string): Promise<Task> {
  const task = lab.spawn(ns, 'etcd', [
    `--data-dir=${dataDir}`,
    '--listen-client-urls=http://0.0.0.0:2379',
    `--advertise-client-urls=${ETCD_URL}`,
    '--listen-peer-urls=http://127.0.0.1:2380',
    '--unsafe-no-fsync',
  ]);
  await waitFor(
    async () =>
      (await lab.run(ns, 'etcdctl', ['endpoint', 'health'], { env: ETCDCTL_ENV, mustSucceed: false }))
        .code === 0,
    'etcd to answer',
    20_000,
  );
  return task;
}

const ETCDCTL_ENV = { ETCDCTL_API: '3', ETCDCTL_ENDPOINTS: 'http://127.0.0.1:2379' };

/** Runs etcdctl beside etcd and returns its output. */
export async function etcdctl(lab: Lab, etcd: LabEtcd, args: readonly string[]): Promise<string> {
  return (await lab.run(etcd.ns, 'etcdctl', args, { env: ETCDCTL_ENV })).stdout;
}

/** Command line of a daemon with the etcd store. */
export function etcdDaemonArguments(host: Host, extra: readonly string[] = []): string[] {
  const hasEndpoints = extra.some((word) => word.startsWith('--etcd-endpoints='));
  return [
    DAEMON,
    ...(hasEndpoints ? [] : [`--etcd-endpoints=${ETCD_URL}`]),
    '--iface=eth0',
    `--subnet-file=${join(host.dir, 'subnet.env')}`,
    '--healthz-ip=127.0.0.1',
    `--healthz-port=${HEALTH_PORT}`,
    ...extra,
  ];
}

export function startEtcdDaemon(lab: Lab, host: Host, extra: readonly string[] = []): Promise<Task> {
  return lab.spawnUntil(host.ns, process.execPath, etcdDaemonArguments(host, extra), /ready after/);
}

/** A host that could be of either family, before its daemon starts; its container has no address yet. */
export async function addBareHost(lab: Lab, index: number): Promise<Host> {
  const bare = lab.addHost(index, { subnet: undefined });
  await lab.run(bare.ns, 'sysctl', ['-qw', 'net.ipv6.conf.all.forwarding=1']);
  lab.ip(bare.ns, `address add fd00:aa::${index}/64 dev eth0 nodad`);
  return bare;
}

/** A host joins: its daemon leases a subnet, its container gets an address of it. */
export async function joinHost(
  lab: Lab,
  index: number,
  extra: readonly string[] = [],
): Promise<{ host: Host; daemon: Task }> {
  const bare = lab.addHost(index, { subnet: undefined });
  const daemon = await startEtcdDaemon(lab, bare, extra);
  return { host: lab.connectContainer(bare, leasedSubnet(bare)), daemon };
}

/** The subnet in the host's subnet.env. */
export function leasedSubnet(host: Host): string {
  const text = readFileSync(join(host.dir, 'subnet.env'), 'utf8');
  const match = /^FLANNEL_SUBNET=(.*)\.1\/24$/m.exec(text);
  if (match === null) throw new Error(`no /24 in subnet.env:\n${text}`);
  return `${match[1]}.0/24`;
}

/** Gives the host's bridge port and the container addresses of the IPv6 subnet in subnet.env: its base, 1 and 2. */
export function connectIpv6(lab: Lab, host: Host): string {
  const text = readFileSync(join(host.dir, 'subnet.env'), 'utf8');
  const base = /^FLANNEL_IPV6_SUBNET=(.*::)1\/64$/m.exec(text)?.[1];
  if (base === undefined) throw new Error(`no /64 in subnet.env:\n${text}`);
  lab.ip(host.ns, `address add ${base}1/64 dev cni0 nodad`);
  lab.ip(host.containerNs, `address add ${base}2/64 dev eth0 nodad`);
  lab.ip(host.containerNs, `-6 route add default via ${base}1`);
  return base;
}
