// A host of a lab whose lane is moved by hand: an engine and a lane without a daemon, in a process of its own.

import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseIpv4 } from '../../src/net/ipv4.js';
import { LANE_RECORD, type LaneTotal } from '../../src/native/counters.js';
import { native, type NativeLane, type NativeLaneOptions } from '../../src/native/native.js';
import type { EngineTake, LaneCall } from './lane-driver.js';
import { cleanEnvironment, type Host, type Lab, labUnavailable } from '../support/lab.js';

const TSX = import.meta.resolve('tsx');
const DRIVER = fileURLToPath(new URL('./lane-driver.ts', import.meta.url));

/** A worker that has not moved for so long is taken for dead: kDeadTicks of addon/lane/layout.h. */
export const DEAD_MS = 1_100;

/** A flow that the engine had nothing of for so long may go by the lane, and all flows so long after its start. */
export const QUIET_MS = 50;

export const DEVICE = 'flannel0';
export const PORT = 8285;

/** Why no lane can run here, or false: for the `skip` of a test. */
export function laneUnavailable(): string | false {
  const unavailable = labUnavailable();
  if (unavailable !== false) return unavailable;
  const probed = native.probeLane();
  return 'tcx' in probed && !probed.tcx ? 'the kernel has no tcx, which came with 6.6' : false;
}

/** One lease in the table of a lane. */
export interface LaneLease {
  readonly network: string;
  readonly length: number;
  readonly peer: string;
  readonly row: number;
  /** @default 8285 */
  readonly port?: number;
  /** @default 1472 */
  readonly mtu?: number;
}

/** An address as the addon takes it. */
export function address(text: string): number {
  const value = parseIpv4(text);
  if (value === undefined) throw new RangeError(`"${text}" is no IPv4 address`);
  return value;
}

/** Words of a record for updateLane(): `kind` is a sum of LANE_RECORD. */
export function record(kind: number, lease: LaneLease): number[] {
  const { network, length, peer, row, port = PORT, mtu = 1472 } = lease;
  return [kind, address(network), length, address(peer), port, mtu, row].map((word) => word | 0);
}

/** What a lane is opened with, but for what the host itself says. */
export type LaneSettings = Partial<NativeLaneOptions>;

/** What openLane() and open() answer when they fail. */
export interface Refused {
  readonly errno: number;
  readonly operation: string;
}

export class LaneHost {
  readonly host: Host;
  readonly #lab: Lab;
  readonly #child: ChildProcess;
  readonly #waiting: ((line: string) => void)[] = [];
  readonly exited: Promise<void>;

  private constructor(lab: Lab, host: Host, wrapper: readonly string[]) {
    this.#lab = lab;
    this.host = host;
    const command = [...wrapper, process.execPath, '--import', TSX, DRIVER];
    this.#child = spawn('setpriv', ['--pdeathsig', 'KILL', 'ip', 'netns', 'exec', host.ns, ...command], {
      env: cleanEnvironment(),
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.exited = new Promise((resolve) => this.#child.once('exit', () => resolve()));
    this.#child.stdin!.on('error', () => undefined); // told by "exit", too
    createInterface({ input: this.#child.stdout! }).on('line', (line) => this.#waiting.shift()?.(line));
  }

  /**
   * A process with an engine on a host, whose device is up and has the overlay's route. `wrapper` is a command that
   * runs the process.
   */
  static async start(lab: Lab, host: Host, wrapper: readonly string[] = []): Promise<LaneHost> {
    const lane = new LaneHost(lab, host, wrapper);
    const own = host.subnet.replace('/24', '');
    const opened = await lane.call('open', DEVICE, address(host.underlayIp), PORT, address(own));
    if ('errno' in (opened as object)) throw new Error(JSON.stringify(opened));
    // As the daemon does: IPv6 has much to say on a link that has just come up.
    await lab.run(host.ns, 'sysctl', ['-qew', `net.ipv6.conf.${DEVICE}.disable_ipv6=1`]);
    lab.ip(host.ns, `address replace ${own}/32 dev ${DEVICE}`);
    lab.ip(host.ns, `link set ${DEVICE} mtu 1472 txqueuelen 2000 up`);
    lab.ip(host.ns, `route replace 10.5.0.0/16 dev ${DEVICE}`);
    return lane;
  }

  /** Of the process, which setpriv and ip have become. */
  get pid(): number {
    return this.#child.pid!;
  }

  async call(name: string, ...args: unknown[]): Promise<unknown> {
    const line = await new Promise<string>((resolve, reject) => {
      this.#waiting.push(resolve);
      void this.exited.then(() => reject(new Error(`the process has ended before it answered ${name}`)));
      this.#child.stdin!.write(`${JSON.stringify({ name, args } satisfies LaneCall)}\n`);
    });
    return (JSON.parse(line) as { result: unknown }).result;
  }

  /** Opens a lane: sparse unless told otherwise. */
  async open(settings: LaneSettings = {}): Promise<NativeLane | Refused> {
    const uplinkIndex = Number(this.#lab.ip(this.host.ns, '-o link show eth0').split(':')[0]);
    const own = address(this.host.underlayIp);
    const options: NativeLaneOptions = {
      uplinkIndex,
      ownNetwork: address(this.host.subnet.replace('/24', '')),
      ownMask: 0xffffff00,
      listenAddress: own,
      publicIp: own,
      port: PORT,
      mode: 1,
      quietMs: QUIET_MS,
      packetsPerMs: 50,
      pinFolder: '',
      ...settings,
    };
    return (await this.call('openLane', options)) as NativeLane | Refused;
  }

  async attach(): Promise<void> {
    const result = await this.call('attachLane');
    if (result !== 0) throw new Error(`attachLane: ${String(result)}`);
  }

  async set(...leases: readonly LaneLease[]): Promise<void> {
    await this.update(...leases.flatMap((lease) => record(LANE_RECORD.set, lease)));
  }

  async update(...words: readonly number[]): Promise<void> {
    const result = await this.call('updateLane', words);
    if (result !== 0) throw new Error(`updateLane: ${String(result)}`);
  }

  /** Those that are not 0. */
  async totals(): Promise<Readonly<Partial<Record<LaneTotal, number>>>> {
    return (await this.call('totals')) as Partial<Record<LaneTotal, number>>;
  }

  /**
   * What the lane left of outgoing packets since the last call: the engine has dropped it. Resolves when the worker is
   * dead for the lane, whose programs wait for nothing then.
   */
  async left(): Promise<EngineTake> {
    const take = (await this.call('left')) as EngineTake;
    await setTimeout(DEAD_MS);
    return take;
  }

  /** What the lane left of incoming packets since the last call; as left(). */
  async received(): Promise<EngineTake> {
    const take = (await this.call('received')) as EngineTake;
    await setTimeout(DEAD_MS);
    return take;
  }

  /** Ends the process at once, as a crash would. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.exited;
  }
}
