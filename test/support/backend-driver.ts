// A process that owns one backend of a kernel mode (or the firewall) and does as its stdin says; a lab starts one in
// each namespace and can end it with SIGKILL. One JSON command per line, one JSON answer per line on stdout.
//
// Networks, subnets and addresses are of one family, or of both with "&" between (leases.ts).
//
//   {"op":"new","backend":{…},"network":"10.5.0.0/16","iface":"eth0","sourceCheck":"strict"}   {"op":"publish"}
//   {"op":"start","subnet":"10.5.1.0/24"}   {"op":"apply","added":[…],"changed":[…],"removed":[…]}   {"op":"settle"}
//   {"op":"reconcile"}   {"op":"watch"}   {"op":"state"}   {"op":"firewall",…}   {"op":"resync"}   {"op":"close"}
//   {"op":"cleanup","network":"10.5.0.0/16"}   {"op":"choose","network":"10.5.0.0/16"}

import { NO_HANDOVER } from '../../src/handover/handover.js';
import { createInterface } from 'node:readline';
import { findTraces } from '../../src/cleanup/traces.js';
import { openBackend } from '../../src/backend/registry.js';
import { NO_OFFLOADS } from './fake-kernel-host.js';
import { Firewall } from '../../src/firewall/firewall.js';
import { openNftMonitor } from '../../src/firewall/nft-monitor.js';
import { leasableRange } from '../../src/config/network-config.js';
import { findLink } from '../../src/kernel/link.js';
import { chooseExternalInterface } from '../../src/kernel/underlay.js';
import { openMonitor } from '../../src/kernel/monitor.js';
import { openLogger } from '../../src/core/log.js';
import { dualOf, familiesOf } from '../../src/net/dual.js';
import type { Ipv4 } from '../../src/net/ipv4.js';
import type { Ipv6 } from '../../src/net/ipv6.js';
import { formatAddresses, parseAnyPrefix } from '../../src/net/prefix.js';
import type { Condition } from '../../src/core/conditions.js';
import type { Backend } from '../../src/backend/backend.js';
import { type Offload, type SourceCheck } from '../../src/config/options.js';
import type { FirewallOptions } from '../../src/firewall/firewall.js';
import type { Monitor } from '../../src/kernel/monitor.js';
import type { Peer } from '../../src/lease/lease.js';
import { addressesOf, familyNetworks, leaseOf, prefixesOf } from './leases.js';

/** One text for each peer. */
const textsOf = (part: { conditions(): readonly Condition[] }): string[] =>
  part.conditions().flatMap(({ text }) => text.split('; '));

// The kernel carries the packets of these modes.

interface LeaseText {
  readonly subnet: string;
  readonly publicIp: string;
  readonly backendType: string;
  readonly backendData?: unknown;
  readonly backendV6Data?: unknown;
  readonly createRevision?: number;
}

interface Command {
  readonly op: string;
  readonly backend?: Record<string, unknown>;
  readonly network?: string;
  readonly subnet?: string;
  readonly iface?: string;
  readonly publicIp?: string;
  readonly sourceCheck?: SourceCheck;
  readonly vxlanTxChecksum?: Offload;
  readonly added?: readonly LeaseText[];
  readonly changed?: readonly LeaseText[];
  readonly removed?: readonly LeaseText[];
  readonly options?: Partial<FirewallOptions>;
}

const log = openLogger({ level: 'info', format: 'json', write: () => undefined });
let backend: Backend | undefined;
let firewall: Firewall | undefined;
let monitor: Monitor | undefined;
let rulesMonitor: Monitor | undefined;

async function perform(command: Command): Promise<unknown> {
  switch (command.op) {
    case 'new': {
      const iface = await interfaceOf(command);
      const networks = prefixesOf(command.network!);
      const context = {
        config: {
          networks: familyNetworks(networks),
          subnetsFrom: 'limits' as const,
          enableNftables: false,
          backendType: String(command.backend?.['Type']),
          backend: command.backend!,
          warnings: [],
          source: 'a test',
        },
        iface,
        log,
        sourceCheck: command.sourceCheck ?? 'strict',
        queues: 1,
        offload: NO_OFFLOADS,
        networks: familiesOf(networks).map((family) => networks[family]!),
        holdDevice: () => Promise.resolve(true),
        handover: NO_HANDOVER,
        lane: 'off' as const,
        vxlanTxChecksum: command.vxlanTxChecksum ?? 'auto',
      };
      backend = await openBackend(context);
      return backend.type;
    }
    case 'publish':
      return await backend!.publish().then(({ type, data }) => ({
        backendType: type,
        backendData: data.v4,
        backendV6Data: data.v6,
      }));
    case 'start':
      return await backend!.start(prefixesOf(command.subnet!));
    case 'apply': {
      const startedAt = performance.now();
      backend!.apply({
        added: (command.added ?? []).map(toPeer),
        changed: (command.changed ?? []).map(toPeer),
        removed: (command.removed ?? []).map(toPeer),
      });
      await settled();
      return { ms: performance.now() - startedAt };
    }
    case 'interface':
      await backend!.underlayChanged(await interfaceOf(command));
      return {};
    case 'reconcile': {
      const startedAt = performance.now();
      await backend!.reconcile();
      return { ms: performance.now() - startedAt };
    }
    case 'watch':
      monitor = openMonitor(async () => await backend!.reconcile(), { log });
      if (backend!.rulesChanged !== undefined)
        rulesMonitor = openNftMonitor({ onChange: () => backend!.rulesChanged!(), log });
      while (!monitor.isListening() || rulesMonitor?.isListening() === false)
        await new Promise((resolve) => setTimeout(resolve, 5));
      return {};
    case 'state':
      return {
        degraded: textsOf(backend!),
        counters: backend!.metrics(),
        status: backend!.status(),
        peers: backend!.peerStatus(),
      };
    case 'firewall': {
      firewall = new Firewall({
        networks: prefixesOf(command.network!),
        subnets: prefixesOf(command.subnet!),
        useNftables: false,
        hasMasquerade: true,
        isFullyRandom: true,
        hasForward: true,
        hasBlackhole: false,
        resyncMs: 60_000,
        log,
        ...command.options,
      });
      await firewall.open();
      return { degraded: textsOf(firewall) };
    }
    case 'resync':
      await firewall!.resync();
      return { degraded: textsOf(firewall!), repairs: firewall!.metrics()[0].values[0].value };
    case 'choose': {
      const leasable = leasableRange({
        networks: familyNetworks(prefixesOf(command.network!)),
        subnetsFrom: 'limits',
      });
      const iface = command.iface === undefined ? [] : [command.iface];
      const options = { iface, ifaceRegex: [], ifaceCanReach: '', publicIp: '' };
      const { name, address } = await chooseExternalInterface(options, leasable);
      return `${name} ${formatAddresses(address)}`;
    }
    case 'cleanup': {
      const traces = await findTraces(
        command.network === undefined ? undefined : parseAnyPrefix(command.network),
      );
      for (const trace of traces) await trace.remove();
      return traces.map(({ kind, name }) => `${kind} ${name}`);
    }
    case 'close':
      await monitor?.close();
      await rulesMonitor?.close();
      await backend?.close();
      await firewall?.close();
      return {};
    default:
      throw new Error(`unknown op ${command.op}`);
  }
}

async function interfaceOf(command: Command) {
  const link = (await findLink(command.iface!))!;
  const globals = link.addresses.filter((own) => own.scope === 'global').map((own) => own.address);
  const v4 = globals.find((own): own is Ipv4 => typeof own === 'number');
  const v6 = globals.find((own): own is Ipv6 => typeof own === 'bigint');
  const address = dualOf(v4, v6);
  const publicIp = command.publicIp === undefined ? address : addressesOf(command.publicIp);
  return { name: link.name, index: link.index, mtuBytes: link.mtuBytes, address, publicIp };
}

/** Nothing is waiting any more; a failed or refused peer is settled too. */
async function settled(): Promise<void> {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 1));
    const gauge = backend!.metrics().find((counter) => counter.name === 'kernel_peers');
    const waiting = gauge?.values.find((value) => value.labels['state'] === 'waiting')?.value ?? 0;
    if (waiting === 0) return;
  }
}

function toPeer({ createRevision = 0, ...words }: LeaseText): Peer {
  return leaseOf({ ...words, created: BigInt(createRevision) });
}

for await (const line of createInterface({ input: process.stdin })) {
  let answer: string;
  try {
    answer = JSON.stringify({ result: await perform(JSON.parse(line) as Command) });
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    answer = JSON.stringify({ error: message, code });
  }
  process.stdout.write(answer + '\n');
}
await monitor?.close();
await rulesMonitor?.close();
await backend?.close();
await firewall?.close();
