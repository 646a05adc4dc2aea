// What docs/cli.md shows of the program twill: the code's own words about what real daemons said
// (test/fixtures/cli/recorded.json, written by record-cli.ts).

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { StatusDocument } from '../../src/ops/status.js';
import { findingsText } from '../../src/cli/doctor/doctor.js';
import type { Finding } from '../../src/cli/doctor/finding.js';
import { afterLook, drawRates, FIRST_VIEW, lookAt, ratesBetween } from '../../src/cli/top.js';
import { dropsText, listDrops } from '../../src/cli/drops.js';
import { leasesText, listLeases } from '../../src/cli/leases.js';
import { peersText } from '../../src/cli/peers.js';
import { statusText } from '../../src/cli/status.js';

/** Columns of a screen that nobody has told the width of. */
export const SAMPLE_WIDTH = 80;
const ROWS = 24;

/** One host of three in a lab. */
export interface Recorded {
  readonly nowMs: number;
  /** Two looks at the daemon, and the time between them. */
  readonly before: StatusDocument;
  readonly after: StatusDocument;
  readonly seconds: number;
  readonly findings: readonly Finding[];
}

export const RECORDED = new URL('../fixtures/cli/recorded.json', import.meta.url);

/** The code block for each marker of docs/cli.md. */
export function cliSamples(): Readonly<Record<string, string>> {
  const { nowMs, before, after, seconds, findings } = JSON.parse(readFileSync(RECORDED, 'utf8')) as Recorded;
  const rates = ratesBetween(lookAt(before), lookAt(after), seconds, nowMs);
  const width = SAMPLE_WIDTH;
  const texts = {
    help: ['--help', helpText()],
    status: ['status', statusText(after, width)],
    peers: ['peers', peersText(after.peers, width, nowMs)],
    drops: ['drops', dropsText(after, listDrops(after, false), width)],
    leases: ['leases', leasesText(after, listLeases(after), width)],
    top: ['top --count 1', drawRates(lookAt(after), rates, ROWS, afterLook(FIRST_VIEW, rates), width)],
    doctor: ['doctor', findingsText(findings, width)],
  };
  return Object.fromEntries(
    Object.entries(texts).map(([name, [words, text]]) => [name, `\`\`\`\n# twill ${words}\n${text}\n\`\`\``]),
  );
}

function helpText(): string {
  const program = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));
  const env = { PATH: process.env['PATH'] };
  return execFileSync(process.execPath, ['--import', 'tsx', program, '--help'], {
    encoding: 'utf8',
    env,
  }).trim();
}
