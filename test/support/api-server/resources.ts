// The resources that the stand-in serves, all of core v1, and what differs between them.

import { type ApiObject, asObject } from './api-object.js';

export interface Resource {
  /** As in a path and in a rule: "nodes". */
  readonly name: string;
  /** "Node". */
  readonly kind: string;
  readonly isNamespaced: boolean;
  /** Whether there is a subresource "status". */
  readonly hasStatus: boolean;
  /** What a fieldSelector may name, with the value of an object that has none. */
  readonly selectable: Readonly<Record<string, string>>;
  /** By the path of a list: the key its entries are merged by, "" for a list of plain values; else it is replaced. */
  readonly mergeKeys: Readonly<Record<string, string>>;
}

const NAMES = { 'metadata.name': '', 'metadata.namespace': '' };
const COMMON_MERGE_KEYS = { 'metadata.finalizers': '', 'metadata.ownerReferences': 'uid' };

export const NODES: Resource = {
  name: 'nodes',
  kind: 'Node',
  isNamespaced: false,
  hasStatus: true,
  selectable: { 'metadata.name': '', 'spec.unschedulable': 'false' },
  mergeKeys: {
    ...COMMON_MERGE_KEYS,
    'spec.podCIDRs': '',
    'status.conditions': 'type',
    'status.addresses': 'type',
  },
};

export const PODS: Resource = {
  name: 'pods',
  kind: 'Pod',
  isNamespaced: true,
  hasStatus: true,
  selectable: { ...NAMES, 'spec.nodeName': '', 'status.phase': '', 'status.podIP': '' },
  mergeKeys: { ...COMMON_MERGE_KEYS, 'spec.containers': 'name', 'status.conditions': 'type' },
};

export const EVENTS: Resource = {
  name: 'events',
  kind: 'Event',
  isNamespaced: true,
  hasStatus: false,
  selectable: {
    ...NAMES,
    'involvedObject.kind': '',
    'involvedObject.name': '',
    'involvedObject.namespace': '',
    'involvedObject.uid': '',
    reason: '',
    type: '',
  },
  mergeKeys: COMMON_MERGE_KEYS,
};

export const RESOURCES: readonly Resource[] = [NODES, PODS, EVENTS];

/** Values of the fields that can be selected by. */
export function selectableFields(resource: Resource, object: ApiObject): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(resource.selectable).map(([path, absent]) => [path, fieldText(object, path) ?? absent]),
  );
}

function fieldText(object: ApiObject, path: string): string | undefined {
  let value: unknown = object;
  for (const key of path.split('.')) value = asObject(value)?.[key];
  return typeof value === 'string' || typeof value === 'boolean' ? String(value) : undefined;
}
