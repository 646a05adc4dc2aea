// What twilld will find in flanneld's place: `twill doctor --before-migration`.
//
// Everything is judged by what twilld itself does at its start, by the same functions: flags, config, interface, lease.
// Nothing is written.

import { readlinkSync } from 'node:fs';
import { basename } from 'node:path';
import { BACKEND_TYPES } from '../../backend/registry.js';
import { parseUdpBackend } from '../../backend/udp/config.js';
import { ALL_FLAGS, type Flags, valuesByName } from '../../config/flags.js';
import {
  leasableRange,
  type NetworkConfig,
  parseNetworkConfig,
  prefixesOf,
} from '../../config/network-config.js';
import { parseVxlanConfig } from '../../backend/vxlan/config.js';
import { chooseExternalInterface } from '../../kernel/underlay.js';
import { blockedRanges, parseLeaseKey, parseLeaseValue } from '../../lease/lease-codec.js';
import { fitsConfig } from '../../lease/subnet-picker.js';
import {
  type DualAddress,
  type DualPrefix,
  formatAddresses,
  formatPrefixes,
  prefixesOverlap,
} from '../../net/prefix.js';
import { openLogger } from '../../core/log.js';
import { EtcdConnection } from '../../store/etcd/connection.js';
import { parseEndpoints } from '../../store/etcd/endpoints.js';
import { EtcdKv } from '../../store/etcd/etcd-kv.js';
import { keyLayout, leaseKeyName, showKey } from '../../store/etcd/keys.js';
import { hasTlsFiles, type TlsFiles } from '../../store/etcd/tls-files.js';
import { MONOTONIC_CLOCK } from '../../core/waiting.js';
import { readSubnetFile } from '../../overlay/subnet-file.js';
import { type Finding, fail, ok, warn } from './finding.js';
import { environmentOf, isProgram, listProcesses, type Process } from '../processes.js';
import { readSettings, SERVICE_SETTINGS } from '../settings.js';
import { storeKind } from '../../store/registry.js';
import { isOneHost, sameSubnets } from '../../lease/lease.js';
import { familiesOf } from '../../net/dual.js';

const FLANNELD = 'flanneld';
const ANSWER_MS = 3_000;

/** That flanneld leaves one of these at its default says as much as a value. */
const ESSENTIAL: readonly string[] = [
  ...['etcd-endpoints', 'etcd-prefix', 'iface', 'iface-regex', 'iface-can-reach', 'public-ip'],
  ...['public-ipv6', 'subnet-file', 'ip-masq', 'iptables-forward-rules'],
];
/** Of no consequence for packets. */
const UNCOMPARED: readonly string[] = ['v'];
/** May hold a password. */
const UNSHOWN: readonly string[] = ['etcd-endpoints', 'etcd-username', 'etcd-password'];

export interface Migration {
  /** The store's config, if it can be had and twilld can use it. */
  readonly config: NetworkConfig | undefined;
  /** The UDP port of that config; undefined when it needs none. */
  readonly port: number | undefined;
  readonly findings: readonly Finding[];
}

/** `flags` are those that twilld would start with. */
export async function examineMigration(flags: Flags): Promise<Migration> {
  const { config, port, findings } = await examineStore(flags);
  return { config, port, findings: [...findings, ...checkFlanneld(flags)] };
}

/** The flanneld of this host: one in a container with a network of its own is another's. */
function findFlanneld(): Process | undefined {
  const network = (pid: string): string | undefined => {
    try {
      return readlinkSync(`/proc/${pid}/ns/net`);
    } catch {
      return undefined; // ended, or not ours to look at
    }
  };
  const here = network('self');
  return listProcesses()
    .filter((process) => isProgram(process, FLANNELD))
    .find(({ pid }) => (network(String(pid)) ?? here) === here);
}

function checkFlanneld(flags: Flags): Finding[] {
  const flanneld = findFlanneld();
  if (flanneld === undefined) return [warn(FLANNELD, 'does not run', 'nothing, if it was stopped already')];
  const environment = environmentOf(flanneld);
  const ofFlannel = Object.entries(environment ?? {}).filter(([name]) => name.startsWith('FLANNELD_'));
  const args = flanneld.command.slice(1 + flanneld.command.findIndex((word) => basename(word) === FLANNELD));
  let theirs: Flags;
  let defaults: Flags;
  try {
    theirs = readSettings(args, Object.fromEntries(ofFlannel), '').flags;
    defaults = readSettings([], {}, '').flags;
  } catch (error) {
    return [fail(FLANNELD, (error as Error).message, 'twilld does not take that: see operations.md')];
  }
  const findings = [
    environment === undefined
      ? warn(FLANNELD, 'its variables cannot be seen', 'run as root')
      : ok(FLANNELD, `twilld takes its flags and variables (process ${flanneld.pid})`),
  ];
  return [...findings, ...differingSettings(theirs, flags, defaults)];
}

/** A finding for each of flanneld's settings that twilld would not have. */
export function differingSettings(theirs: Flags, flags: Flags, defaults: Flags): Finding[] {
  return ALL_FLAGS.flatMap(({ name }) => {
    const [was, is] = [shapeOf(name, theirs), shapeOf(name, flags)];
    const isOfNote = was !== shapeOf(name, defaults) || ESSENTIAL.includes(name);
    if (was === is || !isOfNote || UNCOMPARED.includes(name)) return [];
    const values = UNSHOWN.includes(name) ? '' : `: "${was}", twilld "${is}"`;
    return [
      warn(FLANNELD, `has another --${name}${values}`, `put it into ${SERVICE_SETTINGS}, or behind --`),
    ];
  });
}

const tlsOf = ({ keyFile, certFile, caFile }: Flags['etcd']): TlsFiles => ({ keyFile, certFile, caFile });

/** Text that is equal for values that mean the same. */
function shapeOf(name: string, flags: Flags): string {
  if (name !== 'etcd-endpoints') return String(valuesByName(flags).get(name));
  try {
    return parseEndpoints(flags.etcd.endpoints, hasTlsFiles(tlsOf(flags.etcd)))
      .map(({ url }) => url)
      .sort()
      .join();
  } catch {
    return flags.etcd.endpoints; // its fault is told elsewhere
  }
}

/** What twilld will read from etcd, and make of it. */
async function examineStore(flags: Flags): Promise<Migration> {
  const none = { config: undefined, port: undefined };
  if (storeKind(flags.store) !== 'etcd') return { ...none, findings: [] };
  const connection = connect(flags.etcd);
  if (connection === undefined) return { ...none, findings: [] };
  const kv = new EtcdKv(connection);
  const layout = keyLayout(flags.etcd.prefix);
  const signal = AbortSignal.timeout(ANSWER_MS);
  const key = showKey(layout.configKey);
  try {
    const text = (await kv.get(layout.configKey, signal))?.value;
    if (text === undefined) {
      const advice = 'twilld waits for it: is --etcd-prefix that of flanneld?';
      return { ...none, findings: [fail('config', `none in etcd at "${key}"`, advice)] };
    }
    let config: NetworkConfig;
    let port: number | undefined;
    try {
      config = parseNetworkConfig(text, `etcd key "${key}"`);
      port = portOf(config);
    } catch (error) {
      return {
        ...none,
        findings: [fail('config', (error as Error).message, 'twilld does not start with it')],
      };
    }
    const leases = await kv.list(layout.leaseRange, signal, ({ key: leaseKey, value }) => {
      const name = leaseKeyName(layout, leaseKey);
      const blocked = name === undefined ? undefined : blockedRanges(name);
      if (name === undefined || blocked === undefined) return undefined;
      const attributes = value === undefined ? undefined : parseLeaseValue(value);
      const publicIp = attributes?.ok === true ? attributes.value.publicIp : undefined;
      return { subnets: parseLeaseKey(name).ok ? blocked : undefined, publicIp, blocked };
    });
    const shown = `network ${formatPrefixes(prefixesOf(config))}, backend ${config.backendType}`;
    return {
      config,
      port,
      findings: [ok('config', shown), ...(await checkLease(flags, config, leases.entries))],
    };
  } catch (error) {
    const text = signal.aborted ? `no answer from etcd within ${ANSWER_MS} ms` : (error as Error).message;
    return { ...none, findings: [fail('config', `not read: ${text}`, 'twilld asks etcd in the same way')] };
  } finally {
    connection.close();
  }
}

/** Undefined when the endpoints are wrong, which a check of its own says. */
function connect(flags: Flags['etcd']): EtcdConnection | undefined {
  const { username, password, proxy } = flags;
  try {
    return new EtcdConnection({
      endpoints: parseEndpoints(flags.endpoints, hasTlsFiles(tlsOf(flags))),
      tls: tlsOf(flags),
      auth: username === '' ? undefined : { username, password },
      proxy,
      log: openLogger({ level: 'warn', format: 'text', write: () => undefined }),
      clock: MONOTONIC_CLOCK,
      random: Math.random,
    });
  } catch {
    return undefined;
  }
}

/** The port that the hosts talk on; undefined for host-gw. Throws an Error for a backend that twilld has not. */
function portOf({ backendType, backend }: NetworkConfig): number | undefined {
  if (!BACKEND_TYPES.includes(backendType))
    throw new Error(`Backend.Type is "${backendType}": expected one of ${BACKEND_TYPES.join(', ')}`);
  if (backendType === 'host-gw') return undefined;
  return (backendType === 'udp' ? parseUdpBackend(backend) : parseVxlanConfig(backend)).port;
}

interface KnownLease {
  readonly subnets: DualPrefix | undefined;
  readonly publicIp: DualAddress | undefined;
  readonly blocked: DualPrefix;
}

/** Which lease twilld will take, as store/etcd/acquire.ts finds it. */
async function checkLease(
  flags: Flags,
  config: NetworkConfig,
  leases: readonly KnownLease[],
): Promise<Finding[]> {
  let publicIp: DualAddress;
  const findings: Finding[] = [];
  try {
    const iface = await chooseExternalInterface(flags.underlay, leasableRange(config));
    publicIp = iface.publicIp;
    const shown = `${iface.name} ${formatAddresses(iface.address)}, public IP ${formatAddresses(publicIp)}`;
    findings.push(ok('interface', shown));
  } catch (error) {
    return [fail('interface', (error as Error).message, 'name it with --iface')];
  }
  const { subnets: previous } = await readSubnetFile(flags.files.subnetFile);
  const own = leases.flatMap(({ subnets, publicIp: of }) =>
    of !== undefined && isOneHost(of, publicIp) && subnets !== undefined ? [subnets] : [],
  );
  const kept = own.find((subnets) => fitsConfig(config, subnets));
  const holder = leases.find(({ blocked }) => previous !== undefined && shareAddresses(blocked, previous));
  const ip = formatAddresses(publicIp);
  if (kept !== undefined) {
    findings.push(ok('lease', `${formatPrefixes(kept)} is that of ${ip}: twilld keeps it`));
  } else if (own.length > 0) {
    const text = `${formatPrefixes(own[0])} of ${ip} does not fit the network config`;
    findings.push(fail('lease', text, 'twilld takes another subnet, and containers lose their addresses'));
  } else if (previous !== undefined && holder !== undefined) {
    const of = holder.publicIp === undefined ? 'another host' : formatAddresses(holder.publicIp);
    const text = `${formatPrefixes(previous)} of the subnet file is leased to ${of}, and twilld would be ${ip}`;
    const advice = 'give twilld the --iface or --public-ip of flanneld: it takes another subnet else';
    findings.push(fail('lease', text, advice));
  } else if (previous !== undefined && fitsConfig(config, previous)) {
    findings.push(
      ok('lease', `none of ${ip}; ${formatPrefixes(previous)} of the subnet file is free: twilld takes it`),
    );
  } else {
    findings.push(
      warn('lease', `none of ${ip}: twilld takes a new subnet`, 'nothing, if flanneld never ran here'),
    );
  }
  findings.push(subnetFileFinding(flags.files.subnetFile, previous, kept));
  return findings;
}

function shareAddresses(a: DualPrefix, b: DualPrefix): boolean {
  return familiesOf(a).some((family) => b[family] !== undefined && prefixesOverlap(a[family]!, b[family]));
}

function subnetFileFinding(
  path: string,
  previous: DualPrefix | undefined,
  kept: DualPrefix | undefined,
): Finding {
  if (previous === undefined)
    return warn(
      'subnet file',
      `${path} has no subnet`,
      'is --subnet-file that of flanneld? twilld writes it anew',
    );
  const shown = `${path} says ${formatPrefixes(previous)}`;
  return kept === undefined || sameSubnets(kept, previous)
    ? ok('subnet file', shown)
    : warn('subnet file', `${shown}, the lease is ${formatPrefixes(kept)}`, 'twilld goes by the lease');
}
