// Answers that refuse: the Status objects of a real API server, word for word as the recordings have them.

import type { ApiObject } from './api-object.js';
import type { Resource } from './resources.js';

/** One request is refused. Thrown inside the stand-in, and sent as its answer. */
export class ApiFailure extends Error {
  readonly code: number;
  /** A Status, or a text when that is how it is said. */
  readonly body: ApiObject | string;
  readonly headers: Readonly<Record<string, string>>;

  constructor(code: number, body: ApiObject | string, headers: Readonly<Record<string, string>> = {}) {
    super(typeof body === 'string' ? body : String(body.message));
    this.code = code;
    this.body = body;
    this.headers = headers;
  }
}

/** What is wrong with one field. */
export interface Cause {
  readonly reason: string;
  readonly message: string;
  readonly field?: string;
}

interface StatusParts {
  readonly message: string;
  readonly reason?: string;
  readonly details?: ApiObject;
  readonly metadata?: ApiObject;
}

/** A Status that says failure, its fields in the order of a real one. */
export function failureStatus(code: number, parts: StatusParts): ApiObject {
  const { message, reason, details, metadata = {} } = parts;
  return {
    kind: 'Status',
    apiVersion: 'v1',
    metadata,
    status: 'Failure',
    message,
    ...(reason === undefined ? {} : { reason }),
    ...(details === undefined ? {} : { details }),
    code,
  };
}

function failure(code: number, parts: StatusParts, headers?: Readonly<Record<string, string>>): ApiFailure {
  return new ApiFailure(code, failureStatus(code, parts), headers);
}

export function badRequest(message: string): ApiFailure {
  return failure(400, { message, reason: 'BadRequest' });
}

export function unauthorized(): ApiFailure {
  return failure(401, { message: 'Unauthorized', reason: 'Unauthorized' });
}

/** `scope` closes the sentence: "at the cluster scope" or "in the namespace "x"". */
export function forbidden(
  user: string,
  verb: string,
  resource: string,
  name: string | undefined,
  scope: string,
): ApiFailure {
  const kind = resource.split('/')[0];
  const what = name === undefined ? kind : `${kind} "${name}"`;
  const message =
    `${what} is forbidden: User "${user}" cannot ${verb} resource "${resource}" ` +
    `in API group "" ${scope}`;
  return failure(403, {
    message,
    reason: 'Forbidden',
    details: { ...(name === undefined ? {} : { name }), kind },
  });
}

/** The path of something that is no resource. */
export function forbiddenPath(user: string, verb: string, path: string): ApiFailure {
  const message = `forbidden: User "${user}" cannot ${verb} path "${path}"`;
  return failure(403, { message, reason: 'Forbidden', details: {} });
}

export function notFound(resource: Resource, name: string): ApiFailure {
  const message = `${resource.name} "${name}" not found`;
  return failure(404, { message, reason: 'NotFound', details: { name, kind: resource.name } });
}

/** A path below /api/v1 that leads to nothing. */
export function noSuchResource(): ApiFailure {
  const message = 'the server could not find the requested resource';
  return failure(404, { message, reason: 'NotFound', details: {} });
}

export function methodNotAllowed(): ApiFailure {
  const message = 'the server does not allow this method on the requested resource';
  return failure(405, { message, reason: 'MethodNotAllowed', details: {} });
}

const REPRESENTATIONS = 'application/json, application/yaml, application/vnd.kubernetes.protobuf';

export function notAcceptable(): ApiFailure {
  const message = `406: Not Acceptable\n\nAvailable representations: ${REPRESENTATIONS}`;
  return failure(406, { message, reason: 'NotAcceptable', details: {} });
}

/** A form that is that of a list is asked of one object, or the other way round. */
export function wrongForm(form: string, { kind }: Resource, isList: boolean): ApiFailure {
  const what = isList ? `a list (*core.${kind}List)` : `not a list (*core.${kind})`;
  const message = `you requested ${form}, but the requested object is ${what}`;
  return failure(406, { message, reason: 'NotAcceptable' });
}

export function alreadyExists(resource: Resource, name: string): ApiFailure {
  const message = `${resource.name} "${name}" already exists`;
  return failure(409, { message, reason: 'AlreadyExists', details: { name, kind: resource.name } });
}

export function conflict(resource: Resource, name: string, why: string): ApiFailure {
  const message = `Operation cannot be fulfilled on ${resource.name} "${name}": ${why}`;
  return failure(409, { message, reason: 'Conflict', details: { name, kind: resource.name } });
}

/** What a write was made to depend on is not so, in the words of the storage layer. */
export function failedPrecondition(
  resource: Resource,
  name: string,
  wanted: string,
  found: string,
): ApiFailure {
  const why = `Precondition failed: UID in precondition: ${wanted}, UID in object meta: ${found}`;
  // What etcd has a Node under is its name of long ago.
  const key = `/registry/${resource.name === 'nodes' ? 'minions' : resource.name}/${name}`;
  const where = `Code: 4, Key: ${key}, ResourceVersion: 0`;
  return conflict(resource, name, `StorageError: invalid object, ${where}, AdditionalErrorMsg: ${why}`);
}

const FATE = { UID: 'deleted and then recreated', ResourceVersion: 'modified' };

/** A deletion that was meant for another object, or another version of it. */
export function failedDeletion(
  { kind }: Resource,
  name: string,
  what: keyof typeof FATE,
  wanted: string,
  found: string,
): ApiFailure {
  const why = `the ${what} in the precondition (${wanted}) does not match the ${what} in record (${found})`;
  const message =
    `Operation cannot be fulfilled on ${kind} "${name}": ${why}. ` +
    `The object might have been ${FATE[what]}`;
  return failure(409, { message, reason: 'Conflict', details: { name, kind } });
}

/** As a status: of an expired `continue` (with a token for the rest) or an exact version. */
export function expired(message: string, continueToken?: string): ApiFailure {
  const metadata = continueToken === undefined ? {} : { continue: continueToken };
  return failure(410, { message, reason: 'Expired', metadata });
}

export function tooLargeBody(): ApiFailure {
  const message = 'Request entity too large: limit is 3145728';
  return failure(413, { message, reason: 'RequestEntityTooLarge', details: {} });
}

export function unsupportedMediaType(): ApiFailure {
  const message = '415: Unsupported Media Type';
  return failure(415, { message, reason: 'UnsupportedMediaType', details: {} });
}

/**
 * `kind` and `name` of the object that is not valid. A real server runs its validation up to three times over a patch
 * and names a cause as often; its message names it once.
 */
export function invalid(kind: string, name: string, cause: Cause, times = 1): ApiFailure {
  const causes = Array.from({ length: times }, () => cause);
  const message = `${kind} "${name}" is invalid: ${cause.field}: ${cause.message}`;
  const details = { ...(name === '' ? {} : { name }), ...(kind === '' ? {} : { kind }), causes };
  return failure(422, { message, reason: 'Invalid', details });
}

/** An option of a list or watch that the server does not take. */
export function invalidOption(field: string, why: string): ApiFailure {
  return badOption({ reason: 'FieldValueForbidden', message: `Forbidden: ${why}`, field });
}

/** An option that has a value which means nothing. */
export function unsupportedOption(field: string, value: string, supported: readonly string[]): ApiFailure {
  const values = supported.map((each) => `"${each}"`).join(', ');
  const message = `Unsupported value: "${value}": supported values: ${values}`;
  return badOption({ reason: 'FieldValueNotSupported', message, field });
}

function badOption(cause: Required<Cause>): ApiFailure {
  const message = `ListOptions.meta.k8s.io "" is invalid: ${cause.field}: ${cause.message}`;
  const details = { group: 'meta.k8s.io', kind: 'ListOptions', causes: [cause] };
  return failure(422, { message, reason: 'Invalid', details });
}

/** Of priority and fairness: a text, no Status. */
export function tooManyRequests(retryAfterSeconds = 1): ApiFailure {
  return new ApiFailure(429, 'Too many requests, please try again later.\n', {
    'content-type': 'text/plain; charset=utf-8',
    'retry-after': `${retryAfterSeconds}`,
    'x-content-type-options': 'nosniff',
  });
}

export function badVersion(text: string): ApiFailure {
  return failure(500, { message: badVersionMessage(text) });
}

export function badVersionMessage(text: string): string {
  return `resourceVersion: Invalid value: "${text}": strconv.ParseUint: parsing "${text}": invalid syntax`;
}

export function internalError(message: string): ApiFailure {
  return failure(500, {
    message: `Internal error occurred: ${message}`,
    reason: 'InternalError',
    details: { causes: [{ message }] },
  });
}

export function serviceUnavailable(): ApiFailure {
  return failure(503, { message: 'apiserver is shutting down', reason: 'ServiceUnavailable' });
}

export function tooLargeVersion(version: number, current: number): ApiFailure {
  const details = {
    causes: [{ reason: 'ResourceVersionTooLarge', message: 'Too large resource version' }],
    retryAfterSeconds: 1,
  };
  const message = `Timeout: Too large resource version: ${version}, current: ${current}`;
  return failure(504, { message, reason: 'Timeout', details }, { 'retry-after': '1' });
}

/** The object of an ERROR event: the version a watch asks from is gone. */
export function tooOldStatus(version: number, floor: number): ApiObject {
  const message = `too old resource version: ${version} (${floor})`;
  return failureStatus(410, { message, reason: 'Expired' });
}

const BY_CODE: Readonly<Record<number, (retryAfterSeconds?: number) => ApiFailure>> = {
  401: unauthorized,
  404: noSuchResource,
  405: methodNotAllowed,
  406: notAcceptable,
  415: unsupportedMediaType,
  429: tooManyRequests,
  500: () => internalError('etcdserver: request timed out'),
  503: serviceUnavailable,
};

/** What a server says with this status when there is no more to say. */
export function failureOf(code: number, retryAfterSeconds?: number): ApiFailure {
  const made = BY_CODE[code]?.(retryAfterSeconds) ?? plainFailure(code);
  if (retryAfterSeconds === undefined) return made;
  return new ApiFailure(code, made.body, { ...made.headers, 'retry-after': `${retryAfterSeconds}` });
}

function plainFailure(code: number): ApiFailure {
  return failure(code, { message: `the server answered ${code}`, reason: 'Unknown' });
}
