// What health, metrics and status ask of every part of the daemon.

import type { Condition } from './conditions.js';
import type { MetricFamily } from './metric.js';

/** Asked at any time, at once and without I/O. `Status` is the part's piece of the status document. */
export interface Part<Status> {
  /** What is wrong at this moment. */
  conditions(): readonly Condition[];
  metrics(): readonly MetricFamily[];
  status(): Status;
}
