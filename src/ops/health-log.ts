// The log's side of health: each condition once when it begins, once when it is over, and what they make of this host.

import { makesUnready } from '../core/conditions.js';
import type { Logger } from '../core/log.js';
import type { HealthChange } from './health.js';

/**
 * Logs what has changed since the look before. `isStarting`: not to be ready yet needs no line, since each step has its
 * own.
 */
export function logHealth(log: Logger, change: HealthChange, isStarting: boolean): void {
  const { report, raised, cleared, wasSinceMs } = change;
  for (const { code, severity, scope, text, action } of raised) {
    if (code === 'starting') continue;
    const fields = { condition: code, scope, do: action };
    if (severity === 'error') log.error(fields, text);
    else log.warn(fields, text);
  }
  for (const { code, text, sinceMs } of cleared) {
    if (code === 'starting') continue;
    log.info({ condition: code, seconds: secondsSince(sinceMs) }, `no longer: ${text}`);
  }
  if (wasSinceMs === undefined || isStarting) return;
  const codes = report.conditions.filter(makesUnready).map(({ code }) => code);
  if (report.state === 'degraded') log.error({ conditions: codes.join(' ') }, 'not ready');
  else if (report.isReady) log.info({ seconds: secondsSince(wasSinceMs) }, 'ready');
}

function secondsSince(ms: number): number {
  return Math.round((Date.now() - ms) / 1000);
}
