import t from 'tap';
import { WHOLE } from '../pace.js';
import { resultsOf, rowOf, suiteOf } from './made-up-results.js';
import { poolResults } from './pool.js';

const kept = resultsOf([suiteOf('peers', [rowOf('twill', 'm', [1, 2])])], { notes: ['a'], seeds: [1] });

t.test('poolResults() puts rounds behind those that are kept, and new rows and suites behind them', (t) => {
  const added = resultsOf(
    [
      suiteOf('peers', [rowOf('twill', 'm', [3]), rowOf('other', 'm', [4])]),
      suiteOf('leases', [rowOf('twill', 'm', [5])]),
    ],
    { notes: ['a', 'b'], seeds: [2] },
  );
  const { suites, notes, seeds } = poolResults(kept, added);
  t.same(
    suites.map(({ suite, rounds, rows }) => [suite, rounds, rows.map(({ samples }) => samples)]),
    [
      ['peers', 3, [[1, 2, 3], [4]]],
      ['leases', 1, [[5]]],
    ],
  );
  t.same(
    [notes, seeds],
    [
      ['a', 'b'],
      [1, 2],
    ],
  );
  t.end();
});

t.test('poolResults() refuses what was measured otherwise', (t) => {
  const { machine } = kept;
  t.throws(() => poolResults(kept, resultsOf([], { machine: { ...machine, commit: 'def' } })), {
    message: /commit abc and def/,
  });
  const slower = { ...suiteOf('peers', [rowOf('twill', 'm', [1])]), pace: WHOLE };
  t.throws(() => poolResults(kept, resultsOf([slower])), { message: /"peers": its workloads/ });
  t.end();
});
