// What can be wrong while the daemon runs, as conditions with stable codes.
//
// A part says only that a condition holds, and in which words. How bad it is, whose fault it is and what to do about it
// belong to the code and stand here alone, so that /readyz, /status, the metrics, the log and the documents cannot
// differ. What becomes worse with time is another code.
//
// Not ready (503) is what *this* host cannot do: an error of scope node. A rolling update stops at a node that is not
// ready, so nothing that one host, or one edit in the store, does to all others may count.

import { messageOf } from './errors.js';
import { groupBy } from './group-by.js';

/** An error: something that was promised does not work. A warning: it works, and somebody should look. */
export type Severity = 'error' | 'warning';

/** Whose it is: this host's, another host's, or the store's and so every host's alike. */
export type Scope = 'node' | 'peer' | 'cluster';

interface Kind {
  readonly severity: Severity;
  readonly scope: Scope;
  readonly meaning: string;
  readonly action: string;
}

const error = (meaning: string, action: string): Kind => ({
  severity: 'error',
  scope: 'node',
  meaning,
  action,
});
const warning = (scope: Scope, meaning: string, action: string): Kind => ({
  severity: 'warning',
  scope,
  meaning,
  action,
});

/** Every condition there is. A code is never reused for another meaning. */
export const CONDITIONS = {
  starting: error('the daemon is still starting', 'the text says what it waits for'),
  'config-missing': error(
    'there is no network config in the store',
    'write it: etcdctl put <prefix>/config \'{"Network":"10.244.0.0/16"}\'',
  ),
  'interface-down': error(
    'the external interface is down, or it or its address is gone',
    'see `ip address`; compare --iface and its kin',
  ),
  'public-ip-changed': error(
    'this host has another public IP than its lease says',
    'the daemon publishes the new one; if this lasts, see the text',
  ),
  'subnet-file': error(
    'subnet.env cannot be written: new pods get no network',
    'see the folder of --subnet-file: permissions, space, read-only mount',
  ),
  'repair-failed': error(
    'comparing the kernel with the desired state failed twice in a row',
    'see the text; `twill doctor`',
  ),
  'no-permission': error(
    'the kernel refuses a change for lack of permission, twice in a row',
    'give CAP_NET_ADMIN: in the unit, or in the securityContext of the container',
  ),
  'data-path-down': error('the device or the socket is not open: no packet flows', 'see the text'),
  'network-route': error(
    'the Network is routed by somebody else: nothing enters the overlay here',
    'remove that route, or choose another Network: `ip route show exact <Network>`',
  ),
  'worker-hung': error('a thread of the data path does not move', 'restart twilld if it lasts'),
  'source-check-off': error(
    'the promised source check of vxlan is not in force',
    'install nft, or see why it fails: nft list ruleset',
  ),
  'kernel-unprogrammed': error('no peer could be programmed', 'see the text; `ip route`, `bridge fdb`'),
  'public-ip-nat': error('host-gw cannot work behind NAT', 'use vxlan or udp, or drop --public-ip'),
  'store-unreachable': error(
    'the store cannot be used: changes are not learned, the lease is not renewed',
    'see the text; packets flow on with what is known',
  ),
  'saved-table': error('the saved lease table is in use until the store answers', 'see the text'),
  'store-file': error(
    "the static store's file cannot be used: changes are not learned",
    'mend the file; replace it by renaming a new one over it',
  ),
  'store-watch-down': error('the store answers, but changes are not learned', 'see the text'),
  'lease-not-acquired': error('the store has not granted a lease yet', 'see the text'),
  'node-missing': error(
    'the own Node is not known to the API server',
    'does kubelet run, and is NODE_NAME right? kubectl get nodes',
  ),
  'pod-cidr-missing': error(
    'the own Node has no podCIDR: the host has no subnet',
    'give the controller manager --allocate-node-cidrs and --cluster-cidr (kubeadm: --pod-network-cidr)',
  ),
  'lease-not-published': error(
    'the own Node cannot be annotated: other hosts do not learn of this one',
    'see the text; 403: the account needs the verb patch on nodes/status',
  ),
  'lease-overwritten': error(
    'somebody else has written our lease',
    'find the other host; with etcd, restart to take another subnet',
  ),
  'lease-twin': error(
    'another daemon publishes our lease with our public IP',
    'stop one: a cloned machine, or a second daemon',
  ),
  'lease-expiring': error(
    'the lease could not be renewed and ends soon',
    'see why etcd refuses: after it, another host may take the subnet',
  ),
  firewall: error('a part of the firewall rules is not in force', 'see the text'),
  'forward-refused': error(
    'a rule of FORWARD refuses packets of the overlay before ours accepts them',
    'move it behind the jump to FLANNEL-FWD, or start with --iptables-forward-first',
  ),
  'forwarding-off': error(
    'the kernel does not forward packets between pods and the overlay',
    'sysctl -w net.ipv4.ip_forward=1, and lasting in /etc/sysctl.d',
  ),
  'health-failed': error('a part of the daemon cannot say how it is', 'report it with the log'),

  'safe-mode': warning(
    'node',
    'five crashes within a minute: offloads are off until the next start',
    'see the log for what crashed; report it, then restart twilld',
  ),
  'accept-ra-off': warning(
    'node',
    'the IPv6 address of the uplink comes from router advertisements, which this kernel does not take: it will expire',
    'sysctl -w net.ipv6.conf.<uplink>.accept_ra=2, and lasting in /etc/sysctl.d',
  ),
  'bridge-filter-off': warning(
    'node',
    'bridged packets of pods miss the iptables rules (Services between pods of one host)',
    'modprobe br_netfilter; sysctl -w net.bridge.bridge-nf-call-iptables=1',
  ),
  'firewall-cleanup': warning(
    'node',
    'old firewall rules could not be removed, or the blackhole route not be made',
    'see the text',
  ),
  'lease-not-renewed': warning('node', 'renewing the lease failed; it is tried again', 'see the text'),
  'node-annotation-invalid': warning(
    'node',
    'an annotation that an operator wrote for this node is not used',
    'mend or remove it: kubectl annotate node',
  ),
  'node-annotation-changed': warning(
    'node',
    'an annotation that an operator wrote for this node was changed: it is used from the next restart on',
    'restart twilld on this node',
  ),
  'table-not-saved': warning('node', 'the lease table cannot be saved', 'see its folder'),
  'store-certificates': warning(
    'node',
    'changed certificate files for etcd cannot be used; the old ones are in use',
    'see the files',
  ),
  'probes-off': warning(
    'node',
    'path probes are off: no round-trip times, losses and path MTUs of peers',
    'see the text; start with --path-probes=false if they are not wanted',
  ),

  'peer-other-type': warning(
    'peer',
    'a host runs another backend type: nothing is sent to it',
    'give all hosts one type',
  ),
  'peer-route-loop': warning(
    'peer',
    "a host's public IP is reached through the overlay itself",
    'see `ip route get`',
  ),
  'peer-off-link': warning('peer', 'a host cannot be a gateway (host-gw)', 'one link for all, or vxlan'),
  'peer-invalid': warning('peer', "a host's lease cannot be used", 'see the text'),
  'peer-route-conflict': warning(
    'peer',
    "a host's subnet, or a part of it, is routed by somebody else",
    'remove that route: `ip route`',
  ),
  'peer-unprogrammed': warning('peer', 'the kernel refuses what a peer needs; tried again', 'see the text'),
  'peer-unreachable': warning(
    'peer',
    'no echo comes back from a host through the overlay',
    'is its twilld up, and may its UDP port be reached? twill peers',
  ),
  'lease-refused': warning('peer', "a host's lease is refused: nothing is sent to it", 'twill leases'),
  'lease-nested': warning('peer', 'leases lie inside others', 'twill leases'),
  'lease-unreadable': warning(
    'peer',
    'leases in the store cannot be understood',
    'twill leases; mend or remove them',
  ),

  'config-changed': warning(
    'cluster',
    'the network config was changed: it is used from the next restart on',
    'restart twilld, one host after another',
  ),
  'config-invalid': warning(
    'cluster',
    'the network config is gone or invalid: the last good one is used',
    'mend it',
  ),
  'store-alarm': warning(
    'cluster',
    'etcd refuses writes',
    'NOSPACE: compact, defragment, etcdctl alarm disarm',
  ),
  'leases-vanished': warning(
    'cluster',
    'leases vanished without being deleted: kept a while',
    'see the store',
  ),
  'leases-too-many': warning('cluster', 'more leases than can be held', 'remove old ones'),
} as const satisfies Record<string, Kind>;

/** A stable code; docs/operations.md says what each means and what to do. */
export type ConditionCode = keyof typeof CONDITIONS;

/** Something that holds at this moment. */
export interface Condition {
  readonly code: ConditionCode;
  /** What, with names and values. One line; may hold text of the store. */
  readonly text: string;
  /** Of how many peers or leases it is true. @default 1 */
  readonly count?: number;
}

export function condition(code: ConditionCode, text: string, count = 1): Condition {
  return { code, text, count };
}

/** Reasons named in one condition; the rest is a count. */
export const NAMED = 5;

/** One condition for all of one code: `texts` of the first five, and how many more there are. */
export function conditionOfMany(
  code: ConditionCode,
  texts: readonly string[],
  count = texts.length,
): Condition {
  const more = count - NAMED;
  const named = texts.slice(0, NAMED).join('; ');
  return condition(code, more > 0 ? `${named}; and ${more} more` : named, count);
}

/** One condition for each code, in the order in which the codes are met first. */
export function conditionsOf(faults: Iterable<Pick<Condition, 'code' | 'text'>>): Condition[] {
  return Array.from(
    groupBy(faults, ({ code }) => code),
    ([code, ofCode]) =>
      conditionOfMany(
        code,
        ofCode.map(({ text }) => text),
      ),
  );
}

/**
 * The conditions of one part. The code that meets a fault holds it under its subject, and the code that finds it over
 * releases it. /readyz lists exactly these, and the log says each of them once (ops/health.ts), so a part needs neither
 * to remember a fault nor to log it.
 */
export class Conditions {
  readonly #held = new Map<string, Condition>();

  /** `text` is true of `subject` from now on, whatever was said of it before. */
  hold(code: ConditionCode, text: string, subject: string = code): void {
    this.#held.set(subject, condition(code, text));
  }

  /** Nothing is wrong with these subjects any more; a condition without a subject of its own has its code as one. */
  release(...subjects: readonly string[]): void {
    for (const subject of subjects) this.#held.delete(subject);
  }

  /** hold(), or release() when there is no text. */
  set(code: ConditionCode, text: string | undefined, subject: string = code): void {
    if (text === undefined) this.release(subject);
    else this.hold(code, text, subject);
  }

  /** The text that is held for a subject. */
  textOf(subject: string): string | undefined {
    return this.#held.get(subject)?.text;
  }

  /** One condition for each code. */
  list(): readonly Condition[] {
    return conditionsOf(this.#held.values());
  }
}

/** Whether a condition makes this host not ready. */
export function makesUnready({ code }: { readonly code: ConditionCode }): boolean {
  const { severity, scope }: Kind = CONDITIONS[code];
  return severity === 'error' && scope === 'node';
}

const REFUSED = /Operation not permitted|Permission denied|must be root|EPERM|EACCES/;

/** Whether the kernel, or a program that asked it, refused for lack of a capability. */
export function isPermission(error: unknown): boolean {
  return REFUSED.test(messageOf(error));
}

/** The conditions as a Markdown table. */
export function conditionsMarkdown(): string {
  const rows = Object.entries(CONDITIONS).map(
    ([code, { severity, scope, meaning, action }]) =>
      `| \`${code}\` | ${severity} | ${scope} | ${meaning} | ${action.replaceAll('|', '\\|')} |`,
  );
  return [
    '| code | severity | scope | meaning | what to do |',
    '| --- | --- | --- | --- | --- |',
    ...rows,
  ].join('\n');
}
