// Health as metrics: the same look that /readyz answers from.

import { CONDITIONS, makesUnready } from '../core/conditions.js';
import type { MetricFamily } from '../core/metric.js';
import { countConditions, type HealthReport } from './health.js';

export function healthMetrics(report: HealthReport): MetricFamily[] {
  const unready = report.conditions.filter(makesUnready).length;
  return [
    gauge('ready', '1 when /readyz says 200.', report.isReady ? 1 : 0),
    gauge('degraded_reasons', 'Conditions that make /readyz say 503.', unready),
    {
      name: 'conditions',
      help: 'Conditions that hold, by code; of peers, how many.',
      type: 'gauge',
      values: Array.from(countConditions(report), ([code, value]) => {
        const { severity, scope } = CONDITIONS[code];
        return { labels: { code, severity, scope }, value };
      }),
    },
    {
      name: 'condition_since_seconds',
      help: 'Unix time since when a condition holds.',
      type: 'gauge',
      values: report.conditions.map(({ code, part, sinceMs }) => ({
        labels: { code, part },
        value: Math.round(sinceMs / 1000),
      })),
    },
  ];
}

function gauge(name: string, help: string, value: number): MetricFamily {
  return { name, help, type: 'gauge', values: [{ labels: {}, value }] };
}
