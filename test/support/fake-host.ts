// A host without a kernel: what an overlay opens on it, in which order, and what is open now. Each step can be held up.

import type { Backend, BackendContext } from '../../src/backend/backend.js';
import type { PeerDetail, UdpStatus } from '../../src/ops/status.js';
import { type Condition, condition } from '../../src/core/conditions.js';
import type { Link } from '../../src/kernel/link.js';
import type { ExternalInterface } from '../../src/kernel/underlay.js';
import { hostTexts, leaseBackend, type Peer, type PeerDiff } from '../../src/lease/lease.js';
import { firstOf } from '../../src/net/dual.js';
import { type Ipv4, parseIpv4 } from '../../src/net/ipv4.js';
import type { Address } from '../../src/net/prefix.js';
import type { OverlayFirewall, Surroundings } from '../../src/overlay/surroundings.js';
import { linkOf } from './links.js';

/** Steps of the start that hold() can hold up. */
export const STEPS = ['interface', 'lease data', 'device', 'rules', 'icmp', 'rules monitor'] as const;
export type Step = (typeof STEPS)[number];

/** What a udp backend takes from the MTU: 20 outer IPv4 + 8 UDP. */
const OVERHEAD_BYTES = 28;

/** What a backend is opened with. */
type HostContext = Omit<BackendContext, 'kernel' | 'services'>;

export class FakeHost {
  nowMs = 0;
  /** Opened and closed, in order. */
  readonly events: string[] = [];
  readonly open = new Set<string>();
  backend: FakeBackend | undefined;
  firewall: FakeFirewall | undefined;
  link: Link;
  /** Tells that something in the kernel has changed; resolves when it was compared. */
  kernelChanged: () => Promise<void> = () => Promise.resolve();
  rulesChanged: () => Promise<void> = () => Promise.resolve();
  /** A step that fails, and with what. */
  failure: { readonly step: Step; readonly error: Error } | undefined;
  #held: { readonly step: Step; readonly reached: () => void; readonly until: Promise<void> } | undefined;

  constructor(address: string) {
    this.link = linkOf([`${address}/24`]);
  }

  /** Resolves when the start has come to this step, which goes on when `until` does. */
  hold(step: Step, until: Promise<void> = new Promise(() => undefined)): Promise<void> {
    return new Promise((reached) => (this.#held = { step, reached, until }));
  }

  setAddress(address: string): void {
    this.link = { ...linkOf([`${address}/24`]), index: this.link.index + 1, name: `eth${this.link.index}` };
  }

  noteOpened(name: string): void {
    this.events.push(`open ${name}`);
    this.open.add(name);
  }

  noteClosed(name: string): Promise<void> {
    if (this.open.delete(name)) this.events.push(`close ${name}`);
    return Promise.resolve();
  }

  async at(step: Step): Promise<void> {
    if (this.failure?.step === step) throw this.failure.error;
    if (this.#held?.step !== step) return;
    this.#held.reached();
    await this.#held.until;
  }

  get surroundings(): Surroundings {
    return {
      chooseInterface: async ({ publicIp }) => {
        await this.at('interface');
        return this.#interface(parseIpv4(publicIp));
      },
      listLinks: () => Promise.resolve([this.link]),
      checkFamilies: () => Promise.resolve(),
      openBackend: (context) => {
        this.noteOpened('backend');
        this.backend = new FakeBackend(this, context);
        return Promise.resolve(this.backend);
      },
      openFirewall: () => {
        this.noteOpened('firewall');
        return (this.firewall = new FakeFirewall(this));
      },
      watchKernel: (onChange) => {
        this.noteOpened('kernel monitor');
        this.kernelChanged = onChange;
        return { close: () => this.noteClosed('kernel monitor') };
      },
      watchRules: async (onChange) => {
        await this.at('rules monitor');
        this.noteOpened('rules monitor');
        this.rulesChanged = onChange;
        return { close: () => this.noteClosed('rules monitor') };
      },
      openIcmp: async () => {
        await this.at('icmp');
        this.noteOpened('icmp');
        const sender = { send: () => undefined, close: () => void this.noteClosed('icmp') };
        return { sender, by: 'fake' };
      },
      now: () => this.nowMs,
      checkHost: () => [],
    };
  }

  #interface(publicIp: Ipv4 | undefined): ExternalInterface {
    const { name, index, mtuBytes, addresses } = this.link;
    const v4 = addresses[0].address as Ipv4;
    return { name, index, mtuBytes, address: { v4 }, publicIp: { v4: publicIp ?? v4 } };
  }
}

/** Holds the peers that it is told of, as a backend without a kernel would. */
export class FakeBackend implements Backend {
  readonly type = 'udp';
  readonly device = 'fake0';
  readonly context: HostContext;
  readonly peers = new Map<string, Peer>();
  /** How often it was told of peers. */
  applied = 0;
  reconciled = 0;
  iface: ExternalInterface;
  /** What keeps it from repairing the kernel. */
  fault: Error | undefined;
  isHung = false;
  readonly #host: FakeHost;

  constructor(host: FakeHost, context: HostContext) {
    this.#host = host;
    this.context = context;
    this.iface = context.iface;
  }

  async publish() {
    await this.#host.at('lease data');
    return leaseBackend('');
  }

  async start() {
    await this.#host.at('device');
    return { mtuBytes: this.iface.mtuBytes - OVERHEAD_BYTES };
  }

  apply({ added, changed, removed }: PeerDiff): void {
    this.applied++;
    for (const { id } of removed) this.peers.delete(id);
    for (const peer of [...added, ...changed]) this.peers.set(peer.id, peer);
  }

  reconcile(): Promise<void> {
    this.reconciled++;
    return this.fault === undefined ? Promise.resolve() : Promise.reject(this.fault);
  }

  rulesChanged(): Promise<void> {
    return Promise.resolve();
  }

  underlayChanged(iface: ExternalInterface) {
    this.iface = iface;
    return Promise.resolve({ mtuBytes: iface.mtuBytes - OVERHEAD_BYTES });
  }

  waysTo({ host: { publicIp } }: Peer) {
    return [firstOf<Address, Address>(publicIp)];
  }

  echoTarget({ subnets }: Peer) {
    return subnets.v4!.address;
  }

  conditions(): readonly Condition[] {
    return [];
  }

  isAlive(): boolean {
    return !this.isHung;
  }

  status(): UdpStatus {
    const { sourceCheck, queues } = this.context;
    const mtuBytes = this.iface.mtuBytes - OVERHEAD_BYTES;
    const lane = { asked: 'auto', mode: 'off', pinned: false } as const;
    return { type: 'udp', device: this.device, port: 8285, mtuBytes, sourceCheck, queues, lane };
  }

  peerStatus(): PeerDetail[] {
    return Array.from(this.peers.values(), ({ id, subnets, host }) => ({
      id,
      ...hostTexts(subnets, host.publicIp),
      state: 'programmed',
    }));
  }

  metrics() {
    return [];
  }

  close(): Promise<void> {
    void this.#host.noteClosed('backend');
    return this.isHung ? new Promise(() => undefined) : Promise.resolve();
  }
}

/** Rules that another program's lock may hold up. */
export class FakeFirewall implements OverlayFirewall {
  readonly usesNft = false;
  resyncs = 0;
  isLocked = false;
  readonly #host: FakeHost;

  constructor(host: FakeHost) {
    this.#host = host;
  }

  open(): Promise<void> {
    return this.#host.at('rules');
  }

  resync(): Promise<void> {
    this.resyncs++;
    return Promise.resolve();
  }

  conditions(): readonly Condition[] {
    return this.isLocked ? [condition('firewall', 'a lock is waited for')] : [];
  }

  metrics() {
    return [];
  }

  close(): Promise<void> {
    return this.#host.noteClosed('firewall');
  }
}
