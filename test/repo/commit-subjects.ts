// What the subject of a commit must look like. `npm run check:commits -- main..HEAD` looks at a range, without one at
// the newest commit. It is no test: what somebody else has committed on top does not make the program wrong.

import { execFileSync } from 'node:child_process';
import { pathToFileURL } from 'node:url';

const SUBJECT_COLUMNS = 72;

/** What is wrong with a subject, in words. */
export function faultsOf(subject: string): string[] {
  const faults: string[] = [];
  if (subject.length > SUBJECT_COLUMNS) faults.push(`${subject.length} columns`);
  if (!/^[^\s:]+(?:, [^\s:]+)*: /.test(subject)) faults.push('no path and colon before it');
  if (/: [A-Z][a-z]/.test(subject)) faults.push('upper case after the path');
  if (subject.includes(';')) faults.push('two ideas');
  if (subject.endsWith('.')) faults.push('a period');
  return faults;
}

function main(range: readonly string[]): void {
  const log = execFileSync('git', ['log', '--no-merges', '--format=%s', ...range], { encoding: 'utf8' });
  for (const subject of log.trimEnd().split('\n')) {
    const faults = faultsOf(subject);
    if (faults.length === 0) continue;
    console.error(`${faults.join(', ')}: ${subject}`);
    process.exitCode = 1;
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const range = process.argv.slice(2);
  main(range.length === 0 ? ['-1'] : range);
}
