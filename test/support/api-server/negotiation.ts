// Which of the forms of an object a client wants: JSON whole, or its metadata alone. YAML and protobuf are not spoken
// here; who takes nothing else is told so.

import { notAcceptable, wrongForm } from './failures.js';
import type { Resource } from './resources.js';

export type Form = 'whole' | 'metadata';

/** Throws ApiFailure (406). `isList`: of a list, which has a form of its own. */
export function negotiate(accept: string | undefined, resource: Resource, isList: boolean): Form {
  const choices = (accept === undefined || accept === '' ? '*/*' : accept).split(',').map(parseChoice);
  for (const { type, parameters } of choices) {
    if (!['application/json', 'application/*', '*/*'].includes(type)) continue;
    const as = parameters.get('as');
    if (as === undefined) return 'whole';
    if (parameters.get('g') !== 'meta.k8s.io' || !['v1', 'v1beta1'].includes(parameters.get('v') ?? ''))
      continue;
    if (as === (isList ? 'PartialObjectMetadataList' : 'PartialObjectMetadata')) return 'metadata';
    if (as.startsWith('PartialObjectMetadata')) throw wrongForm(as, resource, isList);
  }
  throw notAcceptable();
}

function parseChoice(text: string): { type: string; parameters: Map<string, string> } {
  const [type, ...rest] = text.split(';').map((part) => part.trim());
  const parameters = rest.map((part): [string, string] => {
    const at = part.indexOf('=');
    return [part.slice(0, at), part.slice(at + 1)];
  });
  return { type: type.toLowerCase(), parameters: new Map(parameters) };
}
