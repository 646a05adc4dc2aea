// The vxlan mode: a kernel VXLAN device carries the packets, twill tells it where each subnet lives.
//
// Device flannel.<VNI> with the own subnet's .0/32; for each peer a neighbour, an FDB entry and an onlink route; with
// DirectRouting a plain route for peers on the same link. Everything is left in place at the end, so that the kernel
// goes on forwarding while no daemon runs, and taken over by the next one. What differs from desired state is repaired
// by reconcile(); see programmer/programmer.ts for the order of things and docs/kernel-modes.md for the whole.

import { type Condition, condition } from '../../core/conditions.js';
import { OverlayError } from '../../core/errors.js';
import { parseVxlanConfig } from './config.js';
import { parseVtepData } from './vtep.js';
import { formatIpv4, type Ipv4 } from '../../net/ipv4.js';
import type { DualPrefix, Prefix } from '../../net/prefix.js';
import { PeerProgrammer } from '../../programmer/programmer.js';
import { VxlanDevice } from './device.js';
import { backendMode } from '../backend.js';
import type { Backend, BackendContext, ExternalInterface, Guard } from '../backend.js';
import type { VxlanConfig } from './config.js';
import type { RouteLookup } from '../../kernel/route.js';
import { leaseBackend, type LeaseBackend, type Peer, type PeerDiff } from '../../lease/lease.js';
import { type KernelObject, RouteObject } from '../../programmer/objects.js';
import type { Verdict } from '../../programmer/peers.js';
import { FdbObject, NeighbourObject, TUNNEL_KINDS } from './objects.js';
import type { BackendPeerStatus, PeerDetail, VxlanStatus } from '../../ops/status.js';
import type { MetricFamily } from '../../core/metric.js';

/** The vxlan mode. open() throws OverlayError E_CONFIG when an MTU does not fit. */
export const VXLAN = backendMode({
  families: ['v4'],
  parseConfig: parseVxlanConfig,
  open: (context, config) => new VxlanBackend(context, config),
});

class VxlanBackend implements Backend {
  readonly type = 'vxlan' as const;
  readonly #context: BackendContext;
  readonly #config: VxlanConfig;
  readonly #device: VxlanDevice;
  readonly #programmer: PeerProgrammer;
  readonly #guard: Guard;
  readonly #memberLeases = new Map<string, Ipv4>();
  #iface: ExternalInterface;
  #ownSubnet: Prefix | undefined;
  #isVerifyDue = false;

  constructor(context: BackendContext, settings: VxlanConfig) {
    const { config, log, iface } = context;
    this.#context = context;
    this.#iface = iface;
    this.#config = settings;
    this.#device = new VxlanDevice({
      kernel: context.kernel,
      config: this.#config,
      network: config.networks.v4!.network,
      networks: context.networks,
      hasTxChecksum: context.vxlanTxChecksum === 'auto',
      formerMac: formerMac(context, settings.vni),
      log,
    });
    this.#device.mtuBytes(iface); // an MTU that does not fit is told before anything is touched
    this.#guard = context.services.openGuard({
      port: this.#config.port,
      vni: this.#config.vni,
      sourceCheck: context.sourceCheck,
    });
    this.#programmer = new PeerProgrammer({
      kernel: context.kernel,
      kinds: TUNNEL_KINDS,
      network: config.networks.v4!.network,
      former: context.networks[1],
      tunnelDevice: this.#device.name,
      needsLookup: () => this.#config.hasDirectRouting,
      lookupThrough: () => this.#iface.name,
      planPeer: (peer, lookup) => this.#planPeer(peer, lookup),
      prepare: () => this.#prepare(),
      isStillSo: async () => (await context.kernel.lookup.linkName(this.#iface)) === this.#iface.name,
      beside: () => this.#syncGuard(),
      afterFirstRun: () =>
        context.services.removeLeftovers({
          networks: context.networks,
          device: this.#device.name,
          ownsRoutes: true,
          log,
        }),
      log,
    });
  }

  get device(): string {
    return this.#device.name;
  }

  async publish(): Promise<LeaseBackend> {
    const { name } = this.#device;
    if (!(await this.#context.holdDevice(name)))
      throw new OverlayError(
        'E_RUNNING',
        `Another daemon has the device ${name}: give each its own Backend.VNI`,
      );
    await this.#device.ensure(this.#iface, undefined);
    return leaseBackend('vxlan', { VNI: this.#config.vni, VtepMAC: this.#device.mac });
  }

  async start({ v4: subnet }: DualPrefix): Promise<{ readonly mtuBytes: number }> {
    this.#ownSubnet = subnet!;
    await this.#device.ensure(this.#iface, { address: subnet!.address, length: 32 });
    await this.#programmer.open();
    return { mtuBytes: this.#device.mtuBytes(this.#iface) };
  }

  apply(diff: PeerDiff): void {
    for (const peer of diff.removed) this.#noteMember(peer, false);
    for (const peer of diff.changed) this.#noteMember(peer, true);
    for (const peer of diff.added) this.#noteMember(peer, true);
    this.#guard.setComplete();
    this.#programmer.apply(diff);
  }

  async reconcile(): Promise<void> {
    this.#isVerifyDue = true;
    await this.#programmer.reconcile();
  }

  rulesChanged(): Promise<void> {
    return this.#guard.verify();
  }

  async underlayChanged(iface: ExternalInterface): Promise<{ readonly mtuBytes: number }> {
    this.#iface = iface;
    await this.#programmer.reconcile();
    return { mtuBytes: this.#device.mtuBytes(iface) };
  }

  /** The VXLAN device of each host, flanneld's too, has the lowest address of its subnet. */
  echoTarget({ id, subnets }: Peer): Ipv4 | undefined {
    return this.#programmer.carries(id) ? subnets.v4!.address : undefined;
  }

  conditions(): readonly Condition[] {
    const { failure } = this.#guard;
    const own = failure === undefined ? [] : [condition('source-check-off', failure)];
    return [...own, ...this.#programmer.conditions()];
  }

  status(): VxlanStatus {
    const { vni, port, hasGbp, hasLearning, hasDirectRouting } = this.#config;
    const { name: device, mac } = this.#device;
    return {
      type: 'vxlan',
      device,
      ...(mac === undefined ? {} : { mac }),
      vni,
      port,
      hasGbp,
      hasLearning,
      hasDirectRouting,
      interface: this.#iface.name,
      sourceCheck: this.#context.sourceCheck,
      refusedDatagrams: this.#guard.dropped,
    };
  }

  peerStatus(): readonly PeerDetail[] {
    return this.#programmer.peers(showTunnel);
  }

  metrics(): readonly MetricFamily[] {
    return [
      ...this.#programmer.metrics(),
      {
        name: 'vxlan_source_refused_total',
        help: 'VXLAN datagrams dropped because their sender has no lease, as of the last check.',
        type: 'counter',
        values: [{ labels: {}, value: this.#guard.dropped }],
      },
      {
        name: 'vxlan_guard_repairs_total',
        help: 'Times the nft table of the source check was found missing or changed.',
        type: 'counter',
        values: [{ labels: {}, value: this.#guard.repairs }],
      },
    ];
  }

  async close(): Promise<void> {
    await this.#programmer.close();
  }

  async #prepare(): Promise<void> {
    if (this.#ownSubnet === undefined) return;
    // Direct routes name the interface; the device knows it by its index.
    if (this.#config.hasDirectRouting) {
      const name = await this.#context.kernel.lookup.linkName(this.#iface);
      if (name !== undefined) this.#iface = { ...this.#iface, name };
    }
    const change = await this.#device.ensure(this.#iface, { address: this.#ownSubnet.address, length: 32 });
    if (change.wasMade || change.wasRepaired) this.#programmer.countRepair('device');
    if (change.wasAddressed) this.#programmer.countRepair('address');
  }

  async #syncGuard(): Promise<void> {
    if (!this.#isVerifyDue) return await this.#guard.sync();
    this.#isVerifyDue = false;
    await this.#guard.verify();
  }

  /** Members are counted whether or not they can be programmed: a lease is what makes a host one. */
  #noteMember({ id, host }: Peer, isMember: boolean): void {
    const before = this.#memberLeases.get(id);
    if (before !== undefined) this.#guard.remove(before);
    this.#memberLeases.delete(id);
    if (!isMember || host.backend.type !== 'vxlan') return;
    this.#memberLeases.set(id, host.publicIp.v4!);
    this.#guard.add(host.publicIp.v4!);
  }

  #planPeer({ subnets, host }: Peer, lookup: RouteLookup | undefined): Verdict {
    const subnet = subnets.v4!;
    const publicIp = host.publicIp.v4!;
    if (host.backend.type !== 'vxlan') {
      return {
        code: 'other_type',
        reason: `uses backend "${host.backend.type || 'udp'}", this host uses "vxlan"`,
      };
    }
    if (publicIp === this.#iface.address.v4 || publicIp === this.#iface.publicIp.v4) {
      return { code: 'invalid', reason: `has this host's own public IP ${formatIpv4(publicIp)}` };
    }
    const isDirect =
      this.#config.hasDirectRouting &&
      lookup !== undefined &&
      lookup.gateway === undefined &&
      !lookup.isLocal &&
      lookup.device === this.#iface.name;
    if (isDirect) {
      const { device } = lookup;
      return [new RouteObject({ prefix: subnet, gateway: publicIp, device, isOnlink: false })];
    }
    const vtep = parseVtepData(host.backend.data.v4, publicIp, this.#config.vni);
    if (typeof vtep === 'string') return { code: 'invalid', reason: `cannot be reached: ${vtep}` };
    if (vtep.vni !== undefined && vtep.vni !== this.#config.vni) {
      return { code: 'invalid', reason: `uses VNI ${vtep.vni}, this host uses ${this.#config.vni}` };
    }
    if (vtep.mac === this.#device.mac) {
      return { code: 'invalid', reason: `publishes VtepMAC ${vtep.mac}, which is this host's own` };
    }
    const { name: device } = this.#device;
    const { address } = subnet;
    return [
      new NeighbourObject(device, { address, mac: vtep.mac }),
      new FdbObject(device, { mac: vtep.mac, destination: publicIp, isPermanent: true }),
      new RouteObject({ prefix: subnet, gateway: address, device, isOnlink: true }),
    ];
  }
}

/** The MAC that the last run published, which the peers have in their FDB. */
function formerMac({ formerBackend, iface }: BackendContext, vni: number): string | undefined {
  if (formerBackend?.type !== 'vxlan' || formerBackend.data.v4 === undefined) return undefined;
  const vtep = parseVtepData(formerBackend.data.v4, iface.publicIp.v4!, vni);
  return typeof vtep === 'string' || (vtep.vni ?? vni) !== vni ? undefined : vtep.mac;
}

function showTunnel(objects: readonly KernelObject[]): Partial<BackendPeerStatus> {
  const route = objects.find((object) => object instanceof RouteObject);
  if (route?.device === undefined) return {};
  const vtepMac = objects.find((object) => object instanceof FdbObject)?.mac;
  const shown = { device: route.device, isDirect: vtepMac === undefined };
  return vtepMac === undefined ? shown : { ...shown, vtepMac };
}
