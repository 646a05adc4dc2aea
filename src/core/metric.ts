// Metrics as the parts of the daemon offer them; ops/metrics.ts writes them in Prometheus' text format.

/** One family with its current values. `name` has no prefix, and ends in `_total` unless it is a gauge. */
export interface MetricFamily {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge';
  readonly values: readonly MetricValue[];
}

export interface MetricValue {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}
