// The kernel lane of the udp mode: whether there is one, and what it is to take at the moment.
//
//   asked    --lane                                granted   what of it this host can have, when the data path opens
//   paused   nothing is given to it for a while: packets are not forwarded, datagrams are to go without DF, somebody
//            captures packets on the device, or a worker hangs, and a flow must not overtake what waits for that one
//
// There is none while the host has IPsec policies: what the lane sends and takes passes by them, so it would send in
// clear what they have encrypted, and let in what they refuse. Which of them means the datagrams is not asked.
//
// Its pins outlive the process. Where there is no lane, those of an earlier run go: they have its table.

import type { LaneChoice } from '../../config/options.js';
import { messageOf } from '../../core/errors.js';
import type { Logger } from '../../core/log.js';
import type { MetricFamily } from '../../core/metric.js';
import type { Lane, LaneMode, LaneOptions, LaneRefusal, LaneTotals } from '../../dataplane/lane.js';
import { LANE_TOTALS } from '../../native/counters.js';
import type { Kernel } from '../../kernel/kernel.js';
import type { LaneStatus } from '../../ops/status.js';
import type { ExternalInterface } from '../backend.js';

/**
 * The card, or the link below it, takes superpackets of a UDP tunnel whole: then nothing is gained by cutting them in
 * the workers (docs/adr/0011-kernel-lane.md).
 */
const TUNNEL_OFFLOAD = 'tx-udp_tnl-segmentation';

/** What of a Lane is used here. */
export type OpenLane = Pick<
  Lane,
  'isPinned' | 'mode' | 'fault' | 'isBehind' | 'setMode' | 'retry' | 'totals' | 'provenRows'
>;

/** The data path that a lane belongs to. */
export interface LaneOpener {
  openLane(options: Pick<LaneOptions, 'uplinkIndex' | 'mode' | 'pinFolder'>): OpenLane | LaneRefusal;
}

/** Where a lane outlives its process. */
export interface PinPlace {
  /** The folder of a device; "" where there is none. */
  readonly folderOf: (device: string) => string;
  readonly remove: (folder: string) => Promise<void>;
}

export interface UdpLaneOptions {
  readonly asked: LaneChoice;
  readonly kernel: Kernel;
  readonly pins: PinPlace;
  readonly deviceName: () => string;
  readonly log: Logger;
}

/** The mode for a host, or why it has none: `isForIpsec` when that may end while the data path is open. */
type Choice = { readonly mode: LaneMode } | { readonly why: string; readonly isForIpsec?: true };

export class UdpLane {
  readonly #options: UdpLaneOptions;
  #lane: OpenLane | undefined;
  #granted: LaneMode = 'off';
  /** Why there is no lane. */
  #refusal: string | undefined;
  /** There is none for the IPsec policies of the host, or because nobody can tell whether it has any. */
  #waitsForIpsec = false;
  #pauses: readonly string[] = [];
  #hung: readonly string[] = [];
  /** Programs that look at the device. */
  #captures = 0;
  /** The fault that was told last. */
  #told: string | undefined;

  constructor(options: UdpLaneOptions) {
    this.#options = options;
  }

  /**
   * Opens it for a data path that runs, as far as this host can have it. One that is open already is moved to this
   * interface. Resolves with false when it cannot be there: it goes on where it was then, until the data path ends.
   */
  async open(dataplane: LaneOpener, uplink: ExternalInterface): Promise<boolean> {
    const { pins, deviceName } = this.#options;
    const pinFolder = pins.folderOf(deviceName());
    const choice = await this.#choose(uplink);
    this.#waitsForIpsec = 'isForIpsec' in choice;
    if ('why' in choice) return await this.#refuse(choice.why, pinFolder);
    const { mode } = choice;
    const opened = dataplane.openLane({ uplinkIndex: uplink.index, mode, pinFolder });
    if ('why' in opened) return await this.#refuse(opened.why, pinFolder);
    this.#refusal = undefined;
    this.#granted = mode;
    this.#lane = opened;
    await this.#findPauses();
    return true;
  }

  /**
   * Compares the host with what the lane needs of it. Resolves with false when it must be no more, or may be there
   * again: the data path is to be opened anew.
   */
  async look(): Promise<boolean> {
    const isThere = this.#lane !== undefined;
    if (isThere) await this.#findPauses();
    else if (!this.#waitsForIpsec) return true;
    const ipsec = await this.#askIpsec();
    return ipsec !== isThere;
  }

  /** About once a second, with the workers that hang. */
  keepHouse(hung: readonly string[]): void {
    this.#hung = hung.map((worker) => `${worker} does not move`);
    this.#apply();
    this.#lane?.retry();
    const fault = this.#lane?.fault;
    if (fault !== undefined && fault !== this.#told) this.#options.log.warn(`kernel lane: ${fault}`);
    this.#told = fault;
  }

  /** Gives it nothing until the result is called, so that a capture on the device sees what leaves. */
  pauseForCapture(): () => void {
    this.#captures++;
    this.#apply();
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      this.#captures--;
      this.#apply();
    };
  }

  /** The data path is closed, and the lane with it unless it is pinned. */
  closed(): void {
    this.#lane = undefined;
    this.#granted = 'off';
  }

  /** The table is published, but not all of it has come to the lane. */
  get isBehind(): boolean {
    return this.#lane?.isBehind ?? false;
  }

  /** Whether there is one, so that the interface matters and not only its address. */
  get isOpen(): boolean {
    return this.#lane !== undefined;
  }

  status(): LaneStatus {
    const { asked } = this.#options;
    const mode = this.#lane?.mode ?? 'off';
    const why = mode === 'off' ? this.#why : undefined;
    return { asked, mode, pinned: this.#lane?.isPinned ?? false, ...(why !== undefined && { why }) };
  }

  /** What was granted, for the log; why it takes nothing now is a status. */
  words(): Readonly<Record<string, string>> {
    const pinned = this.#lane?.isPinned === true ? ', pinned' : '';
    return {
      lane: `${this.#granted}${pinned}`,
      ...(this.#refusal !== undefined && { laneWhy: this.#refusal }),
    };
  }

  /** For rows from `first` to below `end`, whether everything to the peer may go by the lane; undefined without one. */
  provenRows(end: number, first = 0): ((row: number) => boolean) | undefined {
    return this.#lane?.provenRows(end, first);
  }

  get #why(): string | undefined {
    return this.#refusal ?? this.#reasons.at(0) ?? this.#lane?.fault;
  }

  /** Why nothing is given to it for now. */
  get #reasons(): readonly string[] {
    const captured = this.#captures > 0 ? ['twill capture looks at the device'] : [];
    return [...this.#pauses, ...this.#hung, ...captured];
  }

  async #choose({ name }: ExternalInterface): Promise<Choice> {
    const { asked, kernel } = this.#options;
    if (asked === 'off') return { why: 'switched off by --lane=off' };
    if ((await kernel.links.find(name))?.isEthernet !== true)
      return { why: `interface ${name} is no Ethernet device` };
    const ipsec = await this.#askIpsec();
    if (typeof ipsec === 'string') return { why: ipsec, isForIpsec: true };
    if (ipsec)
      return {
        why: 'the host has IPsec policies, and the packets of a lane would pass by them',
        isForIpsec: true,
      };
    if (asked !== 'auto') return { mode: asked };
    const isOffloaded = (await kernel.settings.feature(name, TUNNEL_OFFLOAD)) === true;
    return { mode: isOffloaded ? 'all' : 'sparse' };
  }

  async #findPauses(): Promise<void> {
    const { kernel, deviceName } = this.#options;
    const { settings } = kernel;
    const device = deviceName();
    const forwarding = await settings.interfaceSysctl('ipv4', device, 'forwarding');
    const withoutDf = (await settings.sysctl('net/ipv4/ip_no_pmtu_disc')) ?? '0';
    this.#pauses = [
      ...(forwarding === '0' ? [`net.ipv4.conf.${device}.forwarding is 0: packets are not forwarded`] : []),
      ...(withoutDf === '0' ? [] : [`net.ipv4.ip_no_pmtu_disc is ${withoutDf}: datagrams go without DF`]),
    ];
    this.#apply();
  }

  /** Whether the host has such policies; in words why that cannot be told. */
  async #askIpsec(): Promise<boolean | string> {
    try {
      return (await this.#options.kernel.settings.ipsecPolicies()) > 0;
    } catch (error) {
      return messageOf(error);
    }
  }

  async #refuse(why: string, pinFolder: string): Promise<false> {
    this.#refusal = why;
    if (this.#lane === undefined && pinFolder !== '') await this.#forget(pinFolder);
    return false;
  }

  async #forget(pinFolder: string): Promise<void> {
    try {
      await this.#options.pins.remove(pinFolder);
    } catch (error) {
      this.#options.log.warn(messageOf(error));
    }
  }

  #apply(): void {
    this.#lane?.setMode(this.#reasons.length > 0 ? 'off' : this.#granted);
  }
}

/** The families of the lane; `totals` is undefined before there was one. */
export function laneFamilies({ mode }: LaneStatus, totals: LaneTotals | undefined): readonly MetricFamily[] {
  const modes = (['off', 'sparse', 'all'] as const).map((name) => ({
    labels: { mode: name },
    value: Number(name === mode),
  }));
  const inForce: MetricFamily = {
    name: 'lane_mode',
    help: 'Which packets the kernel lane takes at present: 1 for the mode in force.',
    type: 'gauge',
    values: modes,
  };
  return totals === undefined ? [inForce] : [inForce, ...FAMILIES.map((family) => familyOf(family, totals))];
}

interface LaneFamily {
  readonly name: string;
  readonly help: string;
  /** What of a total's name follows its direction: all of it, or its beginning, and then the reason. */
  readonly of: RegExp;
}

const FAMILIES: readonly LaneFamily[] = [
  {
    name: 'lane_packets_total',
    help: 'Inner packets that the kernel lane carried, which are among all packets too, by direction.',
    of: /^packets$/,
  },
  { name: 'lane_bytes_total', help: 'Bytes of those packets, by direction.', of: /^bytes$/ },
  {
    name: 'lane_left_total',
    help: 'Packets, or superpackets, that the kernel lane left to the workers, by direction and reason.',
    of: /^left_(?<reason>.+)$/,
  },
];

function familyOf({ name, help, of }: LaneFamily, totals: LaneTotals): MetricFamily {
  const values = LANE_TOTALS.flatMap((total) => {
    const isOutbound = total.startsWith('out_');
    const match = of.exec(total.slice(total.indexOf('_') + 1));
    if (match === null) return [];
    const direction = isOutbound ? 'outbound' : 'inbound';
    return [{ labels: { direction, ...match.groups }, value: totals[total] }];
  });
  return { name, help, type: 'counter', values };
}
