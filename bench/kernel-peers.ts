// Question: how long does a kernel mode take to programme many peers, and then one change?
//
//   all at once   5,000 leases in one diff: route, and for vxlan neighbour and FDB entry, in the kernel target ≤ 2 s
//   one change    the public IP of one peer changes among them: median and highest of 21                target ≤ 20 ms
//   comparison    the whole kernel state against the wanted one, nothing to repair
//
// Unit: ms, from the diff to the kernel's answer, in a process of its own inside a namespace.

import { formatTable } from '../test/support/measure.js';
import { type LeaseText, type LabNode, startLabNode, withLab } from '../test/support/kernel-lab.js';

const PEERS = 5_000;
const CHANGES = 21;

function peer(index: number, mode: string, gateway: string): LeaseText {
  const [high, low] = [index >> 8, index & 255].map((octet) => octet.toString(16).padStart(2, '0'));
  return {
    subnet: `10.5.${(index >> 6) + 16}.${(index & 63) * 4}/30`,
    publicIp: gateway,
    backendType: mode,
    ...(mode === 'vxlan' ? { backendData: { VNI: 1, VtepMAC: `02:00:00:01:${high}:${low}` } } : {}),
  };
}

/** Public IPs a mode can use: any for vxlan; for host-gw one on the same link. */
function gatewayOf(index: number, mode: string): string {
  return mode === 'vxlan' ? `172.16.${index >> 8}.${index & 255}` : `192.0.2.${10 + (index % 200)}`;
}

async function apply(node: LabNode, fields: Record<string, unknown>): Promise<number> {
  return (await node.driver.call<{ ms: number }>('apply', fields)).ms;
}

async function measure(mode: string): Promise<string[]> {
  let row: string[] = [];
  await withLab(async (lab) => {
    const node = await startLabNode(lab, 1, { Type: mode });
    const added = Array.from({ length: PEERS }, (_, i) => peer(i, mode, gatewayOf(i, mode)));
    const all = await apply(node, { added });
    const changes: number[] = [];
    for (let i = 0; i < CHANGES; i++) {
      const index = PEERS - 100 + i;
      changes.push(await apply(node, { changed: [peer(index, mode, gatewayOf(index + 5_000, mode))] }));
    }
    changes.sort((a, b) => a - b);
    const { ms: comparison } = await node.driver.call<{ ms: number }>('reconcile');
    const shown = [all, changes[Math.floor(CHANGES / 2)], changes[CHANGES - 1], comparison];
    row = [mode, ...shown.map((ms) => ms.toFixed(ms < 100 ? 1 : 0))];
    await node.driver.close();
  });
  return row;
}

async function main(): Promise<void> {
  if (process.getuid?.() !== 0)
    throw new Error('The benchmark makes network namespaces and must run as root.');
  const heading = [`${PEERS} peers, ms`, 'all at once', 'one change', 'highest', 'comparison'];
  console.log(formatTable([heading, await measure('vxlan'), await measure('host-gw')]));
}

await main();
