// A backend of a kernel mode on a host that is not there: a fake kernel, a guard that only counts, a log in memory.

import { NO_HANDOVER } from '../../src/handover/handover.js';
import type { LeaseBackend } from '../../src/lease/lease.js';
import pino from 'pino';
import type { Backend, BackendContext, Guard } from '../../src/backend/backend.js';
import { openBackend } from '../../src/backend/registry.js';
import { OFFLOAD_FEATURES, type OffloadSwitches } from '../../src/config/options.js';
import { parseNetworkConfig } from '../../src/config/network-config.js';
import { familiesOf } from '../../src/net/dual.js';
import type { Address } from '../../src/net/prefix.js';
import { FakeKernel } from './fake-kernel.js';
import { addressesOf, familyNetworks, prefixesOf } from './leases.js';

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
  /** Instead of those of the config; with "&" between two. */
  readonly networks?: string;
  /** With "&" between two. @default address */
  readonly publicIp?: string;
  /** With "&" between two. @default '192.0.2.1' */
  readonly address?: string;
  readonly formerBackend?: LeaseBackend;
  readonly kernel?: FakeKernel;
}

/** A host with eth0, which has its addresses in networks of 24 and 64 bits. Rejects as openBackend() does. */
export async function openHost({
  config,
  networks,
  address = '192.0.2.1',
  publicIp = address,
  formerBackend,
  kernel = new FakeKernel(),
}: HostWords): Promise<KernelHost> {
  const cidrs = address.split('&').map((one) => `${one}/${one.includes(':') ? 64 : 24}`);
  const link = kernel.link('eth0') ?? kernel.addLink('eth0', cidrs);
  const log: string[] = [];
  let sweeps = 0;
  const own = networks === undefined ? {} : { networks: familyNetworks(prefixesOf(networks)) };
  const parsed = { ...parseNetworkConfig(config, 'test'), ...own };
  const context: KernelHost['context'] = {
    config: parsed,
    iface: {
      name: link.name,
      index: link.index,
      mtuBytes: link.mtuBytes,
      address: addressesOf(address),
      publicIp: addressesOf(publicIp),
    },
    sourceCheck: 'strict',
    queues: 1,
    lane: 'auto',
    offload: NO_OFFLOADS,
    networks: familiesOf(parsed.networks).map((family) => parsed.networks[family]!.network),
    holdDevice: () => Promise.resolve(true),
    handover: NO_HANDOVER,
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
  readonly members = new Map<Address, number>();
  readonly failure = undefined;
  readonly dropped = 0;
  readonly repairs = 0;

  add(publicIp: Address): void {
    this.members.set(publicIp, (this.members.get(publicIp) ?? 0) + 1);
  }

  remove(publicIp: Address): void {
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
