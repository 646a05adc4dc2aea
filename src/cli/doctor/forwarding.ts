// Whether the kernel of this host forwards packets of the overlay, for each address family that the network has. A
// network that is not known yet is taken to be IPv4.

import { blockingRule } from '../../firewall/blocking-rule.js';
import { runCommand } from '../../kernel/command.js';
import { readInterfaceSysctl, readSysctl } from '../../kernel/sysctl.js';
import { familiesOf, type FamilyName } from '../../net/dual.js';
import { type Address, type DualPrefix, parseAnyPrefix, type Prefix } from '../../net/prefix.js';
import { type Finding, fail, ok, warn } from './finding.js';

const OF_FAMILY = {
  v4: { key: 'net/ipv4/ip_forward', iptables: 'iptables', anything: '0.0.0.0/0' },
  v6: { key: 'net/ipv6/conf/all/forwarding', iptables: 'ip6tables', anything: '::/0' },
} as const;

/** What is known of the overlay. */
export interface OverlayFacts {
  readonly networks: DualPrefix | undefined;
  /** The interface between hosts. */
  readonly uplink: string | undefined;
  /** The device that carries IPv6 packets of the overlay; undefined in the host-gw mode. */
  readonly deviceV6: string | undefined;
}

/** `find` gives the path of a program. */
export async function checkForwardingOf(
  facts: OverlayFacts,
  find: (program: string) => string | undefined,
): Promise<Finding[]> {
  const { networks } = facts;
  const families = networks === undefined ? (['v4'] as const) : familiesOf(networks);
  const findings: Finding[] = [];
  for (const family of families) findings.push(await checkForwarding(family));
  if (networks?.v6 !== undefined) findings.push(...(await checkIpv6(facts)));
  for (const family of families)
    findings.push(await checkForwardPolicy(family, networks?.[family], find(OF_FAMILY[family].iptables)));
  return findings;
}

async function checkForwarding(family: FamilyName): Promise<Finding> {
  const { key } = OF_FAMILY[family];
  const name = key.replaceAll('/', '.');
  return (await readSysctl(key)) === '1'
    ? ok('forwarding', `${name} is 1`)
    : fail('forwarding', `${name} is not 1`, `sysctl -w ${name}=1, and in /etc/sysctl.d`);
}

/** A kernel that forwards IPv6 takes routes from router advertisements only where accept_ra is 2 (ip-sysctl.rst). */
async function checkIpv6({ uplink, deviceV6 }: OverlayFacts): Promise<Finding[]> {
  // What the bridge of the pods, and each pod's end of it, is made with.
  const ofNew = await readSysctl('net/ipv6/conf/default/disable_ipv6');
  if (ofNew === undefined)
    return [fail('IPv6', 'the kernel has no IPv6', 'boot it without ipv6.disable=1, or load the module')];
  const off: string[] = ofNew === '0' ? [] : ['default'];
  if (deviceV6 !== undefined && (await readInterfaceSysctl('ipv6', deviceV6, 'disable_ipv6')) === '1')
    off.push(deviceV6);
  const findings = off.map((name) => {
    const setting = `net.ipv6.conf.${name.replaceAll('.', '/')}.disable_ipv6`;
    const advice = `sysctl -w ${setting}=0, and see who sets it in /etc/sysctl.d`;
    return fail('IPv6', `${setting} is 1: pods get no IPv6 packets`, advice);
  });
  if (uplink !== undefined && (await losesDefaultRoute(uplink))) {
    const setting = `net.ipv6.conf.${uplink.replaceAll('.', '/')}.accept_ra`;
    const text = `${setting} is 1: a host that forwards loses the default route it has of a router`;
    findings.push(warn('IPv6', text, `sysctl -w ${setting}=2, and in /etc/sysctl.d`));
  }
  return findings.length > 0 ? findings : [ok('IPv6', 'disable_ipv6 is 0')];
}

async function losesDefaultRoute(uplink: string): Promise<boolean> {
  const forwards = await readInterfaceSysctl('ipv6', uplink, 'forwarding');
  if (forwards !== '1' || (await readInterfaceSysctl('ipv6', uplink, 'accept_ra')) !== '1') return false;
  const { stdout } = await runCommand('ip', ['-6', 'route', 'show', 'default', 'dev', uplink, 'proto', 'ra']);
  return stdout.trim() !== '';
}

async function checkForwardPolicy(
  family: FamilyName,
  network: Prefix<Address> | undefined,
  program: string | undefined,
): Promise<Finding> {
  const { iptables, anything } = OF_FAMILY[family];
  const check = 'forward policy';
  if (program === undefined) return ok(check, `no ${iptables} on this host`);
  const { status: exit, stdout, stderr } = await runCommand(iptables, ['-S']);
  if (exit !== 0) return warn(check, stderr.trim().split('\n')[0] ?? '', 'run as root to see it');
  const lines = stdout.split('\n');
  const rulesOf = (chain: string) => lines.filter((line) => line.startsWith(`-A ${chain} `));
  const chain = `${family === 'v4' ? '' : 'IPv6 '}FORWARD`;
  const ours = network ?? parseAnyPrefix(anything)!;
  const refusal = blockingRule(rulesOf('FORWARD'), 'FLANNEL-FWD', ours, rulesOf);
  if (refusal !== undefined) {
    const text = `${chain} rule ${refusal.number} "${refusal.rule}" refuses packets of the overlay`;
    return warn(check, text, 'start the daemon with --iptables-forward-first, or move that rule to the end');
  }
  if (!/^-P FORWARD DROP$/m.test(stdout)) return ok(check, `${chain} accepts`);
  if (stdout.includes('-j FLANNEL-FWD')) return ok(check, `${chain} drops, our rules accept the overlay`);
  const advice =
    'start the daemon with --iptables-forward-rules (the default), or accept the overlay by a rule of your own';
  return warn(check, `${chain} drops and there is no rule for the overlay`, advice);
}
