// A host's uplink as a network card without tunnel offload has it: superpackets are cut into packets before they leave.
//
// A veth pair hands superpackets over whole, so that vxlan never pays for cutting its own, which on a real network is
// spared only where the card can do it. Here only the uplink is made to cut. The links of the containers keep their
// offloads: those stay inside a host, and no real network takes them away.
//
//   tx-udp_tnl-segmentation,         the kernel cuts superpackets of vxlan, and those of the lane, which are marked as
//   tx-udp_tnl-csum-segmentation     a tunnel's too
//   tx-udp-segmentation              so are the engine's trains (UDP_SEGMENT), which few cards can cut
//   tso, gso                         and plain TCP: host-gw would otherwise cross whole on the switch
//   gro                              on, as in each driver with NAPI: packets that came are merged where the kernel
//                                    can (vxlan's inner TCP, the engine's UDP). A veth pair has it off by default
//
// The switch has no part in it: its ports pass on what comes, one packet at a time.

import { execFileSync } from 'node:child_process';
import type { Host } from '../../test/support/lab.js';

const OFF = [
  'tx-udp_tnl-segmentation',
  'tx-udp_tnl-csum-segmentation',
  'tx-udp-segmentation',
  'tso',
  'gso',
] as const;

/** Makes `eth0` of a host cut what it sends. Before its daemon starts, which asks what the uplink can do. */
export function cutOnUplink(host: Host): void {
  const settings = [...OFF.flatMap((feature) => [feature, 'off']), 'gro', 'on'];
  execFileSync('ip', ['netns', 'exec', host.ns, 'ethtool', '-K', 'eth0', ...settings], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
}
