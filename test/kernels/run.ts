// `npm run test:kernels [-- WORD…]`: boots kernels of the Debian archive and runs tests in them. A word such as 6.12
// names a kernel, any other names suites by a part of their names; without any, all run, which takes an hour.
//
// What each kernel grants and what came of the tests goes to results.json, from which `npm run docs` makes the table of
// docs/kernels.md and the line of README.md. Of a guest that fails, the folder with its console is kept and named.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { PROJECT_ROOT } from '../support/lab.js';
import { ensurePackages } from '../support/packages.js';
import { fetchKernel, findPackage, type KernelPackage } from './kernel-package.js';
import { chooseAccelerator, consoleOf, type Job, type JobResult, runGuest } from './machine.js';
import {
  failuresOf,
  type Grants,
  type KernelResult,
  kernelsMarkdown,
  mergeResult,
  parseTap,
  readResults,
  RESULTS_PATH,
  type SuiteResult,
} from './results.js';
import { findJobs, suiteName } from './suites.js';

/** Debian 11's, 12's, and the newer one that 12 has. */
const SERIES = ['5.10', '6.1', '6.12'];
const GRANTS: Job = { file: 'test/kernels/grants.ts', seconds: 60 };
const PROGRAMS = [
  'qemu-system-x86_64',
  'busybox',
  'depmod',
  'xz',
  'ip',
  'tc',
  'ping',
  'iperf3',
  'tcpdump',
  'nft',
];
/** What is emulated takes so many times longer. */
const SLOWNESS = { kvm: 2, tcg: 15 } as const;
/** Lines of a test's output that are shown when it failed without saying where. */
const OUTPUT_LINES = 30;

function parseGrants(output: string): Grants {
  const line = output.split('\n').find((text) => text.startsWith('{'));
  if (line === undefined) throw new Error(`no daemon came up:\n${output}`);
  return JSON.parse(line) as Grants;
}

/** The kernel of this machine, on which `npm test` runs all suites. */
function ownKernel(): KernelResult {
  const args = ['--import', 'tsx', GRANTS.file];
  const output = execFileSync(process.execPath, args, {
    cwd: PROJECT_ROOT,
    encoding: 'utf8',
    timeout: 60_000,
  });
  return { release: release(), runBy: 'the machine', grants: parseGrants(output), suites: [] };
}

function showSuite({ suite, passed, failed, skipped }: SuiteResult, { output, status }: JobResult): void {
  const isWell = failed === 0;
  console.log(`${isWell ? '' : 'not '}ok - ${suite}: ${passed} passed, ${failed} failed, ${skipped} skipped`);
  if (isWell) return;
  if (status === 124) console.log('  it took too long');
  const failures = failuresOf(output);
  const lines = failures.length > 0 ? failures : output.trimEnd().split('\n').slice(-OUTPUT_LINES);
  console.log(lines.map((line) => `  ${line}`).join('\n'));
}

/** Runs suites in one kernel. `known` has what an earlier run found out of it. */
async function runKernel(
  { name, version }: KernelPackage,
  wanted: readonly string[],
  known: readonly KernelResult[],
): Promise<KernelResult> {
  const kernel = fetchKernel({ name, version });
  const before = known.find((result) => result.package?.name === name && result.package.version === version);
  const accelerator = chooseAccelerator();
  const slowness = SLOWNESS[accelerator];
  const folder = mkdtempSync(join(tmpdir(), 'twill-kernel-'));
  // Who asks for a suite by its name does not ask for the grants again, unless by name as well.
  let grants = wanted.length > 0 && !wanted.includes('grants') ? before?.grants : undefined;
  const jobs = [...(grants === undefined ? [GRANTS] : []), ...findJobs(PROJECT_ROOT, wanted)].map(
    ({ file, seconds }) => ({
      file,
      seconds: accelerator === 'kvm' ? seconds : seconds * slowness,
    }),
  );
  const suites: SuiteResult[] = [];
  const onResult = ({ file }: Job, result: JobResult): void => {
    if (file === GRANTS.file) {
      grants = parseGrants(result.output);
      return;
    }
    const suite = parseTap(suiteName(file), result.output, result.status);
    suites.push(suite);
    showSuite(suite, result);
  };
  const environment = { LAB_SLOWNESS: String(slowness), TAP_TIMEOUT: '3600' };
  let isWell = false;
  try {
    await runGuest({ kernel, accelerator, root: PROJECT_ROOT, folder, jobs, environment, onResult });
    if (grants === undefined) throw new Error(`the guest ended early; its console:\n${consoleOf(folder)}`);
    isWell = suites.every(({ failed }) => failed === 0);
    const runBy = accelerator === 'kvm' ? 'qemu, KVM' : 'qemu, emulation';
    return { release: kernel.release, package: { name, version }, runBy, grants, suites };
  } finally {
    if (isWell) rmSync(folder, { recursive: true, force: true });
    else console.log(`# console and output are kept in ${folder}`);
  }
}

async function main(): Promise<void> {
  if (process.getuid?.() !== 0) throw new Error('needs root, for namespaces in the guest and packages here');
  ensurePackages(PROGRAMS);
  if (!existsSync(join(PROJECT_ROOT, 'dist/main.js'))) throw new Error('nothing is built: npm run build');
  const words = process.argv.slice(2);
  const series = words.filter((word) => /^\d+\.\d+$/.test(word));
  const wanted = words.filter((word) => !series.includes(word));
  let [passed, failed, skipped] = [0, 0, 0];
  let results = mergeResult(readResults(), ownKernel());
  for (const wantedSeries of series.length > 0 ? series : SERIES) {
    const found = findPackage(wantedSeries);
    if (found === undefined) {
      console.log(`# ${wantedSeries}: the archive that apt is configured for has none`);
      continue;
    }
    console.log(`# ${wantedSeries}: ${found.name} ${found.version}`);
    try {
      const result = await runKernel(found, wanted, results);
      results = mergeResult(results, result);
      for (const suite of result.suites) {
        passed += suite.passed;
        failed += suite.failed;
        skipped += suite.skipped;
      }
    } catch (error) {
      failed++;
      console.log(`not ok - ${wantedSeries}: ${(error as Error).message}`);
    }
  }
  writeFileSync(RESULTS_PATH, `${JSON.stringify(results, undefined, 2)}\n`);
  console.log(`${kernelsMarkdown(results)}\n`);
  process.exitCode = failed === 0 && passed > 0 ? 0 : 1;
  console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
