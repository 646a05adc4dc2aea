// The other hosts of one overlay, from the store's report to the backend and the probes:
//
//   store ─► LeaseView: judge, diff ─► DiffPacer: join what follows closely ─► backend
//                                                                         └──► probers

import { type Condition, conditionOfMany } from '../core/conditions.js';
import type { Backend } from '../backend/backend.js';
import type { Logger } from '../core/log.js';
import type { MetricFamily } from '../core/metric.js';
import type { JudgeOptions } from '../lease/judge.js';
import type { LeaseUpdate, Peer, PeerDiff } from '../lease/lease.js';
import { type LeaseChange, LeaseView } from '../lease/lease-view.js';
import { familiesOf, sameDual } from '../net/dual.js';
import { type DualAddress, formatAddresses, formatPrefixes } from '../net/prefix.js';
import type { StatusDocument } from '../ops/status.js';
import type { OverlayPeer } from '../probe/overlay-prober.js';
import { Probers } from '../probe/probers.js';
import { DiffPacer } from './pacer.js';

export interface PeersOptions {
  /** What leases are judged by. */
  readonly judge: JudgeOptions;
  readonly backend: Backend;
  /** MTU of the external interface at this moment, in bytes. */
  readonly fullBytes: () => number;
  readonly log: Logger;
}

/** The piece of the status document that tells of other hosts. */
export type PeersStatus = Pick<StatusDocument, 'peers' | 'peerCounts' | 'refusedLeases' | 'alarms'>;

/** Takes what the store reports, and keeps backend and probes to it. */
export class Peers {
  readonly #view: LeaseView;
  readonly #pacer: DiffPacer;
  readonly #backend: Backend;
  readonly #log: Logger;
  /** Off until they are opened. */
  readonly probers: Probers<Peer>;
  #hasSnapshot = false;

  constructor({ judge, backend, fullBytes, log }: PeersOptions) {
    this.#view = new LeaseView(judge);
    this.#pacer = new DiffPacer((diff) => this.#applyDiff(diff));
    this.#backend = backend;
    this.#log = log;
    this.probers = new Probers<Peer>({
      families: familiesOf(judge.networks),
      peers: () => this.#probed(this.#view.accepted()),
      fullBytes,
      onPathMtu: (publicIp, mtuBytes) => backend.pathMtuChanged?.(publicIp, mtuBytes),
      targetOf: (peer, way) => backend.echoTarget(peer, way),
      packetsOf: (peer) => backend.peerPackets?.(peer),
      takeBusy: () => backend.takeBusyPeers?.() ?? [],
      nameOf,
    });
  }

  /** Takes what the store reports; the first report is a snapshot, and reaches the backend even when it is empty. */
  apply(update: LeaseUpdate): void {
    this.#applyChange(this.#view.apply(update));
  }

  /** Takes the public IP of this host, which decides which leases are its own. */
  ownPublicIpIs(publicIp: DualAddress): void {
    if (sameDual(publicIp, this.#view.ownPublicIp)) return;
    const change = this.#view.ownPublicIpChanged(publicIp);
    // Before the first snapshot an empty change would mean that there are no leases.
    if (this.#hasSnapshot) this.#applyChange(change);
  }

  /** To be called when the backend has taken note of another interface: packets may take other ways. O(peers). */
  interfaceChanged(): void {
    if (this.#hasSnapshot) this.probers.change([], this.#probed(this.#view.accepted()));
  }

  /** What is wrong with leases of other hosts, which this host does not send to. */
  conditions(): readonly Condition[] {
    const found: Condition[] = [];
    const refused = this.#view.refusals().map(({ lease, text }) => `lease ${lease.id}: ${text}`);
    if (refused.length > 0) found.push(conditionOfMany('lease-refused', refused));
    const alarms = this.#view.alarms();
    if (alarms.length > 0) found.push(conditionOfMany('lease-nested', alarms));
    return found;
  }

  metrics(): readonly MetricFamily[] {
    return [leasesRefused(this.#view.refusals().length), ...this.probers.metrics()];
  }

  /** For /status. */
  status(): PeersStatus {
    const peers = this.#backend
      .peerStatus()
      .map(({ id, ...peer }) => ({ ...peer, ...this.probers.statusOf(id) }));
    const peerCounts = this.probers.peerCounts();
    return {
      peers,
      ...(peerCounts === undefined ? {} : { peerCounts }),
      refusedLeases: this.#view.refusals().map(({ lease, code, text }) => ({ key: lease.id, code, text })),
      alarms: this.#view.alarms(),
    };
  }

  /** Nothing more reaches the backend: it is about to be closed. Idempotent. */
  close(): void {
    this.probers.close();
    this.#pacer.close();
  }

  #applyChange({ diff, refusals }: LeaseChange): void {
    for (const { lease, text } of refusals) this.#log.warn({ lease: lease.id }, `lease refused: ${text}`);
    const isEmpty = diff.added.length + diff.changed.length + diff.removed.length === 0;
    if (this.#hasSnapshot && isEmpty) return;
    this.#hasSnapshot = true;
    this.#pacer.push(diff);
  }

  #applyDiff(diff: PeerDiff): void {
    const { added, changed, removed } = diff;
    const counts = { added: added.length, changed: changed.length, removed: removed.length };
    this.#log.info({ ...counts, ...namesOf([...added, ...changed, ...removed]) }, 'leases changed');
    this.#backend.apply(diff);
    const come = new Map([...added, ...changed].map((peer) => [peer.id, peer]));
    const gone = removed.map(({ id }) => id).filter((id) => !come.has(id));
    this.probers.change(gone, this.#probed(come.values()));
  }

  *#probed(peers: Iterable<Peer>): Generator<OverlayPeer<Peer>> {
    for (const peer of peers) yield { id: peer.id, ways: this.#backend.waysTo(peer), lease: peer };
  }
}

/** Also of an overlay that knows no leases yet. */
export function leasesRefused(count: number): MetricFamily {
  return {
    name: 'leases_refused',
    help: 'Leases in the store that are not used.',
    type: 'gauge',
    values: [{ labels: {}, value: count }],
  };
}

/** What messages and metrics call a peer. */
function nameOf({ subnets }: Peer): string {
  return formatPrefixes(subnets);
}

/** Leases named in one line of the log; the rest is a count. */
const NAMED_LEASES = 5;

function namesOf(leases: readonly Peer[]): Record<string, unknown> {
  const more = leases.length - NAMED_LEASES;
  const peers = leases
    .slice(0, NAMED_LEASES)
    .map(({ subnets, host }) => `${formatPrefixes(subnets)} of ${formatAddresses(host.publicIp)}`);
  return { ...(peers.length > 0 && { peers: peers.join(', ') }), ...(more > 0 && { more }) };
}
