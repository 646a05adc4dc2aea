// What the path probes and the overlay's echoes found, as metrics. A series for each peer only while there are few: ten
// thousand hosts that each watch ten thousand others would drown whoever collects them.

import { performance } from 'node:perf_hooks';
import { formatAddress } from '../net/prefix.js';
import type { OverlayProber } from './overlay-prober.js';
import type { PathReport } from './peer-path.js';
import type { PathProber } from './path-prober.js';
import type { MetricFamily, MetricValue } from '../core/metric.js';

/** Paths up to which each has series of its own. */
const MAX_PEER_SERIES = 256;

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
      help: 'Largest packet that was seen to reach a peer.',
      read: ({ mtuBytes }) => mtuBytes,
    },
  ];

const counter = (name: string, help: string, value: number): MetricFamily => ({
  name,
  help,
  type: 'counter',
  values: [{ labels: {}, value }],
});

/** Metric families of a prober; none without one. */
export function pathMetrics(prober: PathProber | undefined): MetricFamily[] {
  if (prober === undefined) return [];
  const { sent, answered, unmatched } = prober.counts();
  const counters = [
    counter('path_probes_sent_total', 'ICMP echo requests sent to peers.', sent),
    counter('path_probes_answered_total', 'Answers that matched a probe.', answered),
    counter('path_probes_unmatched_total', 'Answers with our identifier that belong to no probe.', unmatched),
  ];
  if (prober.peerCount > MAX_PEER_SERIES) return counters;
  const gauges = FAMILIES.map(({ name, help, read }) => {
    const values: MetricValue[] = [];
    for (const { address, report } of prober.reports()) {
      const value = read(report);
      if (value !== undefined) values.push({ labels: { peer: formatAddress(address) }, value });
    }
    return { name, help, type: 'gauge' as const, values };
  });
  return [...counters, ...gauges];
}

/**
 * Metric families of the echoes inside the overlay; none without them. The words of the states are those of `twill
 * peers`.
 */
export function reachMetrics<Lease>(
  prober: OverlayProber<Lease> | undefined,
  nameOf: (lease: Lease) => string,
): MetricFamily[] {
  if (prober === undefined) return [];
  const { sent, answered } = prober.counts();
  const states: MetricFamily = {
    name: 'peers_reachability',
    help: 'Peers by whether echoes through the overlay come back.',
    type: 'gauge',
    values: Object.entries(prober.summary()).map(([state, value]) => ({ labels: { state }, value })),
  };
  const families = [
    counter('overlay_echoes_sent_total', 'ICMP echo requests sent to peers through the overlay.', sent),
    counter('overlay_echoes_answered_total', 'Answers to echoes through the overlay.', answered),
    states,
  ];
  if (prober.wayCount > MAX_PEER_SERIES) return families;
  const reachable: MetricValue[] = [];
  const heard: MetricValue[] = [];
  const offsetMs = Date.now() - performance.now();
  for (const { lease, publicIp, report } of prober.reports()) {
    const labels = { peer: formatAddress(publicIp), subnet: nameOf(lease) };
    if (report.state !== 'unknown') reachable.push({ labels, value: report.state === 'ok' ? 1 : 0 });
    if (report.lastHeardMs !== undefined)
      heard.push({ labels, value: (offsetMs + report.lastHeardMs) / 1000 });
  }
  return [
    ...families,
    {
      name: 'peer_reachable',
      help: '1 when echoes to a peer through the overlay come back; none while unknown.',
      type: 'gauge',
      values: reachable,
    },
    {
      name: 'peer_last_heard_seconds',
      help: 'Unix time of the last answer or packet of a peer.',
      type: 'gauge',
      values: heard,
    },
  ];
}
