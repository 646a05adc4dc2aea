// The peers a measurement compares: each a pair of containers with a way of its own between them, on the lab's switch.
// All are up at the same time, so that rounds can go A B C A B C; an idle one costs nothing.

import { execFileSync, spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ETCD_URL, leasedSubnet, startEtcd } from '../test/support/etcd-hosts.js';
import { type Host, type Lab, type Task, waitFor } from '../test/support/lab.js';
import { startDaemon, tableOf, writeTable } from '../test/support/twill-hosts.js';

/** Where traffic starts or ends. */
export interface End {
  readonly ns: string;
  readonly ip: string;
}

/** A way between two containers. */
export interface Peer {
  readonly name: string;
  readonly ends: readonly [End, End];
  /** Daemons that carry the packets, if any. */
  readonly daemons: readonly Task[];
  /** The hosts between the ends, if any. */
  readonly hosts: readonly Host[];
}

export interface PeerKind {
  readonly name: string;
  /** What this peer does that others do not, or "". */
  readonly note: string;
  /** Why it cannot run here, or undefined. */
  readonly missing: () => string | undefined;
  /** Sets it up with hosts of the indexes `first` and `first + 1`. */
  readonly start: (lab: Lab, first: number) => Promise<Omit<Peer, 'name'>>;
}

export interface TwillOptions {
  readonly flags?: readonly string[];
  readonly mtuBytes?: number;
  /** Leases in the table, the two hosts' own included. @default 2 */
  readonly leases?: number;
}

const endOf = (host: Host): End => ({ ns: host.containerNs, ip: host.containerIp });

function betweenHosts(hosts: readonly [Host, Host], daemons: readonly Task[] = []): Omit<Peer, 'name'> {
  return { ends: [endOf(hosts[0]), endOf(hosts[1])], hosts, daemons };
}

function pair(lab: Lab, first: number, mtuBytes = 1500): [Host, Host] {
  return [lab.addHost(first, { mtuBytes }), lab.addHost(first + 1, { mtuBytes })];
}

/** Both directions of a pair. */
const bothWays = (hosts: readonly [Host, Host]): [Host, Host][] => [
  [hosts[0], hosts[1]],
  [hosts[1], hosts[0]],
];

function setInnerMtu(lab: Lab, host: Host, mtuBytes: number): void {
  lab.ip(host.ns, `link set cni0 mtu ${mtuBytes}`);
  lab.ip(host.containerNs, `link set eth0 mtu ${mtuBytes}`);
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

export function twill(name: string, note = '', options: TwillOptions = {}): PeerKind {
  return {
    name,
    note,
    missing: () => undefined,
    start: async (lab, first) => {
      const hosts = pair(lab, first, options.mtuBytes);
      const file = join(hosts[0].dir, 'static.json');
      writeTable(file, options.leases === undefined ? tableOf(hosts) : tableWith(hosts, options.leases));
      const daemons = [];
      for (const host of hosts) daemons.push(await startDaemon(lab, host, file, options.flags));
      return betweenHosts(hosts, daemons);
    },
  };
}

/** Kernel vxlan as flannel sets it up: learning off, neighbour and FDB entries by hand. */
export function kernelVxlan(mtuBytes = 1500): PeerKind {
  const start = (lab: Lab, first: number): Promise<Omit<Peer, 'name'>> => {
    const hosts = pair(lab, first, mtuBytes);
    const mac = (host: Host): string => `0e:00:00:00:00:${host.index.toString(16).padStart(2, '0')}`;
    for (const host of hosts) {
      const link = `type vxlan id 1 dev eth0 local ${host.underlayIp} dstport 8472 nolearning`;
      lab.ip(host.ns, `link add flannel.1 address ${mac(host)} mtu ${mtuBytes - 50} ${link}`);
      lab.ip(host.ns, `address add 10.5.${host.index}.0/32 dev flannel.1`);
      lab.ip(host.ns, 'link set flannel.1 up');
      setInnerMtu(lab, host, mtuBytes - 50);
    }
    for (const [host, other] of bothWays(hosts)) {
      lab.ip(host.ns, `neigh add 10.5.${other.index}.0 lladdr ${mac(other)} dev flannel.1 nud permanent`);
      const entry = ['fdb', 'append', mac(other), 'dev', 'flannel.1', 'dst', other.underlayIp];
      execFileSync('ip', ['netns', 'exec', host.ns, 'bridge', ...entry]);
      lab.ip(host.ns, `route add ${other.subnet} via 10.5.${other.index}.0 dev flannel.1 onlink`);
    }
    return Promise.resolve(betweenHosts(hosts));
  };
  return { name: 'kernel vxlan', note: 'in the kernel', missing: () => undefined, start };
}

export function hostGw(mtuBytes = 1500): PeerKind {
  const start = (lab: Lab, first: number): Promise<Omit<Peer, 'name'>> => {
    const hosts = pair(lab, first, mtuBytes);
    for (const [host, other] of bothWays(hosts)) {
      lab.ip(host.ns, `route add ${other.subnet} via ${other.underlayIp}`);
    }
    return Promise.resolve(betweenHosts(hosts));
  };
  return { name: 'host-gw', note: 'no tunnel', missing: () => undefined, start };
}

/** Two namespaces and a cable: what the machine itself can do. */
const BARE_VETH: PeerKind = {
  name: 'bare veth',
  note: 'no hosts between',
  missing: () => undefined,
  start: (lab, first) => {
    const namespaces = [lab.addNamespace(`v${first}`), lab.addNamespace(`v${first + 1}`)];
    lab.ip(namespaces[0], `link add eth0 type veth peer name eth0 netns ${namespaces[1]}`);
    const ends = namespaces.map((ns, i) => ({ ns, ip: `10.6.0.${i + 1}` }));
    for (const { ns, ip } of ends) {
      lab.ip(ns, `address add ${ip}/24 dev eth0`);
      lab.ip(ns, 'link set eth0 up');
    }
    return Promise.resolve({ ends: [ends[0], ends[1]], hosts: [], daemons: [] });
  },
};

function missingProgram(program: string): string | undefined {
  const found = spawnSync('sh', ['-c', 'command -v "$1"', 'sh', program], { stdio: 'ignore' }).status === 0;
  return found ? undefined : `${program} is not installed`;
}

/** A route through a point-to-point device, as wireguard-go and fastd make them. */
function routeThrough(lab: Lab, host: Host, other: Host, device: string, mtuBytes: number): void {
  lab.ip(host.ns, `link set ${device} mtu ${mtuBytes} up`);
  lab.ip(host.ns, `route add ${other.subnet} dev ${device}`);
  setInnerMtu(lab, host, mtuBytes);
}

const deviceAppears = (lab: Lab, host: Host, device: string): Promise<void> =>
  waitFor(() => lab.ip(host.ns, 'link show').includes(` ${device}:`), `${device} to appear`);

/** A tunnel without trains, offloads and batches: what is left of flanneld's udp backend without its control plane. */
const PLAIN_LOOP: PeerKind = {
  name: 'plain packet loop',
  note: 'userspace, one packet at a time',
  missing: () => undefined,
  start: async (lab, first) => {
    const program = lab.compile('bench/load/plain-loop.cc');
    const hosts = pair(lab, first);
    const daemons: Task[] = [];
    for (const [host, other] of bothWays(hosts)) {
      daemons.push(lab.spawn(host.ns, program, ['plain0', host.underlayIp, other.underlayIp, '8285']));
    }
    for (const [host, other] of bothWays(hosts)) {
      await deviceAppears(lab, host, 'plain0');
      routeThrough(lab, host, other, 'plain0', 1472);
    }
    return betweenHosts(hosts, daemons);
  },
};

const FASTD: PeerKind = {
  name: 'fastd, method null',
  note: 'userspace, not encrypting',
  missing: () => missingProgram('fastd'),
  start: async (lab, first) => {
    const hosts = pair(lab, first);
    const key = (what: string, input?: string): string =>
      execFileSync('fastd', ['--machine-readable', what, ...(input === undefined ? [] : ['-c', input])], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      }).trim();
    const secrets = new Map(hosts.map((host) => [host, key('--generate-key').split('\n')[0].trim()]));
    const publicKey = (host: Host): string => {
      const file = join(host.dir, 'secret.conf');
      writeFileSync(file, `secret "${secrets.get(host)!}";\n`, { mode: 0o600 });
      return key('--show-key', file);
    };
    const daemons: Task[] = [];
    for (const [host, other] of bothWays(hosts)) {
      const file = join(host.dir, 'fastd.conf');
      const peer = `peer "p" { key "${publicKey(other)}"; remote ${other.underlayIp} port 10000; }`;
      const lines = [
        'mode tun;',
        `interface "fd${host.index}";`,
        'method "null";',
        `bind ${host.underlayIp}:10000;`,
        'mtu 1440;',
        `secret "${secrets.get(host)!}";`,
        peer,
      ];
      writeFileSync(file, `${lines.join('\n')}\n`, { mode: 0o600 });
      daemons.push(lab.spawn(host.ns, 'fastd', ['-c', file]));
    }
    for (const [host, other] of bothWays(hosts)) {
      await deviceAppears(lab, host, `fd${host.index}`);
      routeThrough(lab, host, other, `fd${host.index}`, 1440);
    }
    return betweenHosts(hosts, daemons);
  },
};

const WIREGUARD_GO: PeerKind = {
  name: 'wireguard-go',
  note: 'userspace, encrypting',
  missing: () => missingProgram('wireguard-go') ?? missingProgram('wg'),
  start: async (lab, first) => {
    const hosts = pair(lab, first);
    const text = (args: string[], input?: string): string =>
      execFileSync('wg', args, { encoding: 'utf8', ...(input === undefined ? {} : { input }) }).trim();
    const secrets = new Map(hosts.map((host) => [host, text(['genkey'])]));
    const daemons: Task[] = [];
    for (const [host, other] of bothWays(hosts)) {
      const device = `wg${process.pid % 100_000}-${host.index}`;
      const socket = `/var/run/wireguard/${device}.sock`;
      // The daemon of the suite before was killed and has left its own; so will this one.
      rmSync(socket, { force: true });
      process.once('exit', () => rmSync(socket, { force: true }));
      daemons.push(lab.spawn(host.ns, 'wireguard-go', ['-f', device]));
      // wg asks the kernel's WireGuard as long as the socket of this one is not there.
      await waitFor(() => existsSync(socket), socket);
      const file = join(host.dir, 'wg.key');
      writeFileSync(file, secrets.get(host)!, { mode: 0o600 });
      const peer = ['peer', text(['pubkey'], secrets.get(other)), 'endpoint', `${other.underlayIp}:51820`];
      const args = ['set', device, 'listen-port', '51820', 'private-key', file, ...peer];
      await lab.run(host.ns, 'wg', [...args, 'allowed-ips', '10.5.0.0/16']);
      routeThrough(lab, host, other, device, 1420);
    }
    return betweenHosts(hosts, daemons);
  },
};

/** A real flanneld, udp backend, with an etcd of its own; its path comes from the environment. */
const FLANNELD: PeerKind = {
  name: 'flanneld udp',
  note: 'userspace',
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
  start: async (lab, first) => {
    await startEtcd(lab, { Network: '10.5.0.0/16', SubnetMin: '10.5.128.0', Backend: { Type: 'udp' } });
    const bare = [first, first + 1].map((index) => lab.addHost(index, { subnet: undefined }));
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

export const TWILL = twill('twill');
export const TWILL_OFFLOAD_OFF = twill('twill --offload=off', 'no segmentation offload', {
  flags: ['--offload=off'],
});

/** In the order in which results are shown. */
export const PEER_KINDS: readonly PeerKind[] = [
  TWILL,
  kernelVxlan(),
  hostGw(),
  BARE_VETH,
  TWILL_OFFLOAD_OFF,
  FLANNELD,
  PLAIN_LOOP,
  FASTD,
  WIREGUARD_GO,
];

/** Starts the kinds that can run here; says why the others are missing. */
export async function startPeers(
  lab: Lab,
  kinds: readonly PeerKind[],
): Promise<{ peers: Peer[]; missing: { name: string; why: string }[] }> {
  const peers: Peer[] = [];
  const missing = [];
  let index = 1;
  for (const kind of kinds) {
    const why = kind.missing();
    if (why !== undefined) {
      missing.push({ name: kind.name, why });
      continue;
    }
    peers.push({ name: kind.name, ...(await kind.start(lab, index)) });
    index += 2;
  }
  for (const { ends, name } of peers) {
    await waitFor(
      async () =>
        (await lab.run(ends[0].ns, 'ping', ['-c1', '-W1', ends[1].ip], { mustSucceed: false })).code === 0,
      `the first echo through ${name}`,
      20_000,
    );
  }
  return { peers, missing };
}
