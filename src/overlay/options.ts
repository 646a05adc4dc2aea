// What an overlay is made with, and how it may end.

import type { OverlayError } from '../core/errors.js';
import type { Logger } from '../core/log.js';
import type { Flags } from '../config/flags.js';
import type { Handover } from '../handover/handover.js';
import type { HeldNames } from '../kernel/held-names.js';
import type { LeaseStore } from '../store/store.js';
import type { OverlayProgress } from './parts.js';
import type { Surroundings } from './surroundings.js';

/** What an overlay is made with; the groups of flags are those of `parseFlags()`, with their defaults. */
export interface OverlayOptions {
  /** From `openStore()`. The overlay closes it, also when it cannot be opened. */
  readonly store: LeaseStore;
  /** Path of subnet.env, which other programs read and which nobody else may keep. */
  readonly subnetFile: string;
  /** How the interface to the other hosts is chosen. */
  readonly underlay: Flags['underlay'];
  readonly backend: Flags['backend'];
  readonly offloads: Flags['offloads'];
  readonly firewall: Flags['firewall'];
  readonly probes: Flags['probes'];
  readonly log: Logger;
  /** Ends the opening, and what a running overlay is at; close() is still to be called. */
  readonly signal: AbortSignal;
  /** Whether to start from the saved table when the store does not answer. @default true */
  readonly mayUseTable?: boolean;
  /** What is held on this host already; its owner lets go of it, after close(). @default what the overlay holds */
  readonly names?: HeldNames;
  /** Told of each step, for those who ask how it is before it is open. @default nobody */
  readonly onProgress?: (progress: OverlayProgress) => void;
  /** What another data path left, in this process or another. @default nothing */
  readonly handover?: Handover;
  /** @default this host */
  readonly surroundings?: Partial<Surroundings>;
}

/**
 * Why an overlay does not go on by itself; it is to be closed then. "lost": the own lease is gone for good, and `error`
 * is E_LEASE_LOST. "outdated": the store's config makes another overlay than the saved table, from which this one was
 * started; it is to be opened again.
 */
export type OverlayEnd =
  { readonly kind: 'outdated' } | { readonly kind: 'lost'; readonly error: OverlayError };
