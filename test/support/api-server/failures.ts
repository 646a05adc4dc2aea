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

export function notAcceptable(
  message = `406: Not Acceptable\n\nAvailable representations: ${REPRESENTATIONS}`,
): ApiFailure {
  return failure(406, { message, reason: 'NotAcceptable', details: {} });
}

export function alreadyExists(resource: Resource, name: string): ApiFailure {
  const message = `${resource.name} "${name}" already exists`;
  return failure(409, { message, reason: 'AlreadyExists', details: { name, kind: resource.name } });
}

export function conflict(resource: Resource, name: string, why: string): ApiFailure {
  const message = `Operation cannot be fulfilled on ${resource.name} "${name}": ${why}`;
  return failure(409, { message, reason: 'Conflict', details: { name, kind: resource.name } });
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
  const details = name === '' && kind === '' ? { causes } : { name, kind, causes };
  return failure(422, { message, reason: 'Invalid', details });
}

/** An option of a list or watch that the server does not take. */
export function invalidOption(field: string, why: string): ApiFailure {
  const cause = { reason: 'FieldValueForbidden', message: `Forbidden: ${why}`, field };
  const message = `ListOptions.meta.k8s.io "" is invalid: ${field}: ${cause.message}`;
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

const BY_CODE: Readonly<Record<number, () => ApiFailure>> = {
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
export function failureOf(code: number): ApiFailure {
  return BY_CODE[code]?.() ?? failure(code, { message: `the server answered ${code}`, reason: 'Unknown' });
}
