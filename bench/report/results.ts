// The results of a run as they are kept: bench/results/<date>-<cpu>.json, written by the harness and never by hand.

import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { join } from 'node:path';
import { PROJECT_ROOT } from '../../test/support/lab.js';
import { median } from '../../test/support/measure.js';
import type { Steady } from '../steady.js';
import type { Row, SuiteResult } from '../suite.js';

export const RESULTS_DIRECTORY = join(PROJECT_ROOT, 'bench/results');

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly kernel: string;
  readonly node: string;
  readonly system: string;
  /** Of the machine; what names no other has it. */
  readonly congestionControl: string;
  /** Version of each program that took part; "missing" when it is not installed. */
  readonly programs: Readonly<Record<string, string>>;
  readonly twill: string;
  readonly commit: string;
}

export interface Results {
  readonly date: string;
  readonly machine: Machine;
  /** As on the command line. */
  readonly options: readonly string[];
  /** What else the machine did meanwhile, as whoever ran it says. */
  readonly notes: readonly string[];
  /** Of the orders of the peers, one for each run that is in here. */
  readonly seeds: readonly number[];
  readonly suites: readonly SuiteResult[];
  readonly steady?: Steady;
}

function outputOf(command: string, args: readonly string[]): string {
  try {
    return execFileSync(command, args, {
      encoding: 'utf8',
      cwd: PROJECT_ROOT,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  } catch {
    return '';
  }
}

/** All but what a run writes. */
const CODE = ['.', ':!README.md', ':!docs/performance.md', ':!bench/results'];

/** What the figures depend on. */
export function describeMachine(): Machine {
  const program = (name: string, args: readonly string[]): string =>
    /\d[\w.~+-]*/.exec(outputOf(name, args))?.[0] ?? 'missing';
  const isChanged =
    outputOf('git', ['status', '--porcelain', '--untracked-files=no', '--', ...CODE]).trim() !== '';
  const osRelease = readFileSync('/etc/os-release', 'utf8');
  return {
    cpu: cpus()[0].model.trim(),
    cores: cpus().length,
    kernel: release(),
    node: process.version,
    system: /^PRETTY_NAME="(.*)"$/m.exec(osRelease)?.[1] ?? 'unknown',
    congestionControl: readFileSync('/proc/sys/net/ipv4/tcp_congestion_control', 'utf8').trim(),
    programs: {
      iperf3: program('iperf3', ['--version']),
      iproute2: program('ip', ['-V']),
      fastd: program('fastd', ['--version']),
      'wireguard-go': program('wireguard-go', ['--version']),
      flanneld:
        process.env['FLANNELD'] === undefined ? 'missing' : program(process.env['FLANNELD'], ['--version']),
    },
    twill: (JSON.parse(readFileSync(join(PROJECT_ROOT, 'package.json'), 'utf8')) as { version: string })
      .version,
    commit: outputOf('git', ['rev-parse', '--short=12', 'HEAD']).trim() + (isChanged ? ' and changes' : ''),
  };
}

/** Writes the results and returns the file's path. */
export function writeResults(results: Results): string {
  const cpu = results.machine.cpu
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '');
  const path = join(RESULTS_DIRECTORY, `${results.date.slice(0, 10)}-${cpu}.json`);
  mkdirSync(RESULTS_DIRECTORY, { recursive: true });
  writeFileSync(path, `${JSON.stringify(results, rounded, 1)}\n`);
  return path;
}

/** Four digits say more than these measurements know. */
function rounded(_key: string, value: unknown): unknown {
  return typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(4)) : value;
}

/** The newest results that are kept, or undefined. */
export function readNewestResults(): { path: string; results: Results } | undefined {
  let names: string[];
  try {
    names = readdirSync(RESULTS_DIRECTORY).filter((name) => name.endsWith('.json'));
  } catch {
    return undefined; // none were ever written
  }
  const name = names.sort().pop();
  if (name === undefined) return undefined;
  const path = join(RESULTS_DIRECTORY, name);
  return { path, results: JSON.parse(readFileSync(path, 'utf8')) as Results };
}

/** One peer's values of one metric. */
export function findRow(results: Results, suite: string, peer: string, metric: string): Row | undefined {
  return results.suites
    .find((one) => one.suite === suite)
    ?.rows.find((row) => row.peer === peer && row.metric === metric);
}

/** Median of a row, or NaN when there is none. */
export function medianOf(row: Row | undefined): number {
  return row === undefined || row.samples.length === 0 ? NaN : median(row.samples);
}
