// What a request asks for, read from its method and path alone, as authorization sees it.

import { RESOURCES, type Resource } from './resources.js';

export type Verb = 'get' | 'list' | 'watch' | 'create' | 'update' | 'patch' | 'delete' | 'deletecollection';

export interface RequestInfo {
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly verb: Verb;
  /** As in a rule: "nodes/status"; undefined: the path is none of a resource. */
  readonly ruleName: string | undefined;
  /** Undefined: none that is served here. */
  readonly resource: Resource | undefined;
  readonly namespace: string | undefined;
  readonly name: string | undefined;
  readonly subresource: string | undefined;
}

const VERBS: Readonly<Record<string, Verb>> = {
  GET: 'get',
  HEAD: 'get',
  POST: 'create',
  PUT: 'update',
  PATCH: 'patch',
  DELETE: 'delete',
};

/** `url` is the target of the request line, as it came. */
export function parseRequest(method: string, url: string): RequestInfo {
  const [path, search] = splitOnce(url, '?');
  const query = new URLSearchParams(search);
  const parts = path.split('/').slice(1).map(decode);
  const isApi = parts[0] === 'api' && parts[1] === 'v1' && parts.length > 2;
  const hasNamespace = isApi && parts[2] === 'namespaces' && parts.length > 4;
  const [kind, name, subresource] = isApi ? parts.slice(hasNamespace ? 4 : 2) : [];
  const isName = name !== undefined && name !== '';
  return {
    method,
    path,
    query,
    verb: verbOf(method, query, isName),
    ruleName: kind === undefined || kind === '' ? undefined : ruleNameOf(kind, subresource),
    resource: RESOURCES.find((resource) => resource.name === kind),
    namespace: hasNamespace ? parts[3] : undefined,
    name: isName ? name : undefined,
    subresource,
  };
}

function ruleNameOf(kind: string, subresource: string | undefined): string {
  return subresource === undefined ? kind : `${kind}/${subresource}`;
}

function verbOf(method: string, query: URLSearchParams, isOne: boolean): Verb {
  const verb = VERBS[method] ?? 'get';
  if (isOne) return verb;
  if (verb === 'delete') return 'deletecollection';
  if (verb !== 'get') return verb;
  return ['true', '1'].includes(query.get('watch') ?? '') ? 'watch' : 'list';
}

function splitOnce(text: string, separator: string): [string, string] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
