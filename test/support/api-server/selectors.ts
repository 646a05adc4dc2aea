// labelSelector and fieldSelector of a query, as one function over stored objects.

import { badRequest } from './failures.js';
import type { Resource } from './resources.js';
import type { StoredObject } from './stored-object.js';

export interface Selection {
  /** Whether nothing is selected by: all objects of the resource. */
  readonly isAll: boolean;
  includes(object: StoredObject): boolean;
}

type Test = (values: Readonly<Record<string, string>>) => boolean;

/** Throws ApiFailure (400) for a field that cannot be selected by, and a text that is no selector. */
export function parseSelection(
  resource: Resource,
  namespace: string | undefined,
  query: URLSearchParams,
): Selection {
  const labels = split(query.get('labelSelector') ?? '').map(parseLabelTest);
  const fields = split(query.get('fieldSelector') ?? '').map((text) => parseFieldTest(resource, text));
  return {
    isAll: labels.length === 0 && fields.length === 0,
    includes: (object) =>
      (namespace === undefined || object.namespace === namespace) &&
      labels.every((test) => test(object.labels)) &&
      fields.every((test) => test(object.fields)),
  };
}

/** At commas outside parentheses. */
function split(text: string): string[] {
  return text.split(/,(?![^(]*\))/).filter((part) => part !== '');
}

function parseFieldTest(resource: Resource, text: string): Test {
  const [, field, operator, value] = /^([^=!]+)(==?|!=)(.*)$/.exec(text) ?? [];
  if (field === undefined) throw badRequest(`invalid selector: '${text}'; can't understand '${text}'`);
  if (!(field in resource.selectable)) throw badRequest(`field label not supported: ${field}`);
  return (values) => (values[field] === value) === (operator !== '!=');
}

function parseLabelTest(text: string): Test {
  const set = /^\s*(\S+)\s+(in|notin)\s+\(([^)]*)\)\s*$/.exec(text);
  if (set !== null) {
    const [, key, operator, list] = set;
    const values = list.split(',').map((value) => value.trim());
    return (labels) => (key in labels && values.includes(labels[key])) === (operator === 'in');
  }
  const equality = /^([^=!]+)(==?|!=)(.*)$/.exec(text);
  if (equality !== null) {
    const [, key, operator, value] = equality;
    return (labels) => (labels[key.trim()] === value.trim()) === (operator !== '!=');
  }
  const [, not, key] = /^\s*(!?)\s*([\w./-]+)\s*$/.exec(text) ?? [];
  if (key === undefined) throw badRequest(`unable to parse requirement: found '${text}'`);
  return (labels) => key in labels === (not === '');
}
