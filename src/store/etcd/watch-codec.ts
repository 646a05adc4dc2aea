// An answer of etcd's watch, from its bytes: what a mirror looks at, and nothing else. Pure.
//
// etcd3 reads a message by its description, each 64-bit number as text and each text as bytes, which somebody has to
// make numbers and texts of: a multiple of the work of all that follows. Here an event becomes an entry in one pass.
// What is not known is skipped, as protobuf has it; a message that ends early is refused.
//
//   WatchResponse  1 header  3 created  4 canceled  5 compact_revision  6 cancel_reason  7 fragment  11 events
//   header         1 cluster_id  3 revision
//   event          1 type: 0 put, 1 delete  2 kv
//   kv             1 key  2 create_revision  3 mod_revision  5 value  6 lease
//
// Sources: etcd's api/etcdserverpb/rpc.proto and api/mvccpb/kv.proto; protobuf.dev/programming-guides/encoding.

import { MAX_VALUE_BYTES } from '../../lease/lease-codec.js';
import type { KvEntry, StorePosition } from './kv-entry.js';

/** One change of a key. */
export interface WatchEvent {
  readonly isPut: boolean;
  /** What was put; of a deletion only key and modRevision mean something. */
  readonly entry: KvEntry;
}

/** What the server says on a watch stream. */
export interface WatchAnswer {
  readonly position: StorePosition;
  readonly isCreated: boolean;
  readonly isCanceled: boolean;
  /** Events go on in the next answer. */
  readonly isFragment: boolean;
  /** 0n: the watch was not canceled for that. */
  readonly compactRevision: bigint;
  readonly cancelReason: string;
  readonly events: readonly WatchEvent[];
}

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

/** Reads fields, one after the other, up to an end. */
class Reader {
  readonly #bytes: Buffer;
  #at = 0;
  #end: number;
  /** Halves of the last varint. */
  #low = 0;
  #high = 0;
  #wire = VARINT;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
    this.#end = bytes.length;
  }

  /** Number of the next field; 0 at the end. */
  next(): number {
    if (this.#at === this.#end) return 0;
    this.#varint();
    this.#wire = this.#low & 7;
    const field = this.#low >>> 3;
    if (field === 0) throw new Error('a field has the number 0');
    return field;
  }

  /** Enters a message; the end that leave() takes. */
  enter(): number {
    const end = this.#end;
    this.#end = this.#tail();
    return end;
  }

  leave(end: number): void {
    this.#end = end;
  }

  /** A number below 2^32, or a bool. */
  small(): number {
    this.#expect(VARINT);
    this.#varint();
    return this.#low >>> 0;
  }

  /** Of int64 or uint64 as they come from etcd, which counts from 0. */
  big(): bigint {
    this.#expect(VARINT);
    this.#varint();
    const high = this.#high >>> 0;
    const low = this.#low >>> 0;
    // Up to 2^53 a number is exact, and nearly all revisions stay below that.
    return high < 1 << 21 ? BigInt(high * 2 ** 32 + low) : (BigInt(high) << 32n) | BigInt(low);
  }

  text(encoding: 'latin1' | 'utf8'): string {
    const end = this.#tail();
    const text = this.#bytes.toString(encoding, this.#at, end);
    this.#at = end;
    return text;
  }

  /** Text of at most `most` bytes, undefined when there are more, and their number. */
  bounded(most: number): { readonly text: string | undefined; readonly bytes: number } {
    const end = this.#tail();
    const bytes = end - this.#at;
    const text = bytes > most ? undefined : this.#bytes.toString('utf8', this.#at, end);
    this.#at = end;
    return { text, bytes };
  }

  skip(): void {
    if (this.#wire === VARINT) this.#varint();
    else if (this.#wire === BYTES) this.#at = this.#tail();
    else if (this.#wire === FIXED64) this.#forward(8);
    else if (this.#wire === FIXED32) this.#forward(4);
    else throw new Error(`wire type ${this.#wire}: expected 0, 1, 2 or 5`);
  }

  #expect(wire: number): void {
    if (this.#wire !== wire) throw new Error(`wire type ${this.#wire}: expected ${wire}`);
  }

  /** Reads a length; where what is that long ends. */
  #tail(): number {
    this.#expect(BYTES);
    this.#varint();
    const at = this.#at;
    this.#forward(this.#high === 0 ? this.#low >>> 0 : Infinity);
    const end = this.#at;
    this.#at = at;
    return end;
  }

  #forward(bytes: number): void {
    if (bytes > this.#end - this.#at) throw new Error('the message ends early');
    this.#at += bytes;
  }

  /** Seven bits a byte, the lowest first; ten bytes at most. */
  #varint(): void {
    this.#low = 0;
    this.#high = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      if (this.#at === this.#end) throw new Error('the message ends early');
      const byte = this.#bytes[this.#at++];
      const bits = byte & 127;
      if (shift < 32) this.#low |= bits << shift;
      if (shift > 28) this.#high |= bits << (shift - 32);
      else if (shift === 28) this.#high = bits >>> 4;
      if (byte < 128) return;
    }
    throw new Error('a number of more than ten bytes');
  }
}

/** Reads an answer. Throws Error for bytes that are no such message. */
export function decodeWatchAnswer(bytes: Buffer): WatchAnswer {
  const reader = new Reader(bytes);
  let position: StorePosition = { revision: 0n, clusterId: '0' };
  let isCreated = false;
  let isCanceled = false;
  let isFragment = false;
  let compactRevision = 0n;
  let cancelReason = '';
  const events: WatchEvent[] = [];
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 11) events.push(readEvent(reader));
    else if (field === 1) position = readHeader(reader);
    else if (field === 3) isCreated = reader.small() !== 0;
    else if (field === 4) isCanceled = reader.small() !== 0;
    else if (field === 5) compactRevision = reader.big();
    else if (field === 6) cancelReason = reader.text('utf8');
    else if (field === 7) isFragment = reader.small() !== 0;
    else reader.skip();
  }
  return { position, isCreated, isCanceled, isFragment, compactRevision, cancelReason, events };
}

function readHeader(reader: Reader): StorePosition {
  const end = reader.enter();
  let clusterId = 0n;
  let revision = 0n;
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) clusterId = reader.big();
    else if (field === 3) revision = reader.big();
    else reader.skip();
  }
  reader.leave(end);
  return { revision, clusterId: clusterId.toString() };
}

function readEvent(reader: Reader): WatchEvent {
  const end = reader.enter();
  let isPut = true;
  let entry = NO_ENTRY;
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) isPut = reader.small() === 0;
    else if (field === 2) entry = readEntry(reader);
    else reader.skip();
  }
  reader.leave(end);
  return { isPut, entry };
}

const NO_ENTRY: KvEntry = {
  key: '',
  value: '',
  valueBytes: 0,
  createRevision: 0n,
  modRevision: 0n,
  leaseId: 0n,
};

function readEntry(reader: Reader): KvEntry {
  const end = reader.enter();
  let { key, value, valueBytes, createRevision, modRevision, leaseId } = NO_ENTRY;
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) key = reader.text('latin1');
    else if (field === 2) createRevision = reader.big();
    else if (field === 3) modRevision = reader.big();
    else if (field === 5) ({ text: value, bytes: valueBytes } = reader.bounded(MAX_VALUE_BYTES));
    else if (field === 6) leaseId = reader.big();
    else reader.skip();
  }
  reader.leave(end);
  // One object until the first renewal: there may be 65,000 of each.
  if (createRevision === modRevision) createRevision = modRevision;
  return { key, value, valueBytes, createRevision, modRevision, leaseId };
}
