// What is written from the results that are kept: two pictures beside them, and the tables of README.md and
// docs/performance.md. `report --check` only compares, which test/repo does.

import { readFileSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { PROJECT_ROOT } from '../../test/support/lab.js';
import { drawChart, THEMES } from './chart.js';
import { type ChartPaths, fullReport, replaceBetweenMarks, shortReport } from './markdown.js';
import type { Results } from './results.js';

/** A file from the project's root, and what it shall be. */
export interface Page {
  readonly file: string;
  readonly text: string;
}

function textOf(file: string): string | undefined {
  try {
    return readFileSync(join(PROJECT_ROOT, file), 'utf8');
  } catch {
    return undefined; // not written yet
  }
}

/** All that the results of the file `path` determine. */
export function pagesOf(path: string, results: Results): Page[] {
  const base = relative(PROJECT_ROOT, path).replace(/\.json$/, '');
  const charts: ChartPaths = { light: `${base}.svg`, dark: `${base}-dark.svg` };
  const page = (file: string, name: string, text: string): Page => ({
    file,
    text: replaceBetweenMarks(file, textOf(file) ?? '', name, text),
  });
  return [
    { file: charts.light, text: drawChart(results, THEMES.light) },
    { file: charts.dark, text: drawChart(results, THEMES.dark) },
    page('README.md', 'short', shortReport(results, charts)),
    page(
      'docs/performance.md',
      'all',
      fullReport(results, { light: `../${charts.light}`, dark: `../${charts.dark}` }),
    ),
  ];
}

/** Writes what differs; the files that did. */
export function writePages(pages: readonly Page[]): string[] {
  const stale = stalePages(pages);
  for (const { file, text } of pages) {
    if (stale.includes(file)) writeFileSync(join(PROJECT_ROOT, file), text);
  }
  return stale;
}

/** The files that are not what the results make of them. */
export function stalePages(pages: readonly Page[]): string[] {
  return pages.filter(({ file, text }) => textOf(file) !== text).map(({ file }) => file);
}
