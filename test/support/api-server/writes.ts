// create, update, patch and delete.

import { type ApiObject, asObject, objectAt, textAt } from './api-object.js';
import * as failures from './failures.js';
import { applyMergePatch } from './merge-patch.js';
import type { ObjectStore } from './object-store.js';
import { checkCreate, checkUpdate, prepareCreate, shape } from './object-rules.js';
import type { RequestInfo } from './request-info.js';
import type { Resource } from './resources.js';
import { keyOf, StoredObject } from './stored-object.js';
import { applyStrategicPatch } from './strategic-patch.js';

/** Media types of a patch. */
export const STRATEGIC_PATCH = 'application/strategic-merge-patch+json';
export const MERGE_PATCH = 'application/merge-patch+json';

/** What a write answers with. */
export interface Written {
  readonly code: number;
  readonly object: StoredObject;
}

export class Writes {
  readonly #store: ObjectStore;
  readonly #now: () => Date;

  constructor(store: ObjectStore, now: () => Date) {
    this.#store = store;
    this.#now = now;
  }

  /** Throws ApiFailure (400, 409, 422). */
  create(resource: Resource, namespace: string | undefined, body: ApiObject, isDryRun = false): Written {
    const given = objectAt(body, 'metadata');
    const theirs = textAt(given, 'namespace');
    if (namespace !== undefined && theirs !== undefined && theirs !== namespace) {
      const what = 'the namespace of the provided object does not match the namespace sent on the request';
      throw failures.badRequest(what);
    }
    const name = textAt(given, 'name') ?? generateName(textAt(given, 'generateName'));
    if (name === '') {
      const message = 'Required value: name or generateName is required';
      const cause = { reason: 'FieldValueRequired', message, field: 'metadata.name' };
      throw failures.invalid(resource.kind, '', cause);
    }
    const metadata = { ...given, name, ...(namespace === undefined ? {} : { namespace }) };
    const object = prepareCreate(resource, { ...body, metadata }, this.#now());
    checkCreate(resource, object);
    if (this.#store.get(resource, keyOf(namespace, name)) !== undefined)
      throw failures.alreadyExists(resource, name);
    const stored = isDryRun
      ? StoredObject.encode(resource, object, this.#store.version)
      : this.#store.create(resource, object);
    return { code: 201, object: stored };
  }

  /** PUT: the whole object takes the place of the old one. Throws ApiFailure (400, 404, 409, 422). */
  update(resource: Resource, info: RequestInfo, body: ApiObject): Written {
    const old = this.#find(resource, info);
    const given = objectAt(body, 'metadata');
    if (textAt(given, 'name') !== old.name) {
      const names = `(${textAt(given, 'name') ?? ''}) does not match the name on the URL (${old.name})`;
      throw failures.badRequest(`the name of the object ${names}`);
    }
    const uid = textAt(given, 'uid');
    if (uid !== undefined && uid !== old.uid)
      throw failures.failedPrecondition(resource, old.name, uid, old.uid);
    const { creationTimestamp, resourceVersion } = objectAt(old.json(), 'metadata');
    const metadata = { resourceVersion, ...given, creationTimestamp, uid: old.uid };
    return this.#replace(old, { ...body, metadata }, info);
  }

  /** Throws ApiFailure (400, 404, 409, 415, 422). */
  patch(resource: Resource, info: RequestInfo, contentType: string | undefined, text: Buffer): Written {
    const type = contentType?.split(';')[0].trim();
    if (type !== STRATEGIC_PATCH && type !== MERGE_PATCH) throw failures.unsupportedMediaType();
    const body = parseBody(text);
    const old = this.#find(resource, info);
    const before = old.json();
    const next =
      type === MERGE_PATCH ? applyMergePatch(before, body) : applyStrategicPatch(resource, before, body);
    return this.#replace(old, next, info);
  }

  /** Throws ApiFailure (404, 409). */
  delete(resource: Resource, info: RequestInfo, body: ApiObject): ApiObject {
    const old = this.#find(resource, info);
    const preconditions = objectAt(body, 'preconditions');
    const uid = textAt(preconditions, 'uid') ?? old.uid;
    if (uid !== old.uid) throw failures.failedDeletion(resource, old.name, 'UID', uid, old.uid);
    const [now, version = now] = [`${old.version}`, textAt(preconditions, 'resourceVersion')];
    if (version !== now) throw failures.failedDeletion(resource, old.name, 'ResourceVersion', version, now);
    if (!isDryRun(info)) this.#store.remove(old);
    const details = { name: old.name, kind: resource.name, uid: old.uid };
    return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', details };
  }

  /** What a kubelet, a controller or an operator makes of an object, through any door. Throws ApiFailure (422). */
  amend(old: StoredObject, change: (object: ApiObject) => ApiObject): StoredObject {
    const before = old.json();
    const next = shape(old.resource, change(before));
    checkUpdate(old.resource, before, next);
    return this.#store.replace(old, next);
  }

  #find(resource: Resource, info: RequestInfo): StoredObject {
    const found = this.#store.get(resource, keyOf(info.namespace, info.name ?? ''));
    if (found === undefined) throw failures.notFound(resource, info.name ?? '');
    return found;
  }

  #replace(old: StoredObject, asked: ApiObject, info: RequestInfo): Written {
    const before = old.json();
    const next = shape(old.resource, restrict(before, asked, info.subresource));
    checkUpdate(old.resource, before, next);
    const object = isDryRun(info) ? old.replacedBy(next, old.version) : this.#store.replace(old, next);
    return { code: 200, object };
  }
}

/** Each of the two doors to an object changes its part alone; metadata goes through both, for a Node. */
function restrict(before: ApiObject, asked: ApiObject, subresource: string | undefined): ApiObject {
  if (subresource === 'status') return { ...asked, spec: before.spec };
  return before.status === undefined ? asked : { ...asked, status: before.status };
}

/** Whether the write is tried and not done. */
export function isDryRun(info: RequestInfo): boolean {
  return info.query.get('dryRun') === 'All';
}

function generateName(prefix: string | undefined): string {
  if (prefix === undefined) return '';
  return prefix + Math.random().toString(36).slice(2, 7).padEnd(5, 'x');
}

/** The body of a write. Throws ApiFailure (400). */
export function parseBody(body: Buffer): ApiObject {
  if (body.length === 0) return {};
  try {
    return asObject(JSON.parse(body.toString())) ?? {};
  } catch (error) {
    const isCutOff = /Unexpected end|Unterminated/.test((error as Error).message);
    throw failures.badRequest(isCutOff ? 'unexpected end of JSON input' : 'invalid character in JSON input');
  }
}
