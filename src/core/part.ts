// A part of the daemon as those see it who ask how it is: health, metrics and status.

import type { Condition } from './conditions.js';
import type { MetricFamily } from './metric.js';

/** Asked at any time, at once and without I/O. `Status` is the part's piece of the status document. */
export interface Part<Status> {
  /** What is wrong at this moment. */
  conditions(): readonly Condition[];
  metrics(): readonly MetricFamily[];
  status(): Status;
}
