// What the kernel has come to know of a path, as the main thread takes it.

import type { PathMtuEvent as NativePathMtuEvent } from '../native/arena.js';
import { ofWords } from '../net/address-words.js';
import { ipv4 } from '../net/ipv4.js';
import type { Address } from '../net/prefix.js';

/** The largest inner packet that reaches `peer` in one piece. */
export interface PathMtuEvent {
  readonly peer: Address;
  readonly mtuBytes: number;
}

export function pathMtuOf({ peer, mtuBytes }: NativePathMtuEvent): PathMtuEvent {
  return { peer: typeof peer === 'number' ? ipv4(peer) : ofWords(peer), mtuBytes };
}
