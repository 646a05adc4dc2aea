// The vxlan mode: a kernel VXLAN device carries the packets, twill tells it where each subnet lives.
//
// Each family has a device: flannel.<VNI> or flannel-v6.<VNI>, with the first address of the own subnet; each peer a
// neighbour, an FDB entry and an onlink route; with DirectRouting a plain route for peers on the same link. All is left
// in place at the end, so that the kernel goes on forwarding while no daemon runs, and taken over by the next one. What
// differs from desired state is repaired by reconcile(); see programmer/programmer.ts for the order of things and
// docs/kernel-modes.md for the whole.

import { type Condition, condition } from '../../core/conditions.js';
import { OverlayError } from '../../core/errors.js';
import { parseVxlanConfig } from './config.js';
import { parseVtepData } from './vtep.js';
import { type Dual, dualOf, familiesOf, type FamilyName } from '../../net/dual.js';
import {
  type Address,
  bitsOf,
  type DualAddress,
  type DualPrefix,
  familyNameOf,
  formatAddress,
  type Prefix,
  prefixEquals,
} from '../../net/prefix.js';
import { PeerProgrammer } from '../../programmer/programmer.js';
import { VxlanDevice } from './device.js';
import { backendMode } from '../backend.js';
import type { Backend, BackendContext, ExternalInterface, Guard } from '../backend.js';
import type { VxlanConfig } from './config.js';
import type { RouteLookup } from '../../kernel/route.js';
import { leaseBackend, type LeaseBackend, type Peer, type PeerDiff } from '../../lease/lease.js';
import { type KernelObject, RouteObject } from '../../programmer/objects.js';
import { waysTo } from '../../programmer/peer.js';
import { showDevices, type Verdict } from '../../programmer/peers.js';
import { FdbObject, NeighbourObject, TUNNEL_KINDS } from './objects.js';
import type { BackendPeerStatus, FamilyTexts, PeerDetail, VxlanStatus } from '../../ops/status.js';
import type { MetricFamily } from '../../core/metric.js';

/** The vxlan mode. open() throws OverlayError E_CONFIG when an MTU does not fit. */
export const VXLAN = backendMode({
  families: ['v4', 'v6'],
  parseConfig: parseVxlanConfig,
  open: (context, config) => new VxlanBackend(context, config),
});

/** What carries the packets of a family. */
interface Tunnel {
  readonly family: FamilyName;
  readonly device: VxlanDevice;
  readonly guard: Guard;
}

class VxlanBackend implements Backend {
  readonly type = 'vxlan' as const;
  readonly #context: BackendContext;
  readonly #config: VxlanConfig;
  readonly #tunnels: readonly Tunnel[];
  readonly #programmer: PeerProgrammer;
  readonly #memberLeases = new Map<string, DualAddress>();
  #iface: ExternalInterface;
  #own: DualPrefix | undefined;
  #isVerifyDue = false;

  constructor(context: BackendContext, settings: VxlanConfig) {
    const { config, log, iface } = context;
    this.#context = context;
    this.#iface = iface;
    this.#config = settings;
    this.#tunnels = familiesOf(config.networks).map((family) => this.#openTunnel(family));
    this.#mtuBytes(); // an MTU that does not fit is told before anything is touched
    const networks = familiesOf(config.networks).map((family) => config.networks[family]!.network);
    this.#programmer = new PeerProgrammer({
      kernel: context.kernel,
      kinds: TUNNEL_KINDS,
      networks,
      former: context.networks.filter((one) => !networks.some((own) => prefixEquals(own, one))),
      tunnelDevices: this.#devices,
      needsLookup: () => this.#config.hasDirectRouting,
      lookupThrough: () => this.#iface.name,
      planPeer: (peer, lookup, family) => this.#planPeer(peer, lookup, family),
      prepare: () => this.#prepare(),
      isStillSo: async () => (await context.kernel.lookup.linkName(this.#iface)) === this.#iface.name,
      beside: () => this.#syncGuards(),
      afterFirstRun: () =>
        context.services.removeLeftovers({
          networks: context.networks,
          devices: this.#tunnels.map((tunnel) => tunnel.device.name),
          ownsRoutes: true,
          log,
        }),
      log,
    });
  }

  #openTunnel(family: FamilyName): Tunnel {
    const { kernel, config, networks, services, sourceCheck, vxlanTxChecksum, log } = this.#context;
    const { vni, port } = this.#config;
    const device = new VxlanDevice({
      kernel,
      config: this.#config,
      family,
      network: config.networks[family]!.network,
      networks,
      hasTxChecksum: vxlanTxChecksum === 'auto',
      formerMac: formerMac(this.#context, vni, family),
      log,
    });
    const guard = services.openGuard({ family: family === 'v4' ? 4 : 6, port, vni, sourceCheck });
    return { family, device, guard };
  }

  get device(): string {
    return this.#tunnels[0].device.name;
  }

  get #devices(): Dual<string> {
    const names = new Map(this.#tunnels.map(({ family, device }) => [family, device.name]));
    return dualOf(names.get('v4'), names.get('v6'));
  }

  async publish(): Promise<LeaseBackend> {
    const data: { [F in FamilyName]?: unknown } = {};
    for (const { family, device } of this.#tunnels) {
      if (!(await this.#context.holdDevice(device.name)))
        throw new OverlayError(
          'E_RUNNING',
          `Another daemon has the device ${device.name}: give each its own Backend.VNI`,
        );
      await device.ensure(this.#iface, undefined);
      data[family] = { VNI: this.#config.vni, VtepMAC: device.mac };
    }
    return leaseBackend('vxlan', data.v4, data.v6);
  }

  async start(own: DualPrefix): Promise<{ readonly mtuBytes: number }> {
    this.#own = own;
    for (const { family, device } of this.#tunnels)
      await device.ensure(this.#iface, deviceAddress(own[family]!));
    await this.#programmer.open();
    return { mtuBytes: this.#mtuBytes() };
  }

  /** Of pods: they have one MTU for both families, and no packet of either is to be fragmented. */
  #mtuBytes(): number {
    return Math.min(...this.#tunnels.map(({ device }) => device.mtuBytes(this.#iface)));
  }

  apply(diff: PeerDiff): void {
    for (const peer of diff.removed) this.#noteMember(peer, false);
    for (const peer of diff.changed) this.#noteMember(peer, true);
    for (const peer of diff.added) this.#noteMember(peer, true);
    for (const { guard } of this.#tunnels) guard.setComplete();
    this.#programmer.apply(diff);
  }

  async reconcile(): Promise<void> {
    this.#isVerifyDue = true;
    await this.#programmer.reconcile();
  }

  async rulesChanged(): Promise<void> {
    await Promise.all(this.#tunnels.map(({ guard }) => guard.verify()));
  }

  async underlayChanged(iface: ExternalInterface): Promise<{ readonly mtuBytes: number }> {
    this.#iface = iface;
    await this.#programmer.reconcile();
    return { mtuBytes: this.#mtuBytes() };
  }

  waysTo(peer: Peer): readonly Address[] {
    return waysTo(peer);
  }

  /** The VXLAN device of each host, flanneld's too, has the lowest address of its subnet. */
  echoTarget({ id, subnets }: Peer, way: Address): Address | undefined {
    const family = familyNameOf(way);
    return this.#programmer.carries(id, family) ? subnets[family]?.address : undefined;
  }

  conditions(): readonly Condition[] {
    const failures = this.#tunnels.map(({ guard }) => guard.failure).filter((text) => text !== undefined);
    const own = failures.map((text) => condition('source-check-off', text));
    return [...own, ...this.#programmer.conditions()];
  }

  status(): VxlanStatus {
    const { vni, port, hasGbp, hasLearning, hasDirectRouting } = this.#config;
    const { name: device, mac } = this.#tunnels[0].device;
    const macs = this.#tunnels.flatMap((tunnel) => {
      const own = tunnel.device.mac;
      return own === undefined ? [] : [[tunnel.family, own]];
    });
    return {
      type: 'vxlan',
      device,
      ...(mac === undefined ? {} : { mac }),
      devices: this.#devices,
      ...(macs.length === 0 ? {} : { macs: Object.fromEntries(macs) as FamilyTexts }),
      vni,
      port,
      hasGbp,
      hasLearning,
      hasDirectRouting,
      interface: this.#iface.name,
      sourceCheck: this.#context.sourceCheck,
      refusedDatagrams: this.#sumOf(({ dropped }) => dropped),
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
        values: [{ labels: {}, value: this.#sumOf(({ dropped }) => dropped) }],
      },
      {
        name: 'vxlan_guard_repairs_total',
        help: 'Times the nft table of the source check was found missing or changed.',
        type: 'counter',
        values: [{ labels: {}, value: this.#sumOf(({ repairs }) => repairs) }],
      },
    ];
  }

  #sumOf(count: (guard: Guard) => number): number {
    return this.#tunnels.reduce((sum, { guard }) => sum + count(guard), 0);
  }

  async close(): Promise<void> {
    await this.#programmer.close();
  }

  async #prepare(): Promise<void> {
    if (this.#own === undefined) return;
    // Direct routes name the interface; the devices know it by its index.
    if (this.#config.hasDirectRouting) {
      const name = await this.#context.kernel.lookup.linkName(this.#iface);
      if (name !== undefined) this.#iface = { ...this.#iface, name };
    }
    for (const { family, device } of this.#tunnels) {
      const change = await device.ensure(this.#iface, deviceAddress(this.#own[family]!));
      if (change.wasMade || change.wasRepaired) this.#programmer.countRepair('device');
      if (change.wasAddressed) this.#programmer.countRepair('address');
    }
  }

  async #syncGuards(): Promise<void> {
    const isVerifyDue = this.#isVerifyDue;
    this.#isVerifyDue = false;
    await Promise.all(this.#tunnels.map(({ guard }) => (isVerifyDue ? guard.verify() : guard.sync())));
  }

  /** Members are counted whether or not they can be programmed: a lease is what makes a host one. */
  #noteMember({ id, host }: Peer, isMember: boolean): void {
    const before = this.#memberLeases.get(id);
    this.#memberLeases.delete(id);
    const now = isMember && host.backend.type === 'vxlan' ? host.publicIp : undefined;
    if (now !== undefined) this.#memberLeases.set(id, now);
    for (const { family, guard } of this.#tunnels) {
      const [left, come] = [before?.[family], now?.[family]];
      if (left !== undefined) guard.remove(left);
      if (come !== undefined) guard.add(come);
    }
  }

  #planPeer({ subnets, host }: Peer, lookup: RouteLookup | undefined, family: FamilyName): Verdict {
    const subnet: Prefix<Address> = subnets[family]!;
    const publicIp: Address = host.publicIp[family]!;
    if (host.backend.type !== 'vxlan') {
      return {
        code: 'other_type',
        reason: `uses backend "${host.backend.type || 'udp'}", this host uses "vxlan"`,
      };
    }
    if (publicIp === this.#iface.address[family] || publicIp === this.#iface.publicIp[family]) {
      return { code: 'invalid', reason: `has this host's own public IP ${formatAddress(publicIp)}` };
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
    const vtep = parseVtepData(host.backend.data[family], publicIp, this.#config.vni);
    if (typeof vtep === 'string') return { code: 'invalid', reason: `cannot be reached: ${vtep}` };
    if (vtep.vni !== undefined && vtep.vni !== this.#config.vni) {
      return { code: 'invalid', reason: `uses VNI ${vtep.vni}, this host uses ${this.#config.vni}` };
    }
    const own = this.#tunnels.find((tunnel) => tunnel.family === family)!.device;
    if (vtep.mac === own.mac) {
      return { code: 'invalid', reason: `publishes VtepMAC ${vtep.mac}, which is this host's own` };
    }
    const { name: device } = own;
    const { address } = subnet;
    return [
      new NeighbourObject(device, { address, mac: vtep.mac }),
      new FdbObject(device, { mac: vtep.mac, destination: publicIp, isPermanent: true }),
      new RouteObject({ prefix: subnet, gateway: address, device, isOnlink: true }),
    ];
  }
}

function deviceAddress({ address }: Prefix<Address>): Prefix<Address> {
  return { address, length: bitsOf(address) };
}

/** The MAC that the last run published, which the peers have in their FDB. */
function formerMac(
  { formerBackend, iface }: BackendContext,
  vni: number,
  family: FamilyName,
): string | undefined {
  const data = formerBackend?.type === 'vxlan' ? formerBackend.data[family] : undefined;
  if (data === undefined) return undefined;
  const vtep = parseVtepData(data, iface.publicIp[family]!, vni);
  return typeof vtep === 'string' || (vtep.vni ?? vni) !== vni ? undefined : vtep.mac;
}

function showTunnel(objects: readonly KernelObject[]): Partial<BackendPeerStatus> {
  const shown = showDevices(objects);
  if (shown.device === undefined) return {};
  const macs: { [F in FamilyName]?: string } = {};
  for (const object of objects)
    if (object instanceof FdbObject) macs[familyNameOf(object.destination)] = object.mac;
  const vtepMac = macs.v4 ?? macs.v6;
  return vtepMac === undefined
    ? { ...shown, isDirect: true }
    : { ...shown, isDirect: false, vtepMac, vtepMacs: macs };
}
