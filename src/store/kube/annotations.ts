// What a host tells the others in the annotations of its Node, and what it is told in them. Pure.
//
//   flannel.alpha.coreos.com/backend-type: vxlan
//   flannel.alpha.coreos.com/backend-data: '{"VNI":1,"VtepMAC":"…"}'      "null" where the backend has none
//   flannel.alpha.coreos.com/public-ip: 172.30.0.11
//   flannel.alpha.coreos.com/kube-subnet-manager: "true"                   without it the node is no member
//
// Names and values are flannel's, byte for byte. Reading is bounded and returns problems instead of throwing: whoever
// can annotate a node can write anything.

import { OverlayError } from '../../core/errors.js';
import { checkHost, type Decoded, goJson, MAX_LEASE_BYTES, parseData } from '../../lease/lease-codec.js';
import type { LeaseHost } from '../../lease/lease.js';
import { isBogon } from '../../net/bogons.js';
import { type Ipv4, parseIpv4 } from '../../net/ipv4.js';
import { type DualAddress, formatAddress, formatAddresses } from '../../net/prefix.js';

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
export function annotationsOf({ publicIp, backend }: LeaseHost, present: Annotations): Annotations {
  const { type, data } = backend;
  const wanted: Record<string, string> = { [ANNOTATIONS.managed]: 'true', [ANNOTATIONS.backendType]: type };
  // A VXLAN end without data is none.
  const isTold = (half: unknown): boolean => type !== 'vxlan' || half !== undefined;
  if (publicIp.v4 !== undefined && isTold(data.v4)) {
    wanted[ANNOTATIONS.backendData] = goJson(data.v4 ?? null);
    wanted[ANNOTATIONS.publicIp] = formatAddress(overwriteOf(present) ?? publicIp.v4);
  }
  // flannel's udp mode tells nothing of IPv6.
  if (publicIp.v6 !== undefined && type !== '' && isTold(data.v6)) {
    wanted[ANNOTATIONS.backendV6Data] = goJson(data.v6 ?? null);
    wanted[ANNOTATIONS.publicIpv6] = present[ANNOTATIONS.publicIpv6Overwrite] ?? formatAddress(publicIp.v6);
  }
  return wanted;
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

/** That an operator wants another address to be published than when this host started, in words. */
export function changedHint(atStart: DualAddress | undefined, present: Annotations): string | undefined {
  const now = nodePublicIp(present);
  if (now?.v4 === atStart?.v4) return undefined;
  const words = (address: DualAddress | undefined): string =>
    address === undefined ? 'none' : formatAddresses(address);
  const change = `is ${words(now)}, at the start it was ${words(atStart)}`;
  return `annotation ${ANNOTATIONS.nodePublicIp} ${change}: restart to apply it`;
}

/** Why an address that an operator wrote for this node is not used; undefined when all are good. */
export function operatorProblem(present: Annotations): string | undefined {
  for (const name of [ANNOTATIONS.publicIpOverwrite, ANNOTATIONS.nodePublicIp]) {
    const text = present[name];
    if (text === undefined || hostAddress(text) !== undefined) continue;
    return `annotation ${name} is ${show(text)}: expected an IPv4 address that a host can have`;
  }
  return undefined;
}

/** The address that an operator wants this node to publish, as --public-ip would say; undefined for none. */
export function nodePublicIp(present: Annotations): DualAddress | undefined {
  const text = present[ANNOTATIONS.nodePublicIp];
  const address = text === undefined ? undefined : hostAddress(text);
  return address && { v4: address };
}

/** Whether the node is a member of the network. */
export function isManaged(annotations: Annotations): boolean {
  return annotations[ANNOTATIONS.managed] === 'true';
}

/** What the host of a node says in its annotations, in IPv4. */
export function hostOf(annotations: Annotations): Decoded<LeaseHost> {
  const data = annotations[ANNOTATIONS.backendData] ?? '';
  const parsed = data === '' ? { ok: true as const, value: null } : parseData(data, ANNOTATIONS.backendData);
  if (!parsed.ok) return { ok: false, problem: `annotation ${ANNOTATIONS.backendData}: ${parsed.problem}` };
  const host = checkHost({
    publicIp: { v4: annotations[ANNOTATIONS.publicIp], v6: undefined },
    backendType: annotations[ANNOTATIONS.backendType],
    data: { v4: parsed.value ?? undefined, v6: undefined },
    isLong: data.length > MAX_LEASE_BYTES,
  });
  return host.ok ? host : { ok: false, problem: `annotations: ${host.problem}` };
}

function overwriteOf(present: Annotations): Ipv4 | undefined {
  const text = present[ANNOTATIONS.publicIpOverwrite];
  return text === undefined ? undefined : hostAddress(text);
}

function hostAddress(text: string): Ipv4 | undefined {
  const address = parseIpv4(text);
  return address === undefined || isBogon(address) ? undefined : address;
}

function show(text: string): string {
  return JSON.stringify(text.length > 64 ? `${text.slice(0, 64)}…` : text);
}
