// A backend of a kernel mode on a host that is not there: a fake kernel, a guard that only counts, a log in memory.

import type { LeaseBackend } from '../../src/lease/lease.js';
import pino from 'pino';
import type { Backend, BackendContext, Guard } from '../../src/backend/backend.js';
import { openBackend } from '../../src/backend/registry.js';
import { OFFLOAD_FEATURES, type OffloadSwitches } from '../../src/config/options.js';
import { parseNetworkConfig } from '../../src/config/network-config.js';
import { parseIpv4 } from '../../src/net/ipv4.js';
import { FakeKernel } from './fake-kernel.js';

export const NO_OFFLOADS = Object.fromEntries(
  OFFLOAD_FEATURES.map((name) => [name, false]),
) as OffloadSwitches;

export interface KernelHost {
  readonly kernel: FakeKernel;
  readonly backend: Backend;
  readonly context: Omit<BackendContext, 'kernel' | 'services'>;
  /** Lines of the log. */
  readonly log: string[];
  /** How often leftovers of other modes were removed. */
  readonly sweeps: () => number;
}

export interface HostWords {
  readonly config: string;
  readonly publicIp?: string;
  readonly formerBackend?: LeaseBackend;
  readonly kernel?: FakeKernel;
}

/** A host with eth0, 192.0.2.1/24. Rejects as openBackend() does. */
export async function openHost({
  config,
  publicIp = '192.0.2.1',
  formerBackend,
  kernel = new FakeKernel(),
}: HostWords): Promise<KernelHost> {
  const link = kernel.link('eth0') ?? kernel.addLink('eth0', '192.0.2.1/24');
  const log: string[] = [];
  let sweeps = 0;
  const parsed = parseNetworkConfig(config, 'test');
  const context: KernelHost['context'] = {
    config: parsed,
    iface: {
      name: link.name,
      index: link.index,
      mtuBytes: link.mtuBytes,
      address: { v4: parseIpv4('192.0.2.1')! },
      publicIp: { v4: parseIpv4(publicIp)! },
    },
    sourceCheck: 'strict',
    queues: 1,
    lane: 'auto',
    offload: NO_OFFLOADS,
    networks: [parsed.networks.v4!.network],
    holdDevice: () => Promise.resolve(true),
    vxlanTxChecksum: 'auto',
    formerBackend,
    log: pino({ level: 'debug' }, { write: (line: string) => void log.push(line) }),
  };
  const services = {
    removeLeftovers: () => {
      sweeps++;
      return Promise.resolve();
    },
    openGuard: () => new FakeGuard(),
  };
  const backend = await openBackend(context, { kernel, services });
  return { kernel, backend, context, log, sweeps: () => sweeps };
}

class FakeGuard implements Guard {
  readonly members = new Map<number, number>();
  readonly failure = undefined;
  readonly dropped = 0;
  readonly repairs = 0;

  add(publicIp: number): void {
    this.members.set(publicIp, (this.members.get(publicIp) ?? 0) + 1);
  }

  remove(publicIp: number): void {
    this.members.set(publicIp, (this.members.get(publicIp) ?? 0) - 1);
  }

  setComplete(): void {
    return undefined;
  }

  sync(): Promise<void> {
    return Promise.resolve();
  }

  verify(): Promise<void> {
    return Promise.resolve();
  }
}

/** Resolves when `isTrue` holds, looked at between turns of the event loop. */
export async function turnsUntil(isTrue: () => boolean, what: string): Promise<void> {
  for (let turn = 0; turn < 2000; turn++) {
    if (isTrue()) return;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  throw new Error(`waited in vain for ${what}`);
}
