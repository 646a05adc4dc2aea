// The descriptor arena as TypeScript sees it: the twin of addon/engine/layout.h, compared by test/boundary.
//
// Structure of arrays over int32 words: field f of descriptor i is word f * capacity + i. Addresses are in host order
// and signed here, because int32 loads stay small integers and compare faster; `>>> 0` makes them unsigned.

export const OUTBOUND_CAPACITY = 256;
export const INBOUND_CAPACITY = 2048;

/** First word of each outbound field. Inputs first, then what the lookup fills in. */
export const OutboundField = {
  SOURCE: 0 * OUTBOUND_CAPACITY,
  DESTINATION: 1 * OUTBOUND_CAPACITY,
  LENGTH: 2 * OUTBOUND_CAPACITY,
  SEGMENTS: 3 * OUTBOUND_CAPACITY,
  VERDICT: 4 * OUTBOUND_CAPACITY,
  PEER_ADDRESS: 5 * OUTBOUND_CAPACITY,
  PEER_PORT: 6 * OUTBOUND_CAPACITY,
  PEER_MTU: 7 * OUTBOUND_CAPACITY,
  PEER_ID: 8 * OUTBOUND_CAPACITY,
  REPLY_SOURCE: 9 * OUTBOUND_CAPACITY,
  /** 0 for IPv4; 1 for IPv6, whose addresses have three more words: a REST field and the two behind it. */
  WIDE: 10 * OUTBOUND_CAPACITY,
  SOURCE_REST: 11 * OUTBOUND_CAPACITY,
  DESTINATION_REST: 14 * OUTBOUND_CAPACITY,
  REPLY_SOURCE_REST: 17 * OUTBOUND_CAPACITY,
  /** As WIDE, of the peer: 0 without one. */
  OUTER_WIDE: 20 * OUTBOUND_CAPACITY,
  PEER_ADDRESS_REST: 21 * OUTBOUND_CAPACITY,
} as const;

/** First word of each inbound field. */
export const InboundField = {
  OUTER_SOURCE: 0 * INBOUND_CAPACITY,
  OUTER_PORT: 1 * INBOUND_CAPACITY,
  INNER_SOURCE: 2 * INBOUND_CAPACITY,
  INNER_DESTINATION: 3 * INBOUND_CAPACITY,
  LENGTH: 4 * INBOUND_CAPACITY,
  SEGMENTS: 5 * INBOUND_CAPACITY,
  VERDICT: 6 * INBOUND_CAPACITY,
  PEER_ID: 7 * INBOUND_CAPACITY,
  AUDIT: 8 * INBOUND_CAPACITY,
  WIDE: 9 * INBOUND_CAPACITY,
  INNER_SOURCE_REST: 10 * INBOUND_CAPACITY,
  INNER_DESTINATION_REST: 13 * INBOUND_CAPACITY,
  /** As WIDE, of the sender. */
  OUTER_WIDE: 16 * INBOUND_CAPACITY,
  OUTER_SOURCE_REST: 17 * INBOUND_CAPACITY,
} as const;

export const OUTBOUND_FIELDS = 24;
export const INBOUND_FIELDS = 20;

/** Control words behind the last field: a count, then events: 1 for IPv6, four words of the peer, the inner MTU. */
export const MAX_EVENTS = 16;
const EVENT_WORDS = 6;
export const CONTROL_WORDS = 1 + EVENT_WORDS * MAX_EVENTS;

export const OUTBOUND_CONTROL = OUTBOUND_FIELDS * OUTBOUND_CAPACITY;

export const OUTBOUND_ARENA_WORDS = OUTBOUND_CONTROL + CONTROL_WORDS;
export const INBOUND_ARENA_WORDS = INBOUND_FIELDS * INBOUND_CAPACITY;

/** A path MTU the kernel reported: the largest inner packet that reaches `peer` in one piece. */
export interface PathMtuEvent {
  /** Unsigned; or words, signed, of IPv6. */
  readonly peer: number | readonly [number, number, number, number];
  readonly mtuBytes: number;
}

/** Takes the events off the control words at `control`. Rare: a path became narrower. */
export function takePathMtuEvents(arena: Int32Array, control: number): PathMtuEvent[] {
  const count = arena[control];
  arena[control] = 0;
  const events: PathMtuEvent[] = [];
  for (let i = 0; i < count; i++) {
    const [isWide, a, b, c, d, mtuBytes] = arena.subarray(control + 1 + EVENT_WORDS * i);
    events.push({ peer: isWide === 1 ? [a, b, c, d] : a >>> 0, mtuBytes });
  }
  return events;
}
