// The flags of twilld: one table in groups, one group for each part of the program. Types follow from the table; so do,
// by flag-parser.ts and flag-docs.ts, parsing, FLANNELD_* variables, help, documents and completion.
//
// Names and defaults are flannel's where flannel has the flag. A flag that no code reads is not in the table: IGNORED
// below says what happens when it is given.

import { SUBNET_FILE } from '../core/defaults.js';
import {
  DEFAULT_CONTROL_SOCKET,
  ETCD_PROXIES,
  LANES,
  LOG_FORMATS,
  MAX_QUEUES,
  OFFLOADS,
  SOURCE_CHECKS,
  STORES,
} from './options.js';

/** One flag whose value is a T. */
export interface Flag<T> {
  readonly name: string;
  readonly help: string;
  /** The value when neither the flag nor its variable is given. */
  readonly otherwise: T;
  /** What is expected, to continue "expected …". */
  readonly expected: string;
  /** The flag may stand without a value, and then means "true". */
  readonly isSwitch: boolean;
  /** The flag may be given more than once. */
  readonly isList: boolean;
  /** All values that are allowed, if they are few. */
  readonly choices: readonly string[];
  /** The value of the given texts, one text unless the flag is a list; undefined when they are no value. */
  readonly parse: (given: readonly string[]) => T | undefined;
}

const PLAIN = { isSwitch: false, isList: false, choices: [] } as const;

const text = (name: string, otherwise: string, help: string): Flag<string> => ({
  ...PLAIN,
  name,
  help,
  otherwise,
  expected: 'text',
  parse: ([value]) => value,
});

const list = (name: string, help: string): Flag<readonly string[]> => ({
  ...PLAIN,
  name,
  help,
  otherwise: [],
  expected: 'text',
  isList: true,
  parse: (given) => given,
});

const bool = (name: string, otherwise: boolean, help: string): Flag<boolean> => ({
  ...PLAIN,
  name,
  help,
  otherwise,
  expected: 'true or false',
  isSwitch: true,
  parse: ([value]) => parseBool(value),
});

const int = (name: string, otherwise: number, min: number, max: number, help: string): Flag<number> => ({
  ...PLAIN,
  name,
  help,
  otherwise,
  expected: `an integer from ${min} to ${max}`,
  parse: ([value]) => {
    const number = /^[+-]?\d+$/.test(value) ? Number(value) : NaN;
    return number >= min && number <= max ? number : undefined;
  },
});

const choice = <const C extends string>(
  name: string,
  choices: readonly C[],
  otherwise: C,
  help: string,
): Flag<C> => ({
  ...PLAIN,
  name,
  help,
  otherwise,
  choices,
  expected: `one of ${choices.join(', ')}`,
  parse: ([value]) => choices.find((known) => known === value),
});

/** As Go's strconv.ParseBool. */
export function parseBool(value: string): boolean | undefined {
  if (['1', 't', 'T', 'true', 'TRUE', 'True'].includes(value)) return true;
  return ['0', 'f', 'F', 'false', 'FALSE', 'False'].includes(value) ? false : undefined;
}

const MAX_INT = 2 ** 31 - 1;

/** Every flag, by the part of the program that reads it. */
export const FLAGS = {
  etcd: {
    endpoints: text(
      'etcd-endpoints',
      'http://127.0.0.1:4001,http://127.0.0.1:2379',
      'comma-separated etcd endpoints',
    ),
    prefix: text('etcd-prefix', '/coreos.com/network', 'prefix of all keys'),
    keyFile: text('etcd-keyfile', '', 'client key for TLS to etcd'),
    certFile: text('etcd-certfile', '', 'client certificate for TLS to etcd'),
    caFile: text('etcd-cafile', '', 'certificate authority that signed etcd’s certificate'),
    username: text('etcd-username', '', 'user for etcd authentication'),
    password: text(
      'etcd-password',
      '',
      'password for etcd authentication; better given as FLANNELD_ETCD_PASSWORD',
    ),
    proxy: choice(
      'etcd-proxy',
      ETCD_PROXIES,
      'off',
      'ask etcd through the proxy that https_proxy or http_proxy names, except what no_proxy names',
    ),
    renewMarginMinutes: int(
      'subnet-lease-renew-margin',
      60,
      1,
      1439,
      'minutes before its end that the lease is renewed',
    ),
  },
  underlay: {
    iface: list(
      'iface',
      'interface between hosts, by name or address; repeatable, the first that fits is used',
    ),
    ifaceRegex: list(
      'iface-regex',
      'pattern for the interface between hosts; repeatable, tried after all --iface',
    ),
    ifaceCanReach: text('iface-can-reach', '', 'use the interface through which this address is reached'),
    publicIp: text('public-ip', '', 'address that other hosts send to; default: the interface’s'),
    publicIpv6: text('public-ipv6', '', 'IPv6 address that other hosts send to; default: the interface’s'),
  },
  kube: {
    apiUrl: text(
      'kube-api-url',
      '',
      'URL of the Kubernetes API server; default: the kubeconfig’s, or the pod’s',
    ),
    kubeconfigFile: text(
      'kubeconfig-file',
      '',
      'kubeconfig to reach the API server with; default: the pod’s account',
    ),
    annotationPrefix: text(
      'kube-annotation-prefix',
      'flannel.alpha.coreos.com',
      'what the names of the node annotations begin with',
    ),
    netConfigPath: text(
      'net-config-path',
      '/etc/kube-flannel/net-conf.json',
      'file with the network config (kube store)',
    ),
    setsNetworkUnavailable: bool(
      'set-node-network-unavailable',
      true,
      'set the node’s condition NetworkUnavailable to False once packets flow',
    ),
  },
  store: {
    kind: choice('store', STORES, 'etcd', 'where config and leases live'),
    isKube: bool('kube-subnet-mgr', false, 'the same as --store=kube'),
    staticFile: text('static-file', '', 'file of the static store'),
  },
  files: {
    subnetFile: text('subnet-file', SUBNET_FILE, 'file that tells other programs the subnet and MTU'),
  },
  firewall: {
    ipMasq: bool('ip-masq', false, 'masquerade traffic that leaves the overlay'),
    isNotFullyRandom: bool('ip-masq-fully-random-disable', false, 'masquerade without --random-fully'),
    resyncSeconds: int('iptables-resync', 5, 1, MAX_INT, 'seconds between checks of the firewall rules'),
    hasForward: bool('iptables-forward-rules', true, 'accept forwarded traffic of the overlay'),
    isForwardFirst: bool('iptables-forward-first', false, 'do so before a rule of FORWARD that refuses it'),
    hasBlackhole: bool(
      'ip-blackhole-route',
      false,
      'drop packets to addresses of the own subnet that no container has',
    ),
  },
  backend: {
    sourceCheck: choice('source-check', SOURCE_CHECKS, 'strict', 'which received packets are let in'),
    queues: int(
      'queues',
      1,
      1,
      MAX_QUEUES,
      'queues of the TUN device, each with two threads and a source port (udp backend)',
    ),
    lane: choice(
      'lane',
      LANES,
      'auto',
      'which packets two BPF programs carry past the workers: of quiet flows, or all that they can (udp backend)',
    ),
    vxlanTxChecksum: choice(
      'vxlan-tx-checksum',
      OFFLOADS,
      'auto',
      'leave checksums of sent packets to the card (vxlan backend); off for cards that compute them wrongly',
    ),
  },
  offloads: {
    offload: choice(
      'offload',
      OFFLOADS,
      'auto',
      'use the offloads below where granted, or none at all (udp backend)',
    ),
    udpSegment: choice('udp-segment', OFFLOADS, 'auto', 'send many datagrams in one message (UDP_SEGMENT)'),
    udpGro: choice('udp-gro', OFFLOADS, 'auto', 'receive many datagrams in one message (UDP_GRO)'),
    tunTso: choice('tun-tso', OFFLOADS, 'auto', 'take TCP superpackets from the TUN device (TSO)'),
    tunUso: choice('tun-uso', OFFLOADS, 'auto', 'take UDP superpackets from the TUN device (USO)'),
    mergeTcp: choice('merge-tcp', OFFLOADS, 'auto', 'deliver TCP segments that join up as superpackets'),
    mergeUdp: choice(
      'merge-udp',
      OFFLOADS,
      'off',
      'deliver UDP datagrams of a flow as superpackets, which raw and packet sockets see whole',
    ),
    tunQueueBound: choice(
      'tun-queue-bound',
      OFFLOADS,
      'auto',
      'bound the queue of the TUN device in bytes too (5 MiB), by a BPF program',
    ),
  },
  probes: {
    pathProbes: bool(
      'path-probes',
      true,
      'measure round trip, loss and path MTU to the other hosts by ICMP echo',
    ),
  },
  servers: {
    healthzIp: text('healthz-ip', '127.0.0.1', 'address of the health server'),
    healthzPort: int('healthz-port', 0, 0, 65535, 'port of the health server; 0 is off'),
    metricsIp: text('metrics-ip', '127.0.0.1', 'address of the metrics listener'),
    metricsPort: int(
      'metrics-port',
      0,
      0,
      65535,
      'port of a listener for /metrics alone; 0 is off (the health server has it too)',
    ),
    controlSocket: text(
      'control-socket',
      DEFAULT_CONTROL_SOCKET,
      'unix socket that the program twill asks; "off" for none',
    ),
    takeover: bool(
      'takeover',
      false,
      'take the data path over from the daemon at --control-socket, if one runs there, without losing a packet',
    ),
  },
  log: {
    verbosity: int(
      'v',
      0,
      0,
      MAX_INT,
      'verbosity; above 0 logs each command, comparison and watch at level debug',
    ),
    format: choice('log-format', LOG_FORMATS, 'text', 'how log lines look'),
  },
} as const;

type Table = typeof FLAGS;
export type FlagGroup = Readonly<Record<string, Flag<unknown>>>;

/** The values of a group of flags. */
export type ValuesOf<G extends FlagGroup> = {
  readonly [K in keyof G]: G[K] extends Flag<infer T> ? T : never;
};

/** The values of all flags, by group. */
export type Flags = { readonly [G in keyof Table]: ValuesOf<Table[G]> };

/** Every flag, in the order of the table. */
export const ALL_FLAGS: readonly Flag<unknown>[] = Object.values<FlagGroup>(FLAGS).flatMap((group) =>
  Object.values(group),
);

/** The values by the names of their flags. */
export function valuesByName(flags: Flags): ReadonlyMap<string, unknown> {
  const values: Readonly<Record<string, Readonly<Record<string, unknown>>>> = flags;
  return new Map(
    Object.entries<FlagGroup>(FLAGS).flatMap(([group, known]) =>
      Object.entries(known).map(([key, { name }]) => [name, values[group][key]] as const),
    ),
  );
}

/** A flag of glog, which flannel's deployments pass. */
export interface IgnoredFlag {
  readonly isSwitch: boolean;
  /** The value that asks for what twill does anyway; it needs no warning. */
  readonly fits: string | undefined;
  readonly reason: string;
}

/** Flags that are accepted and ignored, with a warning where they would change something. */
export const IGNORED: Readonly<Record<string, IgnoredFlag>> = {
  logtostderr: { isSwitch: true, fits: 'true', reason: 'the log always goes to standard error' },
  alsologtostderr: { isSwitch: true, fits: 'true', reason: 'the log always goes to standard error' },
  vmodule: { isSwitch: false, fits: '', reason: '--v holds for the whole program' },
  log_backtrace_at: { isSwitch: false, fits: '', reason: 'the log has no backtraces' },
};

/** Name of the variable that stands in for a flag. */
export function variableOf(name: string): string {
  return `FLANNELD_${name.toUpperCase().replaceAll('-', '_')}`;
}
