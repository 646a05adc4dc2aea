// What is kept of a Node object of the Kubernetes API: the little that an overlay needs of some 15 KB. Pure.
//
// Whoever may write one Node may write anything into it, within what the API server checks. So nothing here throws,
// and what is kept has a bound: a node can cost us about 1 MB if it tries, and a usual one costs some 500 bytes.

import { ANNOTATIONS } from '../annotations.js';

/** How nodes are read. */
export interface NodeReading {
  /** Of the annotations that count: "org.com/", "org.com/9-". */
  readonly prefix: string;
  /** The name of the only node whose status counts; undefined: of all. */
  readonly statusOf?: string | undefined;
}

/** What is kept of a Node object; everything else of it is forgotten at once. */
export interface KubeNode {
  /** A DNS subdomain; "" of an object without a name that a node could have, which is not to be used. */
  readonly name: string;
  /** "" when it is missing. */
  readonly uid: string;
  /** Of the write that was read. "" when it is missing. */
  readonly resourceVersion: string;
  /** Milliseconds since 1970; NO_AGE when it cannot be read. */
  readonly createdMs: number;
  /** spec.podCIDRs as they are written, or spec.podCIDR where there is no such list; empty: none assigned yet. */
  readonly podCidrs: readonly string[];
  /** Those below the annotation prefix; keys without it. A value too long is cut: garbage, and yet not missing. */
  readonly annotations: Readonly<Record<string, string>>;
  /** The condition of that type, where it was wanted. */
  readonly networkUnavailable: NodeCondition | undefined;
}

/** A condition of a node without its heartbeat. Missing texts are "". */
export interface NodeCondition {
  readonly status: string;
  readonly reason: string;
  readonly message: string;
  readonly lastTransitionTime: string;
}

/** What became of a node. */
export type NodeEvent =
  /** It is new or another than it was: of a node made anew, a delete comes first. */
  | { readonly kind: 'put'; readonly node: KubeNode }
  /** Somebody deleted it. */
  | { readonly kind: 'delete'; readonly name: string; readonly uid: string }
  /** Gone without a deletion that could be believed, as after a restore of etcd: it may be back soon. */
  | { readonly kind: 'vanished'; readonly name: string };

/** Who is told of the nodes. */
export interface NodeListener {
  /** All nodes; once, before any events. */
  onSnapshot(nodes: readonly KubeNode[]): void;
  onEvents(events: readonly NodeEvent[]): void;
}

/** A JSON object of the API, as it came. Nothing in it is checked. */
type Loose = Readonly<Record<string, unknown>>;

/** createdMs of a node whose age cannot be read: it counts as the youngest. */
export const NO_AGE = Number.MAX_SAFE_INTEGER;

/** Of a value of an annotation, in characters; what flannel writes has some 100. */
export const MAX_ANNOTATION_LENGTH = 16_384;

const MAX_OTHERS = 64; // annotations below the prefix that no host publishes, of one node
const PUBLISHED: ReadonlySet<string> = new Set(Object.values(ANNOTATIONS));
const MAX_POD_CIDRS = 16; // the API server lets pass two
const MAX_NAME_LENGTH = 253; // of a DNS subdomain (RFC 1123, as Kubernetes reads it)
const MAX_TEXT_LENGTH = 256; // of any other text
const MAX_VERSION_LENGTH = 64; // 128 bits have 39 digits
const NODE_NAME = /^[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?$/;
const NOTHING: Loose = {};

/**
 * Reads a Node, or the PartialObjectMetadata of one. Never throws: what is missing or of another type than it should be
 * is left out.
 */
export function readNode(object: Loose, { prefix, statusOf }: NodeReading): KubeNode {
  const metadata = objectAt(object, 'metadata');
  const name = readName(metadata.name);
  const hasStatus = statusOf === undefined || name === statusOf;
  return {
    name,
    uid: textOf(metadata.uid, MAX_TEXT_LENGTH),
    resourceVersion: versionIn(metadata),
    createdMs: readTime(metadata.creationTimestamp),
    podCidrs: readPodCidrs(objectAt(object, 'spec')),
    annotations: readAnnotations(objectAt(metadata, 'annotations'), prefix),
    networkUnavailable: hasStatus ? readCondition(objectAt(object, 'status').conditions) : undefined,
  };
}

/** The version of an object, as of a bookmark: "" when it is missing or longer than any. */
export function readVersion(object: Loose): string {
  return versionIn(objectAt(object, 'metadata'));
}

function versionIn(metadata: Loose): string {
  const version = metadata.resourceVersion;
  return typeof version === 'string' && version.length <= MAX_VERSION_LENGTH ? version : '';
}

/** Whether two readings tell the same of a node, whatever their versions. */
export function sameNode(a: KubeNode, b: KubeNode): boolean {
  return (
    sameMetadata(a, b) &&
    a.createdMs === b.createdMs &&
    sameTexts(a.podCidrs, b.podCidrs) &&
    sameCondition(a.networkUnavailable, b.networkUnavailable)
  );
}

/** Whether name, uid and annotations are the same, which is what a list of metadata shows. */
export function sameMetadata(a: KubeNode, b: KubeNode): boolean {
  return a.name === b.name && a.uid === b.uid && sameAnnotations(a.annotations, b.annotations);
}

function readName(value: unknown): string {
  return typeof value === 'string' && value.length <= MAX_NAME_LENGTH && NODE_NAME.test(value) ? value : '';
}

function readTime(value: unknown): number {
  const timeMs = typeof value === 'string' ? Date.parse(value) : Number.NaN;
  return Number.isNaN(timeMs) ? NO_AGE : timeMs;
}

function readPodCidrs(spec: Loose): readonly string[] {
  const { podCIDRs: several, podCIDR: one } = spec;
  const values: readonly unknown[] = Array.isArray(several) && several.length > 0 ? several : [one];
  const cidrs: string[] = [];
  for (const value of values) {
    if (cidrs.length === MAX_POD_CIDRS) break;
    const cidr = textOf(value, MAX_TEXT_LENGTH);
    if (cidr !== '') cidrs.push(cidr);
  }
  return cidrs;
}

function readAnnotations(all: Loose, prefix: string): Readonly<Record<string, string>> {
  const ours: [name: string, value: string][] = [];
  let others = 0;
  for (const key in all) {
    if (!key.startsWith(prefix) || key.length > prefix.length + MAX_TEXT_LENGTH) continue;
    const value = all[key];
    if (typeof value !== 'string') continue;
    const name = key.slice(prefix.length);
    // Those that hosts publish always: they may stand behind any number of others.
    if (!PUBLISHED.has(name) && ++others > MAX_OTHERS) continue;
    ours.push([name, textOf(value, MAX_ANNOTATION_LENGTH)]);
  }
  return Object.fromEntries(ours); // not by assignment, which "__proto__" would not survive
}

function readCondition(conditions: unknown): NodeCondition | undefined {
  if (!Array.isArray(conditions)) return undefined;
  for (const condition of conditions as readonly unknown[]) {
    if (!isObject(condition) || condition.type !== 'NetworkUnavailable') continue;
    const text = (key: string): string => textOf(condition[key], MAX_TEXT_LENGTH);
    return {
      status: text('status'),
      reason: text('reason'),
      message: text('message'),
      lastTransitionTime: text('lastTransitionTime'),
    };
  }
  return undefined;
}

function sameCondition(a: NodeCondition | undefined, b: NodeCondition | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return (
    a.status === b.status &&
    a.reason === b.reason &&
    a.message === b.message &&
    a.lastTransitionTime === b.lastTransitionTime
  );
}

function sameTexts(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((text, i) => text === b[i]);
}

function sameAnnotations(a: KubeNode['annotations'], b: KubeNode['annotations']): boolean {
  const keys = Object.keys(a);
  if (keys.length !== Object.keys(b).length) return false;
  return keys.every((key) => Object.hasOwn(b, key) && a[key] === b[key]);
}

/** `value` if it is a text, its first `maxLength` characters at most. */
function textOf(value: unknown, maxLength: number): string {
  if (typeof value !== 'string') return '';
  if (value.length <= maxLength) return value;
  // A copy: V8 makes a slice() of this length a view of the whole text, which then stays, too.
  return Buffer.from(value.slice(0, maxLength)).toString();
}

function objectAt(object: Loose, key: string): Loose {
  const value = object[key];
  return isObject(value) ? value : NOTHING;
}

function isObject(value: unknown): value is Loose {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
