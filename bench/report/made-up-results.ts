// Results that nobody measured, for the tests of what is made of results.

import { QUICK } from '../pace.js';
import type { Row, SuiteResult } from '../suite.js';
import type { Results } from './results.js';

/** A row of one peer. */
export function rowOf(peer: string, metric: string, samples: readonly number[]): Row {
  return { peer, metric, unit: 'Gbit/s', samples: [...samples], cores: [], nsPerPacket: [], laneShare: [] };
}

/** A suite with as many rounds as its first row has samples. */
export function suiteOf(suite: string, rows: readonly Row[]): SuiteResult {
  return {
    suite,
    title: suite,
    rounds: rows[0]?.samples.length ?? 0,
    pace: QUICK,
    rows,
    missing: [],
    lanes: {},
    idleCores: 0.05,
  };
}

/** A run on a machine that is not there. */
export function resultsOf(suites: readonly SuiteResult[], more: Partial<Results> = {}): Results {
  return {
    date: '2000-01-01T00:00:00.000Z',
    machine: {
      cpu: 'Example',
      cores: 2,
      kernel: '6.18',
      node: 'v20',
      system: 'Debian',
      congestionControl: 'cubic',
      programs: {},
      twill: '0.1.0',
      commit: 'abc',
    },
    options: [],
    notes: [],
    seeds: [1],
    suites,
    ...more,
  };
}
