// Why a lease is not used, as a table of docs/operations.md: what every mode refuses, and what one mode does.

import { LEASE_REFUSALS } from '../../src/lease/judge.js';
import { PEER_REFUSALS } from '../../src/ops/status.js';

export function refusalsMarkdown(): string {
  const rows = [
    ...Object.entries(LEASE_REFUSALS).map(([code, meaning]) => [code, 'lease-refused', meaning]),
    ...Object.entries(PEER_REFUSALS).map(([code, { condition, meaning }]) => [code, condition, meaning]),
  ];
  const lines = rows.map(([code, condition, meaning]) => `| \`${code}\` | \`${condition}\` | ${meaning} |`);
  return ['| code | condition | meaning |', '| --- | --- | --- |', ...lines].join('\n');
}
