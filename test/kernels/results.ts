// What `npm run test:kernels` found out, kernel by kernel: read from what tests printed, kept in results.json, shown by
// docs/kernels.md and README.md. Pure, but for readResults().

import { existsSync, readFileSync } from 'node:fs';

/** Names of what a kernel can grant, and what it granted. */
export type Grants = Readonly<Record<string, boolean | number | string>>;

/** What came of one test file. */
export interface SuiteResult {
  readonly suite: string;
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/** What came of one kernel. */
export interface KernelResult {
  /** As `uname -r` says it. */
  readonly release: string;
  /** The Debian package and its version; undefined for the kernel of the machine itself. */
  readonly package?: { readonly name: string; readonly version: string };
  /** What ran it: the machine itself, or qemu by KVM or by emulation. */
  readonly runBy: 'the machine' | 'qemu, KVM' | 'qemu, emulation';
  readonly grants: Grants;
  readonly suites: readonly SuiteResult[];
}

export const RESULTS_PATH = new URL('results.json', import.meta.url).pathname;

/** What is kept, the oldest kernel first; nothing when there is no file. */
export function readResults(): KernelResult[] {
  return existsSync(RESULTS_PATH) ? (JSON.parse(readFileSync(RESULTS_PATH, 'utf8')) as KernelResult[]) : [];
}

/** Counts of a file's own tests and assertions, of its TAP. One that ended badly without saying why has failed once. */
export function parseTap(suite: string, output: string, status: number | undefined): SuiteResult {
  const totals = /^# \{ total:.*$/m.exec(output)?.[0] ?? '';
  const count = (key: string): number => Number(new RegExp(`\\b${key}: (\\d+)`).exec(totals)?.[1] ?? 0);
  const failed = count('fail');
  return {
    suite,
    passed: count('pass'),
    failed: failed === 0 && status !== 0 ? 1 : failed,
    skipped: count('skip') + count('todo'),
  };
}

/** The lines of TAP that say what failed. */
export function failuresOf(output: string): string[] {
  return output.split('\n').filter((line) => /^ *not ok /.test(line) && !/# (?:skip|todo)/i.test(line));
}

/**
 * Results with `found` in them: in the place of older ones of the same suites, if the kernel is the same one. A suite
 * that failed leaves none.
 */
export function mergeResult(results: readonly KernelResult[], found: KernelResult): KernelResult[] {
  const others = results.filter(({ release }) => seriesOf(release) !== seriesOf(found.release));
  const same = results.find(
    (result) => result.release === found.release && result.package?.version === found.package?.version,
  );
  const names = new Set(found.suites.map(({ suite }) => suite));
  const suites = [...(same?.suites ?? []).filter(({ suite }) => !names.has(suite)), ...found.suites];
  const kept = suites.filter(({ failed }) => failed === 0).sort((a, b) => (a.suite < b.suite ? -1 : 1));
  return [...others, { ...found, suites: kept }].sort((a, b) => orderOf(a.release) - orderOf(b.release));
}

/** 6.12 of 6.12.117+deb12-amd64. */
export function seriesOf(release: string): string {
  return /^\d+\.\d+/.exec(release)?.[0] ?? release;
}

function orderOf(release: string): number {
  const [major, minor] = seriesOf(release).split('.').map(Number);
  return major * 1000 + minor;
}

/** The kernels that were run, as README.md names them: "6.1, 6.12 and 6.18". */
export function kernelsRun(results: readonly KernelResult[]): string {
  const series = results.map(({ release }) => seriesOf(release));
  return [series.slice(0, -1).join(', '), ...series.slice(-1)].filter((text) => text !== '').join(' and ');
}

/** The table of docs/kernels.md: a column for each kernel, a row for each thing granted and each test file. */
export function kernelsMarkdown(results: readonly KernelResult[]): string {
  const row = (first: string, cell: (result: KernelResult) => string): string =>
    `| ${[first, ...results.map(cell)].join(' | ')} |`;
  const namesOf = (list: (result: KernelResult) => readonly string[]): string[] => [
    ...new Set(results.flatMap(list)),
  ];
  const grants = namesOf((result) => Object.keys(result.grants));
  const suites = namesOf((result) => result.suites.map(({ suite }) => suite)).sort();
  return [
    row('', ({ release }) => seriesOf(release)),
    row('---', () => '---'),
    row('release', ({ release }) => release),
    row('Debian package', (result) => result.package?.version ?? 'none: a machine of ours'),
    row('run by', (result) => result.runBy),
    ...grants.map((name) => row(`\`${name}\``, (result) => grantText(result.grants[name]))),
    ...suites.map((name) => row(`\`${name}\``, (result) => suiteText(result, name))),
  ].join('\n');
}

function grantText(grant: boolean | number | string | undefined): string {
  if (typeof grant === 'boolean') return grant ? 'yes' : 'no';
  return String(grant ?? '');
}

function suiteText({ suites, runBy }: KernelResult, name: string): string {
  const found = suites.find(({ suite }) => suite === name);
  if (found === undefined)
    return runBy === 'the machine' && !name.startsWith('kernels/') ? 'by `npm test`' : '';
  const { passed, skipped } = found;
  const parts = [`${passed} passed`];
  if (skipped > 0) parts.push(`${skipped} skipped`);
  return parts.join(', ');
}
