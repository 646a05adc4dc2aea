// `twill doctor`: looks at everything a host needs, and says what to do about what is missing.

import { accessSync, constants, openSync, closeSync, readFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { release } from 'node:os';
import type { Flags } from '../../config/flags.js';
import { prefixesOf } from '../../config/network-config.js';
import { UDP_PORT, VXLAN_PORT } from '../../core/defaults.js';
import { listLinks } from '../../kernel/link.js';
import { readSubnetFile } from '../../overlay/subnet-file.js';
import { dualOf } from '../../net/dual.js';
import { type DualPrefix, formatPrefixes, parsePrefix } from '../../net/prefix.js';
import { type Endpoint, parseEndpoints } from '../../store/etcd/endpoints.js';
import { hasTlsFiles } from '../../store/etcd/tls-files.js';
import { type Command, show, UsageError } from '../command.js';
import type { StatusDocument } from '../../ops/status.js';
import { DaemonUnreachable, devicesOf, fetchStatus, udpOf } from '../daemon-client.js';
import { checkApiServer } from './api-server.js';
import { checkForwardingOf } from './forwarding.js';
import { type Finding, fail, ok, warn } from './finding.js';
import { formatDuration, screenWidth, wrap } from '../format.js';
import type { Migration } from './migration.js';
import { holderOf, isProgram, isTwilld, udpSockets } from '../processes.js';
import { readSettings, SERVICE_SETTINGS, type Settings } from '../settings.js';
import { storeKind } from '../../store/registry.js';

export type { Finding } from './finding.js';

const LEAST_KERNEL = [5, 10];
const TUN = '/dev/net/tun';
const NO_IP6TABLES = 'apt-get install iptables or nftables, or run with --iptables-forward-rules=false';
const CAP_NET_ADMIN = 12;
const CAP_NET_RAW = 13;
const ETCD_ANSWER_MS = 3_000;

function checkKernel(): Finding {
  const [major, minor] = release().split('.').map(Number);
  const isEnough = major > LEAST_KERNEL[0] || (major === LEAST_KERNEL[0] && minor >= LEAST_KERNEL[1]);
  return isEnough
    ? ok('kernel', `Linux ${release()}`)
    : fail('kernel', `Linux ${release()}`, `Linux ${LEAST_KERNEL.join('.')} or later is needed`);
}

function checkTun(): Finding {
  try {
    closeSync(openSync(TUN, 'r+'));
    return ok('tun', `${TUN} can be opened`);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const advice =
      code === 'EACCES' || code === 'EPERM'
        ? 'run as root'
        : 'modprobe tun; in a container, pass the device in';
    return fail('tun', message, advice);
  }
}

/** Capabilities in force, by bit (capabilities(7)). */
function checkCapabilities(): Finding[] {
  const mask = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  const has = (bit: number): boolean => ((BigInt(`0x${mask}`) >> BigInt(bit)) & 1n) === 1n;
  return [
    has(CAP_NET_ADMIN)
      ? ok('capability', 'CAP_NET_ADMIN')
      : fail('capability', 'no CAP_NET_ADMIN', 'run as root, or give the service this capability'),
    has(CAP_NET_RAW)
      ? ok('capability', 'CAP_NET_RAW')
      : warn('capability', 'no CAP_NET_RAW', 'iptables in legacy mode and path probes need it'),
  ];
}

function findProgram(name: string): string | undefined {
  const folders = `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`.split(':');
  return folders
    .filter((folder) => folder !== '')
    .map((folder) => `${folder}/${name}`)
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

function checkPrograms(hasIpv6: boolean): Finding[] {
  const needed = findProgram('ip');
  const has = (name: string): boolean => findProgram(name) !== undefined;
  const firewalls = ['nft', 'iptables'].filter(has);
  const lacksIp6tables = hasIpv6 && !has('nft') && has('iptables') && !has('ip6tables');
  return [
    needed === undefined
      ? fail('programs', 'no ip', 'apt-get install iproute2')
      : ok('programs', `ip is ${needed}`),
    firewalls.length === 0
      ? warn(
          'programs',
          'neither nft nor iptables',
          'apt-get install nftables, or run with --iptables-forward-rules=false',
        )
      : ok('programs', `for rules: ${firewalls.join(', ')}`),
    ...(lacksIp6tables ? [warn('programs', 'no ip6tables: no rules for IPv6', NO_IP6TABLES)] : []),
  ];
}

async function checkPort(
  status: StatusDocument | undefined,
  migration: Migration | undefined,
): Promise<Finding> {
  const type = status?.backend.type ?? migration?.config?.backendType;
  if (type === 'host-gw') return ok('port', 'host-gw needs none');
  const isVxlan = type === 'vxlan';
  const { backend } = status ?? {};
  const ofDaemon = backend !== undefined && 'port' in backend ? backend.port : undefined;
  const port = ofDaemon ?? migration?.port ?? (isVxlan ? VXLAN_PORT : UDP_PORT);
  const sockets = udpSockets(port);
  const isTaken = sockets.length > 0;
  if (status !== undefined) {
    return isTaken || isVxlan
      ? ok('port', `UDP ${port} is ours`)
      : fail('port', `UDP ${port} is not open`, 'see twill status');
  }
  if (!isTaken) return ok('port', `UDP ${port} is free`);
  const holder = holderOf(sockets);
  if (holder === undefined) {
    const links = await listLinks();
    const device = links.find(({ kind, data }) => kind === 'vxlan' && data['port'] === port);
    if (device === undefined)
      return warn('port', `UDP ${port} is in use, by whom cannot be seen`, 'run as root to see it');
    const text = `UDP ${port} is held by the vxlan device ${device.name}`;
    return isVxlan ? ok('port', text) : fail('port', text, 'delete the device, or set Backend.Port');
  }
  const { pid } = holder;
  if (isTwilld(holder)) return ok('port', `UDP ${port} is ours: twilld, process ${pid}`);
  if (isProgram(holder, 'flanneld')) {
    const text = `UDP ${port} is held by flanneld, process ${pid}`;
    return migration !== undefined
      ? ok('port', `${text}, until it is stopped`)
      : fail('port', text, 'systemctl disable --now flanneld: one of the two at a time');
  }
  const [program] = holder.command;
  return fail('port', `UDP ${port} is taken by ${program}, process ${pid}`, 'stop it, or set Backend.Port');
}

function readIfGiven(path: string): Buffer | undefined {
  return path === '' ? undefined : readFileSync(path);
}

/** Asks an etcd whether it is healthy (GET /health). */
function askEtcd(endpoint: string, flags: Flags['etcd']): Promise<string> {
  return new Promise((resolve, reject) => {
    const url = new URL('/health', endpoint);
    const options = {
      timeout: ETCD_ANSWER_MS,
      ca: readIfGiven(flags.caFile),
      cert: readIfGiven(flags.certFile),
      key: readIfGiven(flags.keyFile),
    };
    const asked = (url.protocol === 'https:' ? httpsRequest : httpRequest)(url, options, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (text = (text + chunk).slice(0, 1000)));
      response.on('end', () =>
        response.statusCode === 200
          ? resolve(text.trim())
          : reject(new Error(`status ${response.statusCode}: ${text.trim()}`)),
      );
    });
    asked.on('timeout', () => asked.destroy(new Error(`no answer within ${ETCD_ANSWER_MS} ms`)));
    asked.on('error', reject);
    asked.end();
  });
}

/** Those the daemon uses, when it can be asked: what this shell would use says nothing of it. */
function endpointsOf(flags: Flags['etcd'], status: StatusDocument | undefined): readonly Endpoint[] {
  const used = status?.store.kind === 'etcd' ? status.store.endpoints : undefined;
  const hasTls = hasTlsFiles({
    keyFile: flags.keyFile,
    certFile: flags.certFile,
    caFile: flags.caFile,
  });
  return parseEndpoints(used?.join(',') ?? flags.endpoints, hasTls);
}

async function checkEtcd(flags: Flags, status: StatusDocument | undefined): Promise<Finding[]> {
  const store = status?.store.kind ?? storeKind(flags.store);
  if (store !== 'etcd') return [ok('etcd', `not used: the store is ${store}`)];
  let endpoints: readonly Endpoint[];
  try {
    endpoints = endpointsOf(flags.etcd, status);
  } catch (error) {
    return [fail('etcd', (error as Error).message, 'mend --etcd-endpoints or FLANNELD_ETCD_ENDPOINTS')];
  }
  const findings = await Promise.all(
    endpoints.map(async ({ url }) => {
      try {
        return ok('etcd', `${url}: ${await askEtcd(url, flags.etcd)}`);
      } catch (error) {
        const { code, message } = error as NodeJS.ErrnoException;
        return warn('etcd', `${url}: ${code ?? message}`, 'is it running, and reachable from this host?');
      }
    }),
  );
  const connected = status?.store.kind === 'etcd' ? status.store.connectedTo : undefined;
  // The daemon's own connection is the proof; our question may lack its certificates.
  if (typeof connected === 'string')
    return [
      ok('etcd', `the daemon is connected to ${connected}`),
      ...findings.filter(({ text }) => !text.startsWith(`${connected}:`)),
    ];
  if (findings.some(({ state }) => state === 'ok')) return findings;
  return findings.map((finding) => ({
    ...finding,
    state: 'fail',
    advice:
      'no endpoint answers: check --etcd-endpoints or FLANNELD_ETCD_ENDPOINTS, the network and TLS files',
  }));
}

/** A finding for each condition, with what to do; older daemons have only texts. */
function conditionFindings({ conditions, degraded }: StatusDocument): Finding[] {
  if (conditions === undefined)
    return degraded.map((reason) => warn('daemon', `degraded: ${reason}`, 'docs/troubleshooting.md'));
  return conditions.map(({ severity, scope, code, text, action, seconds }) => {
    const since = `${code} for ${formatDuration(seconds)}: ${text}`;
    return severity === 'error' && scope === 'node'
      ? fail('daemon', since, action)
      : warn('daemon', since, action);
  });
}

async function checkDaemon(
  socketPath: string,
  isBefore: boolean,
): Promise<{ status?: StatusDocument; findings: Finding[] }> {
  try {
    const status = await fetchStatus(socketPath);
    const findings = conditionFindings(status);
    if (!status.ready && findings.length === 0)
      findings.push(fail('daemon', 'not ready', 'see its log: journalctl -u twilld'));
    return {
      status,
      findings: findings.length > 0 ? findings : [ok('daemon', `twill ${status.version} is ready`)],
    };
  } catch (error) {
    if (!(error instanceof DaemonUnreachable)) throw error;
    if (isBefore && error.isAbsent) return { findings: [ok('daemon', 'twilld does not run yet')] };
    const advice = error.isAbsent
      ? 'start it: systemctl start twilld'
      : error.isForbidden
        ? 'run as root: sudo twill doctor'
        : 'it listens, but does not answer: journalctl -u twilld';
    return { findings: [warn('daemon', error.message, advice)] };
  }
}

function checkOffloads(status: StatusDocument): Finding[] {
  const offloads = udpOf(status)?.offloads;
  if (offloads === undefined) return [];
  const missing = Object.entries(offloads).filter(([, value]) => value === false);
  const off = Object.entries(offloads).flatMap(([name, value]) => (value === 'off' ? [name] : []));
  const switchedOff = off.length === 0 ? '' : `, switched off: ${off.join(', ')}`;
  if (missing.length === 0) return [ok('offloads', `all granted${switchedOff}`)];
  const names = missing.map(([name]) => name).join(', ');
  return [
    warn(
      'offloads',
      `not granted: ${names}${switchedOff}`,
      'a newer kernel may have them; the path is slower then, not wrong',
    ),
  ];
}

function checkLane(status: StatusDocument): Finding[] {
  const lane = udpOf(status)?.lane;
  if (lane === undefined) return [];
  const { asked, mode, why = '' } = lane;
  if (asked === 'off' || mode !== 'off') return [ok('kernel lane', mode)];
  const advice = 'the workers carry all packets: round trips are longer, nothing is wrong; docs/lane.md';
  return [warn('kernel lane', `off: ${why}`, advice)];
}

function checkMtu({ lease, interface: iface, peers }: StatusDocument): Finding[] {
  if (lease === undefined || iface === undefined) return [];
  const findings: Finding[] = [];
  if (lease.mtuBytes > iface.mtuBytes) {
    findings.push(
      fail('mtu', `overlay ${lease.mtuBytes} > ${iface.name} ${iface.mtuBytes}`, 'restart the daemon'),
    );
  }
  const narrow = peers.filter(({ mtuBytes }) => mtuBytes !== undefined && mtuBytes < lease.mtuBytes);
  for (const { publicIp, mtuBytes } of narrow.slice(0, 10)) {
    findings.push(
      warn(
        'mtu',
        `the path to ${publicIp} takes ${mtuBytes} of ${lease.mtuBytes}`,
        'containers are told; check the links between',
      ),
    );
  }
  return findings.length > 0
    ? findings
    : [ok('mtu', `overlay ${lease.mtuBytes}, ${iface.name} ${iface.mtuBytes}`)];
}

async function checkSubnetFile(status: StatusDocument): Promise<Finding> {
  const path = status.subnetFile;
  const { subnets } = await readSubnetFile(path);
  const own = status.lease?.subnet;
  if (subnets === undefined) return fail('subnet file', `${path} has no subnet`, 'see the log of the daemon');
  return formatPrefixes(subnets) === own
    ? ok('subnet file', `${path} says ${own}`)
    : fail(
        'subnet file',
        `${path} says ${formatPrefixes(subnets)}, the lease is ${own}`,
        'another daemon writes it as well: give each its own --subnet-file',
      );
}

function networksOf(status: StatusDocument | undefined): DualPrefix | undefined {
  const { v4 = '', v6 = '' } = status?.networks ?? {};
  const networks = [parsePrefix(v4), parsePrefix(v6, 6)] as const;
  return networks.every((network) => network === undefined) ? undefined : dualOf(...networks);
}

export interface ExamineOptions {
  /** flanneld runs still, and twilld not yet: that is how it should be. @default false */
  readonly isBefore?: boolean;
}

/** Runs all checks. */
export async function examine(
  socketPath: string,
  flags: Flags,
  { isBefore = false }: ExamineOptions = {},
): Promise<Finding[]> {
  const { status, findings } = await checkDaemon(socketPath, isBefore);
  const migration = isBefore ? await (await import('./migration.js')).examineMigration(flags) : undefined;
  const networks = networksOf(status) ?? (migration?.config && prefixesOf(migration.config));
  const facts = { networks, uplink: status?.interface?.name, deviceV6: devicesOf(status).v6 };
  return [
    checkKernel(),
    checkTun(),
    ...checkCapabilities(),
    ...checkPrograms(networks?.v6 !== undefined),
    ...(await checkForwardingOf(facts, findProgram)),
    await checkPort(status, migration),
    ...(await checkEtcd(flags, status)),
    ...checkApiServer(status?.store, storeKind(flags.store) === 'kube'),
    ...findings,
    ...(migration?.findings ?? []),
    ...(status === undefined
      ? []
      : [...checkOffloads(status), ...checkLane(status), ...checkMtu(status), await checkSubnetFile(status)]),
  ];
}

/** Where the text of a finding begins. */
const TEXT_COLUMN = 22;

export function findingsText(findings: readonly Finding[], width: number): string {
  const lines = (text: string, mark: string): string =>
    mark + wrap(text, width - TEXT_COLUMN - mark.length).join(`\n${' '.repeat(TEXT_COLUMN + mark.length)}`);
  return findings
    .map(({ check, state, text, advice }) => {
      const found = `${state.padEnd(4)}  ${check.padEnd(14)}  ${lines(text, '')}`;
      return advice === '' ? found : `${found}\n${' '.repeat(TEXT_COLUMN)}${lines(advice, '→ ')}`;
    })
    .join('\n');
}

export const DOCTOR: Command = {
  name: 'doctor',
  summary: 'checks what this host needs and says what to do; exit code 1 when something is missing',
  help: [
    '--before-migration  flanneld runs still: would twilld do in its place?',
    `-- FLAGS     flags the daemon runs with; FLANNELD_* variables and ${SERVICE_SETTINGS} count too`,
  ],
  options: { 'before-migration': { type: 'boolean' } },
  run: async (context) => {
    const { flags, fault } = settingsFor(context.rest);
    const isBefore = context.options['before-migration'] === true;
    const findings = [
      ...(fault === undefined
        ? []
        : fault.isForbidden
          ? [warn('settings', fault.text, 'run as root: sudo twill doctor')]
          : [fail('settings', fault.text, 'mend it: twilld will not start')]),
      ...(await examine(context.socketPath, flags, { isBefore })),
    ];
    show(context, findings, () => findingsText(findings, screenWidth()));
    return findings.some(({ state }) => state === 'fail') ? 1 : 0;
  },
};

function settingsFor(args: readonly string[]): Settings {
  try {
    return readSettings(args, process.env);
  } catch (error) {
    if (error instanceof RangeError) throw new UsageError('behind "--" expected flags of twilld');
    throw error;
  }
}
