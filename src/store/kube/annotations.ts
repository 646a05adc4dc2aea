// What a host tells the others in the annotations of its Node, and what it is told in them. Pure.
//
//   flannel.alpha.coreos.com/backend-type: vxlan
//   flannel.alpha.coreos.com/backend-data: '{"VNI":1,"VtepMAC":"…"}'      "null" where the backend has none
//   flannel.alpha.coreos.com/public-ip: 172.30.0.11
//   flannel.alpha.coreos.com/backend-v6-data, public-ipv6                  the same of IPv6, as RFC 5952 writes it
//   flannel.alpha.coreos.com/kube-subnet-manager: "true"                   without it the node is no member
//
// Names and values are flannel's, byte for byte. What is said of a family that the network has not is not looked at: a
// cluster that was dual-stack once may be full of it. Reading is bounded and returns problems instead of throwing:
// whoever can annotate a node can write anything.

import { OverlayError } from '../../core/errors.js';
import { checkHost, type Decoded, goJson, MAX_LEASE_BYTES, parseData } from '../../lease/lease-codec.js';
import type { LeaseHost } from '../../lease/lease.js';
import { isBogon } from '../../net/bogons.js';
import { dualOf, type FamilyName, familiesOf } from '../../net/dual.js';
import type { Ipv4 } from '../../net/ipv4.js';
import type { Ipv6 } from '../../net/ipv6.js';
import { type Address, type DualAddress, formatAddress, parseAddress } from '../../net/prefix.js';

/** Names of annotations, behind the prefix. */
export const ANNOTATIONS = {
  managed: 'kube-subnet-manager',
  backendType: 'backend-type',
  backendData: 'backend-data',
  backendV6Data: 'backend-v6-data',
  publicIp: 'public-ip',
  publicIpv6: 'public-ipv6',
  /** Written by an operator: advertised in place of our own. */
  publicIpOverwrite: 'public-ip-overwrite',
  publicIpv6Overwrite: 'public-ipv6-overwrite',
  /** Written by an operator: as --public-ip for this node. */
  nodePublicIp: 'node-public-ip',
  nodePublicIpv6: 'node-public-ipv6',
} as const;

/** Those that say the same of each family. */
const OF_FAMILY = {
  v4: {
    number: 4,
    data: ANNOTATIONS.backendData,
    publicIp: ANNOTATIONS.publicIp,
    overwrite: ANNOTATIONS.publicIpOverwrite,
    nodePublicIp: ANNOTATIONS.nodePublicIp,
  },
  v6: {
    number: 6,
    data: ANNOTATIONS.backendV6Data,
    publicIp: ANNOTATIONS.publicIpv6,
    overwrite: ANNOTATIONS.publicIpv6Overwrite,
    nodePublicIp: ANNOTATIONS.nodePublicIpv6,
  },
} as const;

/** Where a hint stands, for errors. */
export const NODE_PUBLIC_IP_FROM = {
  v4: `annotation ${ANNOTATIONS.nodePublicIp}`,
  v6: `annotation ${ANNOTATIONS.nodePublicIpv6}`,
} as const;

/** Texts by name, without the prefix. */
export type Annotations = Readonly<Record<string, string>>;

// A domain name with a dot, "/", and possibly the beginning of a name (Kubernetes: "Annotations", syntax).
const PREFIX =
  /^(?=.{3,253}\/)([a-z\d]([a-z\d-]{0,61}[a-z\d])?\.)+[a-z\d]([a-z\d-]{0,61}[a-z\d])?\/([a-z\d][\w-]*-)?$/;

/**
 * What names of annotations begin with, for a value of --kube-annotation-prefix: "org.com" gives "org.com/", and
 * "org.com/9" gives "org.com/9-". Throws OverlayError E_USAGE.
 */
export function annotationPrefix(given: string): string {
  const slashed = given.includes('/') ? given : `${given}/`;
  const prefix = /[/-]$/.test(slashed) ? slashed : `${slashed}-`;
  if (PREFIX.test(prefix) && prefix === prefix.toLowerCase()) return prefix;
  const expected = 'a domain name with a dot in lower case, possibly with "/" and a name behind it';
  throw new OverlayError(
    'E_USAGE',
    `--kube-annotation-prefix is ${JSON.stringify(given)}: expected ${expected}`,
  );
}

/** What `host` is to be annotated with; `present` are the annotations of its node, with what operators wrote. */
export function annotationsOf(host: LeaseHost, present: Annotations): Annotations {
  const { publicIp, backend } = host;
  const wanted: Record<string, string> = {
    [ANNOTATIONS.managed]: 'true',
    [ANNOTATIONS.backendType]: backend.type,
  };
  for (const family of toldFamilies(host)) {
    const names = OF_FAMILY[family];
    const address: Address = operatorAddress(present, names.overwrite, family) ?? publicIp[family]!;
    wanted[names.data] = goJson(backend.data[family] ?? null);
    wanted[names.publicIp] = formatAddress(address);
  }
  return wanted;
}

/** Families that a host tells of itself. */
function toldFamilies({ publicIp, backend: { type, data } }: LeaseHost): FamilyName[] {
  const families = familiesOf(publicIp);
  // A VXLAN end without data is none.
  if (type === 'vxlan') return families.filter((family) => data[family] !== undefined);
  // flannel's udp mode tells nothing of IPv6. Ours is sent to at IPv4 where a host has it, and else at IPv6.
  return type === '' ? families.slice(0, 1) : families;
}

/** Those of `wanted` that `present` does not have, sorted by name. */
export function missingOf(wanted: Annotations, present: Annotations): Annotations {
  const missing = Object.entries(wanted).filter(([name, value]) => present[name] !== value);
  return Object.fromEntries(missing.sort(([a], [b]) => (a < b ? -1 : 1)));
}

/**
 * What somebody else has changed of what `host` had written, in words; undefined for nothing. An operator's address
 * that came or went is no such change: it is ours to follow.
 */
export function undoneIn(host: LeaseHost, before: Annotations, after: Annotations): string | undefined {
  const wanted = annotationsOf(host, after);
  for (const [name, had] of Object.entries(annotationsOf(host, before))) {
    const found = after[name];
    if (before[name] !== had || found === had || found === wanted[name]) continue;
    const is = found === undefined ? 'is gone' : `is ${show(found)}`;
    return `${name} ${is}: expected ${show(wanted[name] ?? had)}`;
  }
  return undefined;
}

/**
 * That an operator wants other addresses to be published than `atStart`, when this host started, in words. `families`
 * are those of the network, here and below.
 */
export function changedHint(
  atStart: DualAddress | undefined,
  present: Annotations,
  families: readonly FamilyName[],
): string | undefined {
  const words = (address: Address | undefined): string =>
    address === undefined ? 'none' : formatAddress(address);
  const now = nodePublicIp(present, families);
  const family = families.find((each) => now?.[each] !== atStart?.[each]);
  if (family === undefined) return undefined;
  const change = `is ${words(now?.[family])}, at the start it was ${words(atStart?.[family])}`;
  return `${NODE_PUBLIC_IP_FROM[family]} ${change}: restart to apply it`;
}

/** Why an address that an operator wrote for this node is not used; undefined when all are good. */
export function operatorProblem(present: Annotations, families: readonly FamilyName[]): string | undefined {
  for (const family of families) {
    const { number, overwrite, nodePublicIp: hint } = OF_FAMILY[family];
    for (const name of [overwrite, hint]) {
      const text = present[name];
      if (text === undefined || operatorAddress(present, name, family) !== undefined) continue;
      return `annotation ${name} is ${show(text)}: expected an IPv${number} address that a host can have`;
    }
  }
  return undefined;
}

/** The addresses that an operator wants this node to publish, as --public-ip would say; undefined for none. */
export function nodePublicIp(present: Annotations, families: readonly FamilyName[]): DualAddress | undefined {
  const [v4, v6] = (['v4', 'v6'] as const).map((family) =>
    families.includes(family) ? operatorAddress(present, OF_FAMILY[family].nodePublicIp, family) : undefined,
  ) as [Ipv4 | undefined, Ipv6 | undefined];
  return v4 === undefined && v6 === undefined ? undefined : dualOf(v4, v6);
}

/** Whether the node is a member of the network. */
export function isManaged(annotations: Annotations): boolean {
  return annotations[ANNOTATIONS.managed] === 'true';
}

/** What the host of a node says in its annotations of the network's families: of one at least. */
export function hostOf(annotations: Annotations, families: readonly FamilyName[]): Decoded<LeaseHost> {
  const publicIp: Record<FamilyName, unknown> = { v4: undefined, v6: undefined };
  const data: Record<FamilyName, unknown> = { v4: undefined, v6: undefined };
  let isLong = false;
  for (const family of families) {
    const names = OF_FAMILY[family];
    const text = annotations[names.data] ?? '';
    const parsed = text === '' ? { ok: true as const, value: undefined } : parseData(text, names.data);
    if (!parsed.ok) return { ok: false, problem: `annotation ${names.data}: ${parsed.problem}` };
    publicIp[family] = annotations[names.publicIp];
    data[family] = parsed.value ?? undefined;
    isLong ||= text.length > MAX_LEASE_BYTES;
  }
  if (!families.includes('v4') && publicIp.v6 === undefined)
    return { ok: false, problem: 'annotations: PublicIPv6 is missing' };
  const host = checkHost({ publicIp, backendType: annotations[ANNOTATIONS.backendType], data, isLong });
  return host.ok ? host : { ok: false, problem: `annotations: ${host.problem}` };
}

function operatorAddress(present: Annotations, name: string, family: FamilyName): Address | undefined {
  const address = parseAddress(present[name] ?? '', OF_FAMILY[family].number);
  return address === undefined || isBogon(address) ? undefined : address;
}

function show(text: string): string {
  return JSON.stringify(text.length > 64 ? `${text.slice(0, 64)}…` : text);
}
