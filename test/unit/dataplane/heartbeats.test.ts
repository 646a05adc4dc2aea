// When a worker counts as hung, on a clock and numbers of the test's own.

import t from 'tap';
import { Heartbeats } from '../../../src/dataplane/heartbeats.js';

interface Row {
  readonly name: string;
  /** Time of each look, in milliseconds, and what the two workers showed then. */
  readonly looks: readonly (readonly [number, number, number])[];
  readonly hung: readonly number[];
}

const rows: readonly Row[] = [
  { name: 'none looked at yet', looks: [], hung: [] },
  { name: 'a first look tells nothing', looks: [[90_000, 0, 0]], hung: [] },
  {
    name: 'one stands still for less than three looks',
    looks: [
      [0, 1, 1],
      [1000, 9, 1],
      [2000, 19, 1],
    ],
    hung: [],
  },
  {
    name: 'one stands still for three looks',
    looks: [
      [0, 1, 1],
      [999, 9, 1],
      [1999, 19, 1],
      [2998, 29, 1],
    ],
    hung: [1],
  },
  {
    name: 'one that never began',
    looks: [
      [0, 1, 0],
      [1000, 9, 0],
      [2000, 19, 0],
      [3000, 29, 0],
    ],
    hung: [1],
  },
  {
    name: 'one that moves again',
    looks: [
      [0, 1, 1],
      [1000, 1, 1],
      [2000, 1, 1],
      [3000, 1, 1],
      [4000, 2, 1],
    ],
    hung: [1],
  },
  {
    name: 'a number that wraps has moved',
    looks: [
      [0, 0xffffffff, 5],
      [1000, 0xffffffff, 6],
      [2000, 0xffffffff, 7],
      [3000, 0, 8],
    ],
    hung: [],
  },
  {
    name: 'all stood still, the observer too',
    looks: [
      [0, 1, 1],
      [60_000, 1, 1],
      [61_000, 9, 9],
    ],
    hung: [],
  },
  {
    name: 'the observer stood still and looks before the workers move',
    looks: [
      [0, 1, 1],
      [60_000, 1, 1],
    ],
    hung: [],
  },
];

for (const { name, looks, hung } of rows) {
  t.test(`Heartbeats.hung(): ${name}`, (t) => {
    const heartbeats = new Heartbeats(2);
    for (const [nowMs, ...beats] of looks) heartbeats.observe(Uint32Array.from(beats), nowMs);
    t.same(heartbeats.hung(), hung);
    t.end();
  });
}
