// One version of one object, encoded once.
//
// A cluster of 15,000 nodes is 227 MB of JSON, and a list of it would be encoded for each that asks. So the text is
// kept, not the parsed object, and laid out so that every answer is a part of it:
//
//   {"kind":"Node","apiVersion":"v1","metadata":{…},"spec":{…},"status":{…}}
//   └ of a get and a watch event ──────────────────────────────────────────┘
//                                   └ item of a list, after a "{" ─────────┘
//                                   └ metadata ────┘ of PartialObjectMetadata

import { type ApiObject, objectAt, textAt, textsOf, without } from './api-object.js';
import { type Resource, selectableFields } from './resources.js';

const OPEN = Buffer.from('{');
const CLOSE = Buffer.from('}');
const PARTIAL = Buffer.from('{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1",');

/** `item`: in a list, without kind; `metadata`: PartialObjectMetadata. */
export type View = 'full' | 'item' | 'metadata';

/** The key of an object among those of its resource. Order of keys is order of lists. */
export function keyOf(namespace: string | undefined, name: string): string {
  return namespace === undefined || namespace === '' ? name : `${namespace}/${name}`;
}

export class StoredObject {
  readonly resource: Resource;
  readonly key: string;
  readonly name: string;
  readonly namespace: string | undefined;
  readonly uid: string;
  readonly version: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly fields: Readonly<Record<string, string>>;
  readonly #text: Buffer;
  readonly #metadataStart: number;
  readonly #metadataEnd: number;

  private constructor(resource: Resource, object: ApiObject, version: number, rest: Buffer) {
    const metadata = objectAt(object, 'metadata');
    this.resource = resource;
    this.name = textAt(metadata, 'name') ?? '';
    this.namespace = textAt(metadata, 'namespace');
    this.key = keyOf(this.namespace, this.name);
    this.uid = textAt(metadata, 'uid') ?? '';
    this.version = version;
    this.labels = textsOf(metadata.labels);
    this.fields = selectableFields(resource, object);
    const head = Buffer.from(`{"kind":"${resource.kind}","apiVersion":"v1",`);
    const middle = metadataText(object, version);
    this.#text = Buffer.concat([head, middle, rest]);
    this.#metadataStart = head.length;
    this.#metadataEnd = head.length + middle.length;
  }

  /** `object` as this version of it; the version in its metadata is replaced. */
  static encode(resource: Resource, object: ApiObject, version: number): StoredObject {
    return new StoredObject(resource, object, version, restText(object));
  }

  /** `object` as a later version of this one; this one when nothing but the version differs. */
  replacedBy(object: ApiObject, version: number): StoredObject {
    const rest = restText(object);
    const isSame =
      rest.equals(this.#text.subarray(this.#metadataEnd)) &&
      metadataText(object, this.version).equals(this.#text.subarray(this.#metadataStart, this.#metadataEnd));
    return isSame ? this : new StoredObject(this.resource, object, version, rest);
  }

  /** The object, parsed anew. */
  json(): ApiObject {
    return JSON.parse(this.#text.toString()) as ApiObject;
  }

  /** Bytes of the whole. */
  get byteLength(): number {
    return this.#text.length;
  }

  /** Parts of the text, to be sent one after the other. Not to be changed. */
  parts(view: View): readonly Buffer[] {
    if (view === 'full') return [this.#text];
    if (view === 'item') return [OPEN, this.#text.subarray(this.#metadataStart)];
    return [PARTIAL, this.#text.subarray(this.#metadataStart, this.#metadataEnd), CLOSE];
  }
}

function metadataText(object: ApiObject, version: number): Buffer {
  const metadata = { ...objectAt(object, 'metadata'), resourceVersion: `${version}` };
  return Buffer.from(`"metadata":${JSON.stringify(metadata)}`);
}

/** All after the metadata, from its comma to the closing brace. */
function restText(object: ApiObject): Buffer {
  const text = JSON.stringify(without(object, 'kind', 'apiVersion', 'metadata'));
  return Buffer.from(text === '{}' ? '}' : `,${text.slice(1)}`);
}
