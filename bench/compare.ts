// Question: what do containers get through twill, next to the other ways on this machine?
//
// `npm run bench` runs the suites of suites.ts that the targets are about and a minute of steady traffic, in twenty
// minutes, keeps the results as bench/results/<date>-<cpu>.json, and writes the pictures and tables of README.md and
// docs/performance.md from them. Nothing else may run on the machine meanwhile.
//
//   --quick           what README.md shows, in three minutes: fewer peers, shorter runs, two rounds
//   --all             other tunnels, MTUs, queues and all offloads off too: an hour
//   --rounds=N        @default 3, with --quick 2
//   --only=peers,…    some suites, or `steady`; the figures are then only shown
//   --keep            keeps them all the same, as the first of several runs with --only and --add
//   --add             adds the figures to the newest results, of the same commit, and keeps them
//   --dry-run         keeps nothing
//   --seed=N          of the orders of the peers @default the time
//   --note=TEXT       what else the machine did meanwhile, kept with the results; may be repeated
//
// `npm run bench -- report` writes pictures and tables from what is kept; with `--check` it only says which differ.

import { loadavg } from 'node:os';
import { relative } from 'node:path';
import { LAB_PROGRAMS, PROJECT_ROOT } from '../test/support/lab.js';
import { formatTable, median } from '../test/support/measure.js';
import { ensurePackages } from '../test/support/packages.js';
import { Churn } from './churn.js';
import { requireControls } from './congestion.js';
import { flagOption, numberOption, textOption, textOptions } from './options.js';
import { QUICK, WHOLE } from './pace.js';
import { poolResults } from './report/pool.js';
import { pagesOf, stalePages, writePages } from './report/publish.js';
import { describeMachine, readNewestResults, type Results, writeResults } from './report/results.js';
import { isMet, TARGETS } from './report/targets.js';
import { measureSteady } from './steady.js';
import { type RunOptions, runSuite, type Suite, type SuiteResult } from './suite.js';
import { makeQuickSuites, makeSuites } from './suites.js';

const STEADY_SECONDS = 60;

function show({ title, rows }: SuiteResult): void {
  const cells = rows.map((row) => [
    row.metric,
    row.peer,
    median(row.samples).toFixed(2),
    `${Math.min(...row.samples).toFixed(2)}–${Math.max(...row.samples).toFixed(2)}`,
    row.unit,
    row.cores.length === 0 ? '' : median(row.cores).toFixed(2),
    row.nsPerPacket.length === 0 ? '' : median(row.nsPerPacket).toFixed(0),
    row.laneShare.length === 0 ? '' : (median(row.laneShare) * 100).toFixed(1),
  ]);
  // Peers that are compared stand under each other.
  cells.sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0));
  console.log(`\n# ${title}`);
  console.log(
    formatTable([['metric', 'peer', 'median', 'range', 'unit', 'cores', 'ns/packet', 'lane %'], ...cells]),
  );
}

function showTargets(results: Results): void {
  console.log('');
  for (const target of TARGETS) {
    const value = target.value(results);
    const met = isMet(target, value);
    if (met === undefined) continue;
    const bound = `${target.better === 'more' ? '≥' : '≤'} ${target.limit}`;
    const engine = target.engine?.(results) ?? NaN;
    const beside = Number.isNaN(engine) ? '' : `; lane off ${engine.toFixed(2)}`;
    const measured = `${value.toFixed(2)} ${target.unit}`.trim();
    console.log(`${met ? 'met    ' : 'NOT MET'}  ${target.what}: ${measured} (${bound}${beside})`);
  }
}

/** Writes pictures and tables from the newest results that are kept, or compares them. */
export function report(): Promise<void> {
  const newest = readNewestResults();
  if (newest === undefined) throw new Error('bench/results holds no results: run `npm run bench` first');
  const pages = pagesOf(newest.path, newest.results);
  if (!flagOption('check')) {
    writePages(pages);
    return Promise.resolve();
  }
  const stale = stalePages(pages);
  if (stale.length > 0)
    throw new Error(
      `${stale.join(', ')}: not what ${relative(PROJECT_ROOT, newest.path)} makes of them: ` +
        'run `npm run bench -- report`',
    );
  return Promise.resolve();
}

function chooseSuites(suites: readonly Suite[]): { suites: readonly Suite[]; isSteady: boolean } {
  const wanted = textOption('only')?.split(',');
  if (wanted === undefined) {
    const isAll = flagOption('all');
    return {
      suites: suites.filter(({ isExtra }) => isAll || isExtra !== true),
      isSteady: !flagOption('quick'),
    };
  }
  const known = [...suites.map(({ name }) => name), 'steady'];
  const strange = wanted.find((name) => !known.includes(name));
  if (strange !== undefined)
    throw new Error(`--only names "${strange}": expected some of ${known.join(', ')}`);
  return { suites: suites.filter(({ name }) => wanted.includes(name)), isSteady: wanted.includes('steady') };
}

async function measure(suites: readonly Suite[], isSteady: boolean, options: RunOptions): Promise<Results> {
  // What is measured is what was there at the start.
  const machine = describeMachine();
  const date = new Date().toISOString();
  const load = `load average ${loadavg()[0].toFixed(1)} at the start`;
  const done: SuiteResult[] = [];
  for (const suite of suites) {
    done.push(await runSuite(suite, options));
    show(done.at(-1)!);
  }
  const steady = isSteady ? await measureSteady(STEADY_SECONDS) : undefined;
  if (steady !== undefined) console.log(steady);
  return {
    date,
    machine,
    options: process.argv.slice(2).filter((argument) => !argument.startsWith('--note=')),
    notes: [...textOptions('note'), load],
    seeds: [options.seed],
    suites: done,
    ...(steady === undefined ? {} : { steady }),
  };
}

/** Measures, shows and keeps. */
export async function compare(): Promise<void> {
  if (process.getuid?.() !== 0)
    throw new Error('The benchmark makes network namespaces and must run as root.');
  const isQuick = flagOption('quick');
  const { suites, isSteady } = chooseSuites(isQuick ? makeQuickSuites() : makeSuites());
  ensurePackages([...LAB_PROGRAMS, ...Churn.programs, 'ethtool', 'fastd', 'wireguard-go', 'wg']);
  requireControls();
  const fresh = await measure(suites, isSteady, {
    rounds: numberOption('rounds', isQuick ? 2 : 3),
    pace: isQuick ? QUICK : WHOLE,
    seed: numberOption('seed', Date.now() % 1_000_000, 1_000_000),
    say: (text) => console.error(text),
  });
  showTargets(fresh);
  const isAdded = flagOption('add');
  const isPart = textOption('only') !== undefined && !isAdded && !flagOption('keep');
  if (flagOption('dry-run') || isPart) return;
  const kept = isAdded ? readNewestResults() : undefined;
  const path = writeResults(kept === undefined ? fresh : poolResults(kept.results, fresh));
  const newest = readNewestResults();
  if (newest === undefined) throw new Error(`${path}: expected the results that were written`);
  const pages = writePages(pagesOf(newest.path, newest.results));
  console.log(`\nwritten: ${[relative(PROJECT_ROOT, path), ...pages].join(', ')}`);
}
