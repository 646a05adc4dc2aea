// The host-gw mode: no tunnel at all, a plain route for each peer's subnet with the peer itself as gateway.
//
// It takes hosts on one link: a peer behind a router would need that router to know the overlay, so such a peer gets no
// route and is shown as degraded. Routes carry our protocol number and stay at the end; see docs/kernel-modes.md.

import { type Condition, condition } from '../../core/conditions.js';
import { parseHostGwConfig } from './config.js';
import { OverlayError } from '../../core/errors.js';
import type { Kernel } from '../../kernel/kernel.js';
import { familiesOf, type FamilyName, sameDual } from '../../net/dual.js';
import {
  type Address,
  familyNameOf,
  formatAddress,
  formatAddresses,
  prefixEquals,
} from '../../net/prefix.js';
import { PeerProgrammer } from '../../programmer/programmer.js';
import { backendMode } from '../backend.js';
import type { Backend, BackendContext, ExternalInterface } from '../backend.js';
import type { RouteLookup } from '../../kernel/route.js';
import { leaseBackend, type LeaseBackend, type Peer, type PeerDiff } from '../../lease/lease.js';
import { type KernelObject, RouteObject } from '../../programmer/objects.js';
import { waysTo } from '../../programmer/peer.js';
import { showDevices, type Verdict } from '../../programmer/peers.js';
import type { MetricFamily } from '../../core/metric.js';
import type { BackendPeerStatus, HostGwStatus, PeerDetail } from '../../ops/status.js';

/** The host-gw mode. open() throws OverlayError E_BACKEND behind NAT. */
export const HOST_GW = backendMode({
  families: ['v4', 'v6'],
  parseConfig: parseHostGwConfig,
  open: (context) => new HostGwBackend(context),
});

class HostGwBackend implements Backend {
  readonly type = 'host-gw' as const;
  readonly device = undefined;
  readonly #kernel: Kernel;
  readonly #programmer: PeerProgrammer;
  #iface: ExternalInterface;
  #interfaceFault: string | undefined;

  constructor(context: BackendContext) {
    const { config, log, iface, kernel } = context;
    this.#iface = iface;
    this.#kernel = kernel;
    const fault = natFault(iface);
    if (fault !== undefined) throw new OverlayError('E_BACKEND', fault);
    const networks = familiesOf(config.networks).map((family) => config.networks[family]!.network);
    this.#programmer = new PeerProgrammer({
      kernel,
      kinds: [],
      networks,
      former: context.networks.filter((one) => !networks.some((own) => prefixEquals(own, one))),
      tunnelDevices: {},
      needsLookup: () => true,
      lookupThrough: () => this.#iface.name,
      prepare: () => this.#followInterface(),
      isStillSo: async () => (await this.#kernel.lookup.linkName(this.#iface)) === this.#iface.name,
      planPeer: (peer, lookup, family) => this.#planPeer(peer, lookup, family),
      afterFirstRun: () =>
        context.services.removeLeftovers({
          networks: context.networks,
          devices: [],
          ownsRoutes: true,
          log,
        }),
      log,
    });
  }

  publish(): Promise<LeaseBackend> {
    return Promise.resolve(leaseBackend('host-gw'));
  }

  async start(): Promise<{ readonly mtuBytes: number }> {
    await this.#programmer.open();
    return { mtuBytes: this.#iface.mtuBytes };
  }

  apply(diff: PeerDiff): void {
    this.#programmer.apply(diff);
  }

  async reconcile(): Promise<void> {
    await this.#programmer.reconcile();
  }

  async underlayChanged(iface: ExternalInterface): Promise<{ readonly mtuBytes: number }> {
    this.#iface = iface;
    this.#interfaceFault = natFault(iface);
    await this.#programmer.reconcile();
    return { mtuBytes: iface.mtuBytes };
  }

  waysTo(peer: Peer): readonly Address[] {
    return waysTo(peer);
  }

  /** The next hop itself: nothing is encapsulated between, and no address of the subnet is sure to be there. */
  echoTarget({ id }: Peer, way: Address): Address | undefined {
    return this.#programmer.carries(id, familyNameOf(way)) ? way : undefined;
  }

  conditions(): readonly Condition[] {
    const fault = this.#interfaceFault;
    const own = fault === undefined ? [] : [condition('public-ip-nat', fault)];
    return [...own, ...this.#programmer.conditions()];
  }

  status(): HostGwStatus {
    return { type: 'host-gw', interface: this.#iface.name };
  }

  peerStatus(): readonly PeerDetail[] {
    return this.#programmer.peers(showRoute);
  }

  metrics(): readonly MetricFamily[] {
    return this.#programmer.metrics();
  }

  async close(): Promise<void> {
    await this.#programmer.close();
  }

  /** Takes the name that the interface has now. Rejects when it is gone: no route is removed for that. */
  async #followInterface(): Promise<void> {
    const name = await this.#kernel.lookup.linkName(this.#iface);
    if (name === undefined)
      throw new OverlayError('E_KERNEL', `Cannot make routes: interface "${this.#iface.name}" is gone`);
    this.#iface = { ...this.#iface, name };
  }

  #planPeer({ subnets, host }: Peer, lookup: RouteLookup | undefined, family: FamilyName): Verdict {
    const publicIp: Address = host.publicIp[family]!;
    const gateway = formatAddress(publicIp);
    if (host.backend.type !== 'host-gw') {
      return {
        code: 'other_type',
        reason: `uses backend "${host.backend.type || 'udp'}", this host uses "host-gw"`,
      };
    }
    if (publicIp === this.#iface.address[family] || lookup?.isLocal === true) {
      return { code: 'invalid', reason: `has this host's own address ${gateway} as public IP` };
    }
    if (lookup === undefined) {
      return { code: 'off_link', reason: `cannot be a gateway: this host has no route to ${gateway}` };
    }
    if (lookup.gateway !== undefined) {
      const via = formatAddress(lookup.gateway);
      return {
        code: 'off_link',
        reason: `cannot be a gateway: ${gateway} is behind router ${via}, not on the same link`,
      };
    }
    if (lookup.device !== this.#iface.name) {
      const devices = `"${lookup.device}", not through "${this.#iface.name}"`;
      return { code: 'off_link', reason: `cannot be a gateway: ${gateway} is reached through ${devices}` };
    }
    const device = this.#iface.name;
    return [new RouteObject({ prefix: subnets[family]!, gateway: publicIp, device, isOnlink: false })];
  }
}

function showRoute(objects: readonly KernelObject[]): Partial<BackendPeerStatus> {
  const shown = showDevices(objects);
  return shown.device === undefined ? {} : { ...shown, isDirect: true };
}

/** Peers use the public IP as gateway, so it must be an address of this host on the link. */
function natFault(iface: ExternalInterface): string | undefined {
  if (sameDual(iface.publicIp, iface.address)) return undefined;
  const [publicIp, address] = [iface.publicIp, iface.address].map(formatAddresses);
  const differs = `public IP ${publicIp} differs from ${address} of "${iface.name}"`;
  return `Backend "host-gw" cannot work behind NAT: ${differs}`;
}
