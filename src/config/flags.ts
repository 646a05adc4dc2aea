// The command line: one table of flags, from which parsing, FLANNELD_* variables, the help and the documentation come.
//
// Go's syntax, as flanneld's users write it: -flag=x, --flag=x, --flag x; a boolean stands alone or takes =true, =false,
// =1, =0, =t, =f. A variable FLANNELD_<NAME> counts when its flag is not given and it is not empty. Unlike flanneld,
// which goes on with the default, a bad value or an unknown FLANNELD_* variable is an error wherever it comes from, and the
// exit code of an error is not 0.

import { OverlayError } from '../core/errors.js';
import { isServiceLink, misspelt } from './variables.js';
import {
  DEFAULT_CONTROL_SOCKET,
  ETCD_PROXIES,
  type EtcdProxy,
  MAX_QUEUES,
  type Offload,
  type OffloadFlags,
  OFFLOADS,
  type SourceCheck,
  SOURCE_CHECKS,
} from './options.js';

export const STORES = ['etcd', 'static'] as const;
export type StoreKind = (typeof STORES)[number];

export const LOG_FORMATS = ['text', 'json'] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

export interface Flags extends OffloadFlags {
  readonly etcdEndpoints: string;
  readonly etcdPrefix: string;
  readonly etcdKeyfile: string;
  readonly etcdCertfile: string;
  readonly etcdCafile: string;
  readonly etcdUsername: string;
  readonly etcdPassword: string;
  readonly iface: readonly string[];
  readonly ifaceRegex: readonly string[];
  readonly ifaceCanReach: string;
  readonly subnetFile: string;
  readonly publicIp: string;
  readonly publicIpv6: string;
  /** Minutes. */
  readonly subnetLeaseRenewMargin: number;
  readonly ipMasq: boolean;
  readonly ipMasqFullyRandomDisable: boolean;
  readonly kubeSubnetMgr: boolean;
  readonly kubeApiUrl: string;
  readonly kubeAnnotationPrefix: string;
  readonly kubeconfigFile: string;
  readonly netConfigPath: string;
  readonly setNodeNetworkUnavailable: boolean;
  readonly healthzIp: string;
  readonly healthzPort: number;
  readonly metricsIp: string;
  readonly metricsPort: number;
  /** Seconds. */
  readonly iptablesResync: number;
  readonly iptablesForwardRules: boolean;
  readonly iptablesForwardFirst: boolean;
  readonly ipBlackholeRoute: boolean;
  readonly v: number;
  readonly vmodule: string;
  readonly logBacktraceAt: string;
  readonly store: StoreKind;
  readonly staticFile: string;
  readonly etcdProxy: EtcdProxy;
  readonly queues: number;
  readonly offload: Offload;
  readonly vxlanTxChecksum: Offload;
  readonly sourceCheck: SourceCheck;
  readonly logFormat: LogFormat;
  readonly controlSocket: string;
  readonly pathProbes: boolean;
}

export type ParsedCommandLine =
  | { readonly kind: 'run'; readonly flags: Flags }
  | { readonly kind: 'help'; readonly text: string }
  | { readonly kind: 'version' };

type FlagType =
  | { readonly type: 'string' }
  | { readonly type: 'list' }
  | { readonly type: 'bool' }
  | { readonly type: 'int'; readonly min: number; readonly max: number }
  | { readonly type: 'choice'; readonly choices: readonly string[] };

type FlagSpec = FlagType & {
  readonly name: string;
  readonly key: keyof Flags;
  readonly otherwise: string | number | boolean | readonly string[];
  readonly help: string;
};

const text = (name: string, key: keyof Flags, otherwise: string, help: string): FlagSpec => ({
  type: 'string',
  name,
  key,
  otherwise,
  help,
});
const list = (name: string, key: keyof Flags, help: string): FlagSpec => ({
  type: 'list',
  name,
  key,
  otherwise: [],
  help,
});
const bool = (name: string, key: keyof Flags, otherwise: boolean, help: string): FlagSpec => ({
  type: 'bool',
  name,
  key,
  otherwise,
  help,
});
const int = (
  name: string,
  key: keyof Flags,
  otherwise: number,
  min: number,
  max: number,
  help: string,
): FlagSpec => ({ type: 'int', name, key, otherwise, min, max, help });
const choice = (
  name: string,
  key: keyof Flags,
  choices: readonly string[],
  otherwise: string,
  help: string,
): FlagSpec => ({ type: 'choice', name, key, choices, otherwise, help });

const MAX_INT = 2 ** 31 - 1;

/** Every flag. Names and defaults of the first part are flannel's. */
export const FLAGS: readonly FlagSpec[] = [
  text(
    'etcd-endpoints',
    'etcdEndpoints',
    'http://127.0.0.1:4001,http://127.0.0.1:2379',
    'comma-separated etcd endpoints',
  ),
  text('etcd-prefix', 'etcdPrefix', '/coreos.com/network', 'prefix of all keys'),
  text('etcd-keyfile', 'etcdKeyfile', '', 'client key for TLS to etcd'),
  text('etcd-certfile', 'etcdCertfile', '', 'client certificate for TLS to etcd'),
  text('etcd-cafile', 'etcdCafile', '', 'certificate authority that signed etcd’s certificate'),
  text('etcd-username', 'etcdUsername', '', 'user for etcd authentication'),
  text(
    'etcd-password',
    'etcdPassword',
    '',
    'password for etcd authentication; better given as FLANNELD_ETCD_PASSWORD',
  ),
  list(
    'iface',
    'iface',
    'interface between hosts, by name or address; repeatable, the first that fits is used',
  ),
  list(
    'iface-regex',
    'ifaceRegex',
    'pattern for the interface between hosts; repeatable, tried after all --iface',
  ),
  text('iface-can-reach', 'ifaceCanReach', '', 'use the interface through which this address is reached'),
  text(
    'subnet-file',
    'subnetFile',
    '/run/flannel/subnet.env',
    'file that tells other programs the subnet and MTU',
  ),
  text('public-ip', 'publicIp', '', 'address that other hosts send to; default: the interface’s'),
  text('public-ipv6', 'publicIpv6', '', 'accepted for compatibility; IPv6 is not supported'),
  int(
    'subnet-lease-renew-margin',
    'subnetLeaseRenewMargin',
    60,
    1,
    1439,
    'minutes before its end that the lease is renewed',
  ),
  bool('ip-masq', 'ipMasq', false, 'masquerade traffic that leaves the overlay'),
  bool(
    'ip-masq-fully-random-disable',
    'ipMasqFullyRandomDisable',
    false,
    'masquerade without --random-fully',
  ),
  bool('kube-subnet-mgr', 'kubeSubnetMgr', false, 'not supported yet: leases from the Kubernetes API'),
  text('kube-api-url', 'kubeApiUrl', '', 'not supported yet'),
  text('kube-annotation-prefix', 'kubeAnnotationPrefix', 'flannel.alpha.coreos.com', 'not supported yet'),
  text('kubeconfig-file', 'kubeconfigFile', '', 'not supported yet'),
  text('net-config-path', 'netConfigPath', '/etc/kube-flannel/net-conf.json', 'not supported yet'),
  bool('set-node-network-unavailable', 'setNodeNetworkUnavailable', true, 'not supported yet'),
  text('healthz-ip', 'healthzIp', '127.0.0.1', 'address of the health server'),
  int('healthz-port', 'healthzPort', 0, 0, 65535, 'port of the health server; 0 is off'),
  text('metrics-ip', 'metricsIp', '127.0.0.1', 'address of the metrics listener'),
  int(
    'metrics-port',
    'metricsPort',
    0,
    0,
    65535,
    'port of a listener for /metrics alone; 0 is off (the health server has it too)',
  ),
  int('iptables-resync', 'iptablesResync', 5, 1, MAX_INT, 'seconds between checks of the firewall rules'),
  bool('iptables-forward-rules', 'iptablesForwardRules', true, 'accept forwarded traffic of the overlay'),
  bool(
    'iptables-forward-first',
    'iptablesForwardFirst',
    false,
    'do so before a rule of FORWARD that refuses it',
  ),
  bool(
    'ip-blackhole-route',
    'ipBlackholeRoute',
    false,
    'drop packets to addresses of the own subnet that no container has',
  ),
  int('v', 'v', 0, 0, MAX_INT, 'verbosity; above 0 logs each command, comparison and watch at level debug'),
  text('vmodule', 'vmodule', '', 'accepted for compatibility; has no effect'),
  text('log_backtrace_at', 'logBacktraceAt', '', 'accepted for compatibility; has no effect'),
  choice('store', 'store', STORES, 'etcd', 'where config and leases live'),
  text('static-file', 'staticFile', '', 'file of the static store'),
  choice(
    'etcd-proxy',
    'etcdProxy',
    ETCD_PROXIES,
    'off',
    'ask etcd through the proxy that https_proxy or http_proxy names, except what no_proxy names',
  ),
  int(
    'queues',
    'queues',
    1,
    1,
    MAX_QUEUES,
    'queues of the TUN device, each with two threads and a source port (udp backend)',
  ),
  choice(
    'offload',
    'offload',
    OFFLOADS,
    'auto',
    'use the offloads below where granted, or none at all (udp backend)',
  ),
  choice('udp-segment', 'udpSegment', OFFLOADS, 'auto', 'send many datagrams in one message (UDP_SEGMENT)'),
  choice('udp-gro', 'udpGro', OFFLOADS, 'auto', 'receive many datagrams in one message (UDP_GRO)'),
  choice('tun-tso', 'tunTso', OFFLOADS, 'auto', 'take TCP superpackets from the TUN device (TSO)'),
  choice('tun-uso', 'tunUso', OFFLOADS, 'auto', 'take UDP superpackets from the TUN device (USO)'),
  choice('merge-tcp', 'mergeTcp', OFFLOADS, 'auto', 'deliver TCP segments that join up as superpackets'),
  choice(
    'merge-udp',
    'mergeUdp',
    OFFLOADS,
    'off',
    'deliver UDP datagrams of a flow as superpackets, which raw and packet sockets see whole',
  ),
  choice(
    'tun-queue-bound',
    'tunQueueBound',
    OFFLOADS,
    'auto',
    'bound the queue of the TUN device in bytes too (5 MiB), by a BPF program',
  ),
  choice(
    'vxlan-tx-checksum',
    'vxlanTxChecksum',
    OFFLOADS,
    'auto',
    'leave checksums of sent packets to the card (vxlan backend); off for cards that compute them wrongly',
  ),
  choice('source-check', 'sourceCheck', SOURCE_CHECKS, 'strict', 'which received packets are let in'),
  choice('log-format', 'logFormat', LOG_FORMATS, 'text', 'how log lines look'),
  text(
    'control-socket',
    'controlSocket',
    DEFAULT_CONTROL_SOCKET,
    'unix socket that the program twill asks; "off" for none',
  ),
  bool(
    'path-probes',
    'pathProbes',
    true,
    'measure round trip, loss and path MTU to the other hosts by ICMP echo',
  ),
];

const BY_NAME = new Map(FLAGS.map((spec) => [spec.name, spec]));

/** Name of the variable that stands in for a flag. */
export function variableOf(name: string): string {
  return `FLANNELD_${name.toUpperCase().replaceAll('-', '_')}`;
}

/** Parses the arguments after the program's name. Throws OverlayError E_USAGE naming flag, value and origin. */
export function parseFlags(
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): ParsedCommandLine {
  const given = new Map<string, string | string[]>();
  for (let i = 0; i < args.length; i++) {
    const arg = args[i];
    const match = /^--?([^-=][^=]*)(?:=(.*))?$/s.exec(arg);
    if (match === null) throw usage(`Unexpected argument ${showArgument(args, i)}: expected a flag`);
    const [, name] = match;
    if (name === 'h' || name === 'help') return { kind: 'help', text: usageText() };
    if (name === 'version') {
      const isAsked = parseBool(match[2] ?? 'true');
      if (isAsked === undefined)
        throw usage(`--version is ${JSON.stringify(match[2])}: expected true or false`);
      if (isAsked) return { kind: 'version' };
      continue;
    }
    const spec = BY_NAME.get(name);
    if (spec === undefined) throw usage(`Unknown flag --${/^[\w.-]*/.exec(name)![0]}: --help lists all`);
    let value = match[2] as string | undefined;
    if (value === undefined && spec.type === 'bool') value = 'true';
    if (value === undefined) {
      if (i + 1 >= args.length) throw usage(`Flag --${name} needs a value: ${expected(spec)}`);
      value = args[++i];
    }
    const before = given.get(name);
    if (before === undefined) given.set(name, spec.type === 'list' ? [value] : value);
    else if (Array.isArray(before)) before.push(value);
    else throw usage(`Flag --${name} is given more than once`);
  }
  const unknown = misspelt(
    env,
    FLAGS.map(({ name }) => variableOf(name)),
  );
  if (unknown.length > 0) throw usage(unknown.join('; '));
  const flags: Record<string, unknown> = {};
  for (const spec of FLAGS) flags[spec.key] = valueOf(spec, given, env);
  return { kind: 'run', flags: flags as unknown as Flags };
}

// A password with a blank that is not quoted goes on as an argument of its own; so does a misspelt FLANNELD_* or
// --etcd-* assignment. These messages go into logs, so only what can be none of it is shown.
const MAY_BE_SECRET = /pass|secret|token|user|etcd/i;

function showArgument(args: readonly string[], index: number): string {
  let flag = index - 1;
  while (flag > 0 && !args[flag].startsWith('-')) flag--;
  const isHarmless =
    /^[-=\w.]*$/.test(args[index]) &&
    !args.slice(Math.max(flag, 0), index + 1).some((arg) => MAY_BE_SECRET.test(arg));
  return isHarmless ? JSON.stringify(args[index]) : `${index + 1} (not shown: it may be part of a password)`;
}

function valueOf(
  spec: FlagSpec,
  given: ReadonlyMap<string, string | string[]>,
  env: Readonly<Record<string, string | undefined>>,
): unknown {
  const value = given.get(spec.name);
  if (Array.isArray(value)) return value;
  if (value !== undefined) return convert(spec, value, `--${spec.name}`);
  const variable = variableOf(spec.name);
  const fromEnv = env[variable];
  if (fromEnv === undefined || fromEnv === '' || isServiceLink(variable, fromEnv)) return spec.otherwise;
  return spec.type === 'list' ? [fromEnv] : convert(spec, fromEnv, variable);
}

function convert(spec: FlagSpec, value: string, origin: string): unknown {
  switch (spec.type) {
    case 'string':
    case 'list':
      return value;
    case 'bool': {
      const parsed = parseBool(value);
      if (parsed !== undefined) return parsed;
      break;
    }
    case 'int': {
      const number = /^[+-]?\d+$/.test(value) ? Number(value) : NaN;
      if (number >= spec.min && number <= spec.max) return number;
      break;
    }
    case 'choice':
      if (spec.choices.includes(value)) return value;
  }
  throw usage(`${origin} is ${JSON.stringify(value)}: expected ${expected(spec)}`);
}

function expected(spec: FlagSpec): string {
  switch (spec.type) {
    case 'bool':
      return 'true or false';
    case 'int':
      return `an integer from ${spec.min} to ${spec.max}`;
    case 'choice':
      return `one of ${spec.choices.join(', ')}`;
    default:
      return 'text';
  }
}

// strconv.ParseBool
function parseBool(value: string): boolean | undefined {
  if (['1', 't', 'T', 'true', 'TRUE', 'True'].includes(value)) return true;
  return ['0', 'f', 'F', 'false', 'FALSE', 'False'].includes(value) ? false : undefined;
}

function usage(message: string): OverlayError {
  return new OverlayError('E_USAGE', message);
}

function shownDefault(spec: FlagSpec): string {
  return Array.isArray(spec.otherwise) ? '' : String(spec.otherwise);
}

/** What --help prints. */
export function usageText(): string {
  const lines = FLAGS.map((spec) => {
    const values = spec.type === 'choice' ? ` ${spec.choices.join('|')}` : '';
    const otherwise = shownDefault(spec);
    return `  --${spec.name}${values}\n        ${spec.help}${otherwise === '' ? '' : ` (default ${otherwise})`}`;
  });
  const rest = [
    '  --version',
    '        print the version and exit',
    '  --help',
    '        print this text and exit',
  ];
  return ['Usage: twilld [OPTION]...', ...lines, ...rest, ''].join('\n');
}

/** The flags as a Markdown table. */
export function flagsMarkdown(): string {
  const rows = FLAGS.map((spec) => {
    const values =
      spec.type === 'choice'
        ? spec.choices.join(', ')
        : spec.type === 'list'
          ? 'text, repeatable'
          : expected(spec);
    const otherwise = shownDefault(spec);
    return `| \`--${spec.name}\` | ${values} | ${otherwise === '' ? '' : `\`${otherwise}\``} | ${spec.help} |`;
  });
  return ['| flag | value | default | meaning |', '| --- | --- | --- | --- |', ...rows].join('\n');
}
