// A host's uplink as a network card without tunnel offload has it: superpackets are cut into packets before they leave.
//
// A veth pair hands superpackets over whole, so that vxlan never pays for cutting its own, which on a real network is
// spared only where the card can do it. Here only the uplink is made to cut. The links of the containers keep their
// offloads: those stay inside a host, and no real network takes them away.
//
//   tx-udp_tnl-segmentation,         the kernel cuts superpackets of vxlan, and those of the lane, which are marked as
//   tx-udp_tnl-csum-segmentation     a tunnel's too
//   tx-udp-segmentation              so are the engine's trains (UDP_SEGMENT), which few cards can cut
//   tso                              and plain TCP: host-gw would otherwise cross whole on the switch
//   gro                              on, as in each driver with NAPI: packets that came are merged where the kernel
//                                    can (vxlan's inner TCP, the engine's UDP). A veth pair has it off by default
//
// A veth pair merges what comes only when its other end cannot send superpackets, so the ports of the switch lose that
// too (veth_skb_is_eligible_for_gro() in drivers/net/veth.c); they pass on what comes, one packet at a time. Checksums
// stay the card's: veth has no setting for a card that knows those of plain packets only. So nobody computes the inner
// ones of vxlan and the lane here, while the engine computes its own.

import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import type { Host, Lab } from '../../test/support/lab.js';

const OFF = [
  'tx-udp_tnl-segmentation',
  'tx-udp_tnl-csum-segmentation',
  'tx-udp-segmentation',
  'tso',
] as const;

function setFeatures(ns: string, device: string, settings: readonly string[]): void {
  execFileSync('ip', ['netns', 'exec', ns, 'ethtool', '-K', device, ...settings], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
}

/** Makes `eth0` of a host cut what it sends. Before its daemon starts, which asks what the uplink can do. */
export function cutOnUplink(lab: Lab, host: Host): void {
  setFeatures(host.ns, 'eth0', [...OFF.flatMap((feature) => [feature, 'off']), 'gro', 'on']);
  setFeatures(lab.switchNs, `p${host.index}`, ['tso', 'off']);
}

/**
 * Lets the switch pass frames on without netfilter: br_netfilter would have it track and filter each outer packet, on
 * the hosts' cores, which no switch does. The bridges of the hosts keep it.
 */
export function bareSwitch(lab: Lab): void {
  if (!existsSync('/proc/sys/net/bridge')) return;
  const settings = ['iptables', 'ip6tables', 'arptables'].map(
    (name) => `net.bridge.bridge-nf-call-${name}=0`,
  );
  execFileSync('ip', ['netns', 'exec', lab.switchNs, 'sysctl', '-qw', ...settings]);
}
