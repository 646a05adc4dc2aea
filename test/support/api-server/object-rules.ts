// What the server makes of an object that is written, and what it refuses: defaults, order of fields, validation.

import { type ApiObject, asObject, formatTime, objectAt, sorted, textAt } from './api-object.js';
import { type Cause, conflict, invalid } from './failures.js';
import { EVENTS, NODES, type Resource } from './resources.js';

const METADATA_ORDER = [
  ...['name', 'generateName', 'namespace', 'uid', 'resourceVersion', 'generation', 'creationTimestamp'],
  ...['deletionTimestamp', 'labels', 'annotations', 'ownerReferences', 'finalizers', 'managedFields'],
];
const SPEC_ORDER = ['podCIDR', 'podCIDRs', 'providerID', 'unschedulable', 'taints'];
const CONDITION_ORDER = ['type', 'status', 'lastHeartbeatTime', 'lastTransitionTime', 'reason', 'message'];

const EMPTY_NODE_INFO = Object.fromEntries(
  [
    ...['machineID', 'systemUUID', 'bootID', 'kernelVersion', 'osImage', 'containerRuntimeVersion'],
    ...['kubeletVersion', 'kubeProxyVersion', 'operatingSystem', 'architecture'],
  ].map((name) => [name, '']),
);

/** What a Node has that nobody gave a status: the fields that Go writes although they are empty. */
export const EMPTY_NODE_STATUS: ApiObject = {
  daemonEndpoints: { kubeletEndpoint: { Port: 0 } },
  nodeInfo: EMPTY_NODE_INFO,
};

const NOT_READY = { key: 'node.kubernetes.io/not-ready', effect: 'NoSchedule' };

/** A new object as it is stored, but for uid and version. */
export function prepareCreate(resource: Resource, object: ApiObject, now: Date): ApiObject {
  const metadata = { ...objectAt(object, 'metadata'), creationTimestamp: formatTime(now) };
  const made = { ...object, metadata };
  if (resource !== NODES) return shape(resource, made);
  const spec = objectAt(object, 'spec');
  const taints = Array.isArray(spec.taints) ? (spec.taints as unknown[]) : [];
  const isTainted = taints.some((taint) => asObject(taint)?.key === NOT_READY.key);
  return shape(resource, { ...made, spec: { ...spec, taints: isTainted ? taints : [...taints, NOT_READY] } });
}

/** Fields in the order of a real server, with the defaults it fills in. */
export function shape(resource: Resource, object: ApiObject): ApiObject {
  const metadata = objectAt(object, 'metadata');
  const made: Record<string, unknown> = { ...pick(metadata, METADATA_ORDER) };
  for (const key of ['labels', 'annotations']) {
    const map = asObject(metadata[key]);
    if (map === undefined || Object.keys(map).length === 0) delete made[key];
    else made[key] = sorted(map);
  }
  const { spec, status, ...rest } = object;
  if (resource === EVENTS) return { ...EMPTY_EVENT, ...rest, metadata: made };
  return {
    ...rest,
    metadata: made,
    spec: resource === NODES ? shapeNodeSpec(asObject(spec) ?? {}) : (spec ?? {}),
    status: resource === NODES ? shapeNodeStatus(asObject(status) ?? {}) : (status ?? {}),
  };
}

function shapeNodeSpec(spec: ApiObject): ApiObject {
  const cidr = textAt(spec, 'podCIDR');
  const cidrs = Array.isArray(spec.podCIDRs) ? (spec.podCIDRs as unknown[]) : [];
  // The first of the list and the single field are one (defaults of core v1).
  if (cidr !== undefined && cidrs.length === 0) return pick({ ...spec, podCIDRs: [cidr] }, SPEC_ORDER);
  if (cidr === undefined && cidrs.length > 0) return pick({ ...spec, podCIDR: cidrs[0] }, SPEC_ORDER);
  return pick(spec, SPEC_ORDER);
}

function shapeNodeStatus(status: ApiObject): ApiObject {
  const { capacity, allocatable = capacity, conditions, daemonEndpoints, nodeInfo, images, ...rest } = status;
  const list = Array.isArray(conditions) ? (conditions as unknown[]) : [];
  return {
    ...(capacity === undefined ? {} : { capacity, allocatable }),
    ...(list.length === 0 ? {} : { conditions: list.map(shapeCondition) }),
    ...rest,
    daemonEndpoints: daemonEndpoints ?? EMPTY_NODE_STATUS.daemonEndpoints,
    nodeInfo: { ...EMPTY_NODE_INFO, ...(asObject(nodeInfo) ?? {}) },
    ...(images === undefined ? {} : { images }),
  };
}

function shapeCondition(entry: unknown): ApiObject {
  return pick({ lastHeartbeatTime: null, lastTransitionTime: null, ...asObject(entry) }, CONDITION_ORDER);
}

/** What Go writes although it is empty. */
const EMPTY_EVENT: ApiObject = {
  ...{ source: {}, firstTimestamp: null, lastTimestamp: null },
  ...{ eventTime: null, reportingComponent: '', reportingInstance: '' },
};

/** The fields named, in that order, then the others. */
function pick(object: ApiObject, order: readonly string[]): ApiObject {
  const known = order.flatMap((key) => (object[key] === undefined ? [] : [[key, object[key]]]));
  const others = Object.entries(object).filter(([key]) => !order.includes(key));
  return Object.fromEntries([...known, ...others]) as ApiObject;
}

/** Throws ApiFailure (422) for an object that may not be created. */
export function checkCreate(resource: Resource, object: ApiObject): void {
  const metadata = objectAt(object, 'metadata');
  checkAnnotations(resource, metadata, 1);
  if (resource !== EVENTS) return;
  const namespace = textAt(metadata, 'namespace') ?? '';
  const involved = textAt(objectAt(object, 'involvedObject'), 'namespace') ?? '';
  // An event about what has no namespace, a node say, belongs into "default".
  if (involved === namespace || (involved === '' && namespace === 'default')) return;
  const message = `Invalid value: "${involved}": does not match event.namespace`;
  const cause = { reason: 'FieldValueInvalid', message, field: 'involvedObject.namespace' };
  throw invalid(resource.kind, textAt(metadata, 'name') ?? '', cause);
}

/** Throws ApiFailure (409, 422) when `next` may not take the place of `old`. */
export function checkUpdate(resource: Resource, old: ApiObject, next: ApiObject): void {
  const before = objectAt(old, 'metadata');
  const after = objectAt(next, 'metadata');
  const name = textAt(before, 'name') ?? '';
  if (after.resourceVersion !== undefined && after.resourceVersion !== before.resourceVersion) {
    const why = 'the object has been modified; please apply your changes to the latest version and try again';
    throw conflict(resource, name, why);
  }
  if (after.uid !== before.uid) {
    const message = `Invalid value: "${String(after.uid)}": field is immutable`;
    throw invalid(resource.kind, name, { reason: 'FieldValueInvalid', message, field: 'metadata.uid' }, 2);
  }
  checkAnnotations(resource, after, 3);
  if (resource === NODES) checkPodCidrs(name, objectAt(old, 'spec'), objectAt(next, 'spec'));
}

function checkPodCidrs(name: string, old: ApiObject, next: ApiObject): void {
  const cidrsOf = (spec: ApiObject): string => JSON.stringify(shapeNodeSpec(spec).podCIDRs ?? []);
  if (cidrsOf(old) === '[]' || cidrsOf(old) === cidrsOf(next)) return;
  const message = 'Forbidden: node updates may not change podCIDR except from "" to valid';
  const cause: Cause = { reason: 'FieldValueForbidden', message, field: 'spec.podCIDRs' };
  throw invalid('Node', name, cause);
}

/** All annotations of an object together, in bytes (apimachinery: TotalAnnotationSizeLimitB). */
const ANNOTATIONS_LIMIT = 262_144;

const NAME_RULE =
  "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric " +
  "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is " +
  "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

const PREFIX_RULE =
  "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and " +
  "end with an alphanumeric character (e.g. 'example.com', regex used for validation is " +
  "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

function checkAnnotations(resource: Resource, metadata: ApiObject, times: number): void {
  const name = textAt(metadata, 'name') ?? '';
  const field = 'metadata.annotations';
  let bytes = 0;
  for (const [key, value] of Object.entries(asObject(metadata.annotations) ?? {})) {
    bytes += Buffer.byteLength(key) + Buffer.byteLength(String(value));
    const why = whyNoQualifiedName(key);
    if (why === undefined) continue;
    const message = `Invalid value: "${key}": ${why}`;
    throw invalid(resource.kind, name, { reason: 'FieldValueInvalid', message, field }, times);
  }
  if (bytes <= ANNOTATIONS_LIMIT) return;
  const message = `Too long: must have at most ${ANNOTATIONS_LIMIT} bytes`;
  throw invalid(resource.kind, name, { reason: 'FieldValueTooLong', message, field }, times);
}

function whyNoQualifiedName(key: string): string | undefined {
  const parts = key.split('/');
  const name = parts[parts.length - 1];
  if (parts.length > 2)
    return `a qualified name ${NAME_RULE} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')`;
  if (parts.length === 2 && parts[0] === '') return 'prefix part must be non-empty';
  if (name === '') return 'name part must be non-empty';
  if (name.length > 63) return 'name part must be no more than 63 characters';
  if (!/^(?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$/.test(name)) return `name part ${NAME_RULE}`;
  // Annotations are validated in lower case, so that a prefix may have upper case.
  const isPrefix = /^[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*$/i;
  if (parts.length === 2 && !isPrefix.test(parts[0])) return `prefix part ${PREFIX_RULE}`;
  return undefined;
}
