// A backend: how packets for a peer's subnet are carried. One folder per mode; none imports another.
//
// Life: publish, start, then apply and reconcile in any number, then close. A backend receives desired state and makes
// the kernel match it; what fails is retried with backoff by the backend itself and shown by conditions(), never logged
// and forgotten.

import { OverlayError } from '../core/errors.js';
import type { LeaseBackend, Peer, PeerDiff } from '../lease/lease.js';
import type { LaneChoice, Offload, OffloadSwitches, SourceCheck } from '../config/options.js';
import type { NetworkConfig } from '../config/network-config.js';
import type { RawBackend } from '../config/reader.js';
import type { LeftoverOptions } from '../cleanup/leftovers.js';
import type { MemberGuard, MemberGuardOptions } from '../firewall/member-guard.js';
import type { Kernel } from '../kernel/kernel.js';
import type { ExternalInterface } from '../kernel/underlay.js';
import type { Handover, LeftDataPath } from '../handover/handover.js';
import type { FamilyName } from '../net/dual.js';
import type { Address, DualPrefix, Prefix } from '../net/prefix.js';
import type { Logger } from '../core/log.js';
import type { Part } from '../core/part.js';
import type { ModeStatus, PeerDetail } from '../ops/status.js';

/** What a backend has done to the host beside its objects in the kernel; passed in, as the kernel is. */
export interface HostServices {
  removeLeftovers(options: LeftoverOptions): Promise<void>;
  openGuard(options: MemberGuardOptions): Guard;
}

/** Source check of the vxlan mode. */
export type Guard = Pick<
  MemberGuard,
  'add' | 'remove' | 'setComplete' | 'sync' | 'verify' | 'failure' | 'dropped' | 'repairs'
>;

export interface BackendContext {
  readonly kernel: Kernel;
  readonly services: HostServices;
  readonly config: NetworkConfig;
  readonly iface: ExternalInterface;
  readonly sourceCheck: SourceCheck;
  /** Queues of the TUN device (udp only). */
  readonly queues: number;
  /** What may be used where the kernel grants it (udp only). */
  readonly offload: OffloadSwitches;
  /** Which packets the kernel carries past the workers (udp only). */
  readonly lane: LaneChoice;
  /** What of ours in the kernel may be swept: the Network, and the one that this host's last run served. */
  readonly networks: readonly Prefix<Address>[];
  /** Holds the name of a device against the other daemons of this host; false when one of them has it. */
  readonly holdDevice: (name: string) => Promise<boolean>;
  /** What the last run of this host published, as far as the store knows. */
  readonly formerBackend?: LeaseBackend | undefined;
  /** Whether the device may leave checksums to the card below it (vxlan only). */
  readonly vxlanTxChecksum: Offload;
  /** What a data path before this one left (udp only). */
  readonly handover: Handover;
  readonly log: Logger;
}

/** As a Part it gives its piece of the status document, but for the peers. */
export interface Backend extends Part<ModeStatus> {
  readonly type: ModeStatus['type'];
  /** The device that carries the overlay, where the mode has one of its own. */
  readonly device: string | undefined;
  /** What the lease must publish. May create what it takes to know that (vxlan: the device and its MAC). */
  publish(): Promise<LeaseBackend>;
  /** Makes the device and routes for the own subnets. Resolves when packets can flow. */
  start(own: DualPrefix): Promise<{ readonly mtuBytes: number }>;
  /**
   * Peers changed. All are judged fit (lease/judge.ts), and none is this host: a backend refuses only for reasons of
   * its own. Returns at once; work is queued inside. The first call brings the first snapshot and is made even when
   * that is empty: only then does a backend remove what no lease asks for.
   */
  apply(diff: PeerDiff): void;
  /**
   * Compare the kernel with desired state and repair it. Called on kernel events and on a timer; runs are serialised.
   */
  reconcile(): Promise<void>;
  /** Rules of ours in nftables may have changed: compare and repair them at once, without the rest. Never rejects. */
  rulesChanged?(): Promise<void>;
  /**
   * The external interface was chosen again after it changed (address, MTU, index). Resolves with the MTU now in force.
   */
  underlayChanged(iface: ExternalInterface): Promise<{ readonly mtuBytes: number }>;
  /** The largest packet that reaches a peer was measured: its inner packets must not make larger ones. */
  pathMtuChanged?(peer: Address, mtuBytes: number): void;
  /**
   * The public IP on each way that packets to a host take: one, or one of IPv4 and then one of IPv6. None to a host
   * that peerStatus() leaves out.
   */
  waysTo(peer: Peer): readonly Address[];
  /** The address at a host's end of such a way, which an echo shows to work; undefined while nothing is sent there. */
  echoTarget(peer: Peer, way: Address): Address | undefined;
  /** Packets outbound and inbound of a host so far, where this process carries them. */
  peerPackets?(peer: Peer): readonly [number, number];
  /**
   * Ids of hosts with which packets were exchanged lately, beyond the echoes of the probes, where this process carries
   * them. To be called ten times a second: each host is looked at once a second, and named then while it has traffic.
   */
  takeBusyPeers?(): readonly string[];
  /** False while a thread of it is hung, which only a restart mends: the service manager's watchdog is not fed then. */
  isAlive?(): boolean;
  /** Until the result is called, all packets that leave are seen on the device, whatever that costs. */
  showAll?(): () => void;
  /**
   * Leaves the data path to another daemon: from now on it forwards, and nothing else is done for it; close() does
   * nothing any more. Undefined where the kernel forwards, or while there is none.
   */
  leave?(): LeftDataPath | undefined;
  /** For /status: what the backend holds for each peer. */
  peerStatus(): readonly PeerDetail[];
  /** Idempotent; leaves in the kernel what the mode promises to keep (see docs/lifecycle.md). */
  close(): Promise<void>;
}

/** What a mode's folder exports. */
export interface BackendMode {
  /** Families of networks that it can carry. */
  readonly families: readonly FamilyName[];
  /** Throws OverlayError E_CONFIG or E_BACKEND when the settings are wrong, or cannot work on this host. */
  open(context: BackendContext): Backend;
}

/** A mode with its own config parser, which has the Backend object of the network config to itself. */
export function backendMode<Config extends { readonly unknownKeys: readonly string[] }>(mode: {
  readonly families: readonly FamilyName[];
  parseConfig(backend: RawBackend): Config;
  open(context: BackendContext, config: Config): Backend;
}): BackendMode {
  return {
    families: mode.families,
    open: (context) => {
      const config = parsed(mode.parseConfig.bind(mode), context.config);
      const { unknownKeys } = config;
      if (unknownKeys.length > 0)
        context.log.warn({ keys: unknownKeys }, 'network config: unknown keys in Backend ignored');
      return mode.open(context, config);
    },
  };
}

/** What a mode reads in its Backend object; its complaint says where that came from. */
function parsed<Config>(parse: (backend: RawBackend) => Config, { backend, source }: NetworkConfig): Config {
  try {
    return parse(backend);
  } catch (error) {
    if (!(error instanceof OverlayError)) throw error;
    throw new OverlayError(error.code, `${source}: ${error.message}`, { cause: error });
  }
}

export type { ExternalInterface };
