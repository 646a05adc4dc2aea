// The descriptors that a data path works with, and their names where they are kept between two processes.

import type { NativeDescriptors } from '../native/native.js';

/**
 * Descriptors of one data path: its TUN queues, and its sockets by family; each list by queue. With what tells that a
 * worker has ended, two for each queue, where there may be workers yet.
 */
export type Descriptors = NativeDescriptors;

const KINDS = ['tun', 'udp4', 'udp6', 'turns'] as const;

/** A descriptor under the name that says what it is: "flannel0.tun.0", "flannel0.udp4.0". */
export type NamedDescriptor = readonly [name: string, fd: number];

/** All of them by name. A name has no colon, which systemd allows in none (sd_listen_fds_with_names(3)). */
export function namedDescriptors(device: string, descriptors: Descriptors): readonly NamedDescriptor[] {
  return KINDS.flatMap((kind) =>
    descriptors[kind].map((fd, queue): NamedDescriptor => [`${device}.${kind}.${queue}`, fd]),
  );
}

/** Whether a name is one of namedDescriptors(), of whatever device. */
export function isQueueName(name: string): boolean {
  return KINDS.some((kind) => name.includes(`.${kind}.`));
}

/** Whether a name is one of a device's queues and sockets. */
export function isNameOf(device: string, name: string): boolean {
  return KINDS.some((kind) => name.startsWith(`${device}.${kind}.`));
}

/** The name of a file of SavedState. */
export function stateName(device: string, index: number): string {
  return `${device}.state.${index}`;
}

/** The descriptors of a device among others by name; undefined without any, or when a queue of a kind is missing. */
export function descriptorsOf(device: string, found: ReadonlyMap<string, number>): Descriptors | undefined {
  const of = (kind: (typeof KINDS)[number]): readonly number[] => {
    const fds: number[] = [];
    for (let queue = 0; ; queue++) {
      const fd = found.get(`${device}.${kind}.${queue}`);
      if (fd === undefined) return fds;
      fds.push(fd);
    }
  };
  const [tun, udp4, udp6, turns] = [of('tun'), of('udp4'), of('udp6'), of('turns')];
  const isWhole = tun.length > 0 && [udp4, udp6].every(({ length }) => length === 0 || length === tun.length);
  return isWhole && udp4.length + udp6.length > 0 ? { tun, udp4, udp6, turns } : undefined;
}
