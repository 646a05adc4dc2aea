// A second process of the daemon, which twill-holder keeps waiting for the first to die: all of its code is loaded, and
// nothing of the host is touched yet.

import { native } from '../native/native.js';

const EINTR = 4;

/**
 * Waits to become the daemon. Blocks this thread. What was kept for it, by name, the caller's to close; undefined when
 * the holder is gone.
 */
export function waitAsStandby(stream: number): Map<string, number> | undefined {
  native.ownDescriptor(stream, false);
  let text = '';
  const descriptors: number[] = [];
  while (!text.endsWith('\n')) {
    const received = native.receiveMessage(stream, -1);
    if ('errno' in received) {
      if (received.errno === EINTR) continue;
      return undefined;
    }
    if (received.text === '') return undefined;
    text += received.text;
    descriptors.push(...received.descriptors);
  }
  const names = text.trim().split(':');
  return new Map(descriptors.map((fd, i) => [names[i] ?? '', fd]));
}
