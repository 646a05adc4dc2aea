// What the path probes found, as metrics. A series for each peer only while there are few: ten thousand hosts that each watch
// ten thousand others would drown whoever collects them.

import { formatIpv4 } from '../net/ipv4.js';
import type { PathReport } from './peer-path.js';
import type { PathProber } from './path-prober.js';

/** Peers up to which each has series of its own. */
const MAX_PEER_SERIES = 256;

interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge';
  readonly values: { readonly labels: Record<string, string>; readonly value: number }[];
}

const FAMILIES: readonly { name: string; help: string; read: (report: PathReport) => number | undefined }[] =
  [
    {
      name: 'path_rtt_seconds',
      help: 'Smoothed round trip to a peer’s public IP, by ICMP echo.',
      read: ({ rttMs }) => (rttMs === undefined ? undefined : rttMs / 1000),
    },
    {
      name: 'path_loss_ratio',
      help: 'Share of the last 20 echoes to a peer without an answer; only for peers that answer at all.',
      read: ({ loss }) => loss,
    },
    {
      name: 'path_mtu_bytes',
      help: 'Largest IPv4 packet that was seen to reach a peer.',
      read: ({ mtuBytes }) => mtuBytes,
    },
  ];

/** Metric families of a prober; none without one. */
export function pathMetrics(prober: PathProber | undefined): Family[] {
  if (prober === undefined) return [];
  const { sent, answered, unmatched } = prober.counts();
  const counter = (name: string, help: string, value: number): Family => ({
    name,
    help,
    type: 'counter',
    values: [{ labels: {}, value }],
  });
  const counters = [
    counter('path_probes_sent_total', 'ICMP echo requests sent to peers.', sent),
    counter('path_probes_answered_total', 'Answers that matched a probe.', answered),
    counter('path_probes_unmatched_total', 'Answers with our identifier that belong to no probe.', unmatched),
  ];
  if (prober.peerCount > MAX_PEER_SERIES) return counters;
  const gauges = FAMILIES.map(({ name, help, read }) => {
    const values: Family['values'] = [];
    for (const { address, report } of prober.reports()) {
      const value = read(report);
      if (value !== undefined) values.push({ labels: { peer: formatIpv4(address) }, value });
    }
    return { name, help, type: 'gauge' as const, values };
  });
  return [...counters, ...gauges];
}
