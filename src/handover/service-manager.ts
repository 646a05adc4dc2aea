// Descriptors that the service manager keeps while there is no process of ours: systemd's file descriptor store, or
// twill-holder, which speaks the same protocol (sd_pid_notify_with_fds(3), sd_listen_fds(3)).
//
//   stored: FDSTORE=1, FDNAME=name, FDPOLL=0     with FDPOLL left at 1, systemd throws a descriptor away when its
//                                                device is deleted, which a poll reports as an error
//   given back to the next process: from descriptor 3 on, named by LISTEN_FDNAMES
//
// twill-holder knows two assignments more, which systemd ignores: addon/holder/holder.h.
//
// Without FileDescriptorStoreMax= in the unit, systemd closes what it is sent, and nothing is given back.

import { closeSync } from 'node:fs';
import { native } from '../native/native.js';
import type { NamedDescriptor } from './descriptors.js';

const FIRST_FD = 3; // SD_LISTEN_FDS_START
const MAX_FDS = 1024;
const BARRIER_MS = 1_000;

/** Keeps descriptors for the next process of ours. */
export interface DescriptorStore {
  readonly isThere: boolean;
  keep(named: readonly NamedDescriptor[]): void;
  /** Resolves when it holds none of these names any more. */
  forget(names: readonly string[]): void;
  /** A daemon that is killed is to be followed by another one as soon as can be: packets wait. */
  beUrgent(): void;
  /** The control socket of another daemon that goes on with what is kept; undefined when none does after all. */
  leave(successor: string | undefined): void;
}

/** Keeps nothing. */
export const NO_STORE: DescriptorStore = {
  isThere: false,
  keep: () => undefined,
  forget: () => undefined,
  beUrgent: () => undefined,
  leave: () => undefined,
};

type Environment = Record<string, string | undefined>;

/** The store of the service manager that NOTIFY_SOCKET names. */
export function serviceManagerStore(env: Environment): DescriptorStore {
  const path = env['NOTIFY_SOCKET'] ?? '';
  if (path === '') return NO_STORE;
  return {
    isThere: true,
    keep: (named) => {
      for (const [name, fd] of named) native.sdNotify(path, `FDSTORE=1\nFDNAME=${name}\nFDPOLL=0`, [fd]);
    },
    forget: (names) => {
      for (const name of names) native.sdNotify(path, `FDSTOREREMOVE=1\nFDNAME=${name}`);
      if (names.length > 0) native.sdBarrier(path, BARRIER_MS);
    },
    beUrgent: () => void native.sdNotify(path, 'X_TWILL_STANDBY=1'),
    leave: (successor = '0') => void native.sdNotify(path, `X_TWILL_LEFT=${successor}`),
  };
}

/**
 * What the service manager has kept for this process, by name, closed when it execs. The variables are taken out of
 * `env`, so that no child process thinks that it is meant.
 */
export function inheritedDescriptors(env: Environment): Map<string, number> {
  const found = new Map<string, number>();
  const count = Number(env['LISTEN_FDS'] ?? 0);
  const names = (env['LISTEN_FDNAMES'] ?? '').split(':');
  const isForUs = env['LISTEN_PID'] === String(process.pid);
  for (const name of ['LISTEN_FDS', 'LISTEN_PID', 'LISTEN_FDNAMES']) delete env[name];
  if (!isForUs || !Number.isInteger(count) || count < 1 || count > MAX_FDS) return found;
  for (let i = 0; i < count; i++) {
    const fd = native.ownDescriptor(FIRST_FD + i, false);
    // systemd may hold two of a name, of which it gives the newest first, after a daemon that could not forget one. A
    // queue that nobody reads would swallow packets.
    if (fd < 0) continue;
    const name = names[i] ?? '';
    if (found.has(name)) closeSync(fd);
    else found.set(name, fd);
  }
  return found;
}
