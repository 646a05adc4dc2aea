// Results of several runs as those of one: what was measured in the gaps that a busy machine leaves.

import type { Row, SuiteResult } from '../suite.js';
import type { Results } from './results.js';

/** The rounds of `added` behind those of `kept`, which were of the same code, on the same machine, at the same pace. */
export function poolResults(kept: Results, added: Results): Results {
  const differing = (['cpu', 'cores', 'kernel', 'node', 'commit'] as const).filter(
    (field) => kept.machine[field] !== added.machine[field],
  );
  if (differing.length > 0) {
    const texts = differing.map((field) => `${field} ${kept.machine[field]} and ${added.machine[field]}`);
    throw new Error(
      `Cannot add to the results of ${kept.date}: they are of another run: ${texts.join('; ')}`,
    );
  }
  const names = [...new Set([...kept.suites, ...added.suites].map(({ suite }) => suite))];
  const find = ({ suites }: Results, name: string): SuiteResult | undefined =>
    suites.find(({ suite }) => suite === name);
  const steady = added.steady ?? kept.steady;
  return {
    ...kept,
    notes: [...new Set([...kept.notes, ...added.notes])],
    seeds: [...kept.seeds, ...added.seeds],
    suites: names.map((name) => poolSuites(find(kept, name), find(added, name))),
    ...(steady === undefined ? {} : { steady }),
  };
}

function poolSuites(kept: SuiteResult | undefined, added: SuiteResult | undefined): SuiteResult {
  if (kept === undefined || added === undefined) {
    const only = kept ?? added;
    if (only === undefined) throw new Error('expected a suite in one of the results');
    return only;
  }
  if (JSON.stringify(kept.pace) !== JSON.stringify(added.pace))
    throw new Error(`Cannot add to the suite "${kept.suite}": its workloads had other lengths`);
  const rows = kept.rows.map((row) => {
    const more = added.rows.find(({ peer, metric }) => peer === row.peer && metric === row.metric);
    return more === undefined ? row : poolRows(row, more);
  });
  const isNew = (row: Row): boolean =>
    !kept.rows.some(({ peer, metric }) => peer === row.peer && metric === row.metric);
  return {
    ...kept,
    rounds: kept.rounds + added.rounds,
    rows: [...rows, ...added.rows.filter(isNew)],
  };
}

function poolRows(kept: Row, added: Row): Row {
  return {
    ...kept,
    samples: [...kept.samples, ...added.samples],
    cores: [...kept.cores, ...added.cores],
    nsPerPacket: [...kept.nsPerPacket, ...added.nsPerPacket],
    laneShare: [...kept.laneShare, ...added.laneShare],
  };
}
