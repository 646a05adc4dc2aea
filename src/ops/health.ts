// Whether this host forwards, and what is wrong if it does not do so fully. Asked, never told: each part of the daemon
// says which conditions hold when somebody looks. /readyz, /metrics, /status, systemd's STATUS= and the log all come
// from look(), so they cannot disagree.

import { messageOf } from '../core/errors.js';
import {
  type Condition,
  type ConditionCode,
  condition,
  CONDITIONS,
  makesUnready,
} from '../core/conditions.js';
import type { Scope, Severity } from '../core/conditions.js';

/** A condition with what its code says and since when it holds. */
export interface ActiveCondition extends Condition {
  readonly severity: Severity;
  readonly scope: Scope;
  readonly action: string;
  /** The part of the daemon that says so. */
  readonly part: string;
  /** Wall clock. Not moved when only the words change. */
  readonly sinceMs: number;
}

export interface HealthReport {
  readonly state: 'starting' | 'ready' | 'degraded';
  /** This host does what it promised; what /readyz answers. */
  readonly isReady: boolean;
  /** Errors before warnings, then this node, peers, the cluster, then the oldest first. */
  readonly conditions: readonly ActiveCondition[];
}

/** What has changed since the look before. */
export interface HealthChange {
  readonly report: HealthReport;
  readonly raised: readonly ActiveCondition[];
  readonly cleared: readonly ActiveCondition[];
  /** Since when it had been otherwise, if isReady changed. */
  readonly wasSinceMs: number | undefined;
}

const SCOPES: readonly Scope[] = ['node', 'peer', 'cluster'];

/** The state behind /readyz. */
export class Health {
  readonly #sources = new Map<string, () => readonly Condition[]>();
  readonly #now: () => number;
  #active = new Map<string, ActiveCondition>();
  #isStarted = false;
  #wasReady = false;
  #readySinceMs: number;
  /** Called by look() before it returns, when something differs. */
  onChange: (change: HealthChange) => void = () => undefined;

  constructor(now: () => number = Date.now) {
    this.#now = now;
    this.#readySinceMs = now();
  }

  /** The start is through, or the end has begun. */
  setStarted(isStarted: boolean): void {
    this.#isStarted = isStarted;
  }

  /** `conditions` returns what holds in the part `name` at this moment. */
  addSource(name: string, conditions: () => readonly Condition[]): void {
    this.#sources.set(name, conditions);
  }

  /** Asks all parts. */
  look(): HealthReport {
    const nowMs = this.#now();
    const before = this.#active;
    const active = new Map<string, ActiveCondition>();
    for (const [part, ask] of this.#sources) {
      for (const found of askSafely(ask)) {
        const key = `${found.code} ${part}`;
        if (active.has(key)) continue;
        const { severity, scope, action } = CONDITIONS[found.code];
        const sinceMs = before.get(key)?.sinceMs ?? nowMs;
        active.set(key, { ...found, severity, scope, action, part, sinceMs });
      }
    }
    this.#active = active;
    const conditions = [...active.values()].sort(compare);
    const isReady = this.#isStarted && !conditions.some(makesUnready);
    const state = isReady ? 'ready' : this.#isStarted ? 'degraded' : 'starting';
    const report: HealthReport = { state, isReady, conditions };

    const raised = conditions.filter(({ code, part }) => !before.has(`${code} ${part}`));
    const cleared = [...before].filter(([key]) => !active.has(key)).map(([, old]) => old);
    const hasTurned = isReady !== this.#wasReady;
    const wasSinceMs = hasTurned ? this.#readySinceMs : undefined;
    if (hasTurned) this.#readySinceMs = nowMs;
    this.#wasReady = isReady;
    if (hasTurned || raised.length + cleared.length > 0)
      this.onChange({ report, raised, cleared, wasSinceMs });
    return report;
  }
}

/** How many of each code hold, with 0 for what does not: an alert needs no series that comes and goes. */
export function countConditions(report: HealthReport): Map<ConditionCode, number> {
  const counts = new Map((Object.keys(CONDITIONS) as ConditionCode[]).map((code) => [code, 0]));
  for (const { code, count = 1 } of report.conditions) counts.set(code, counts.get(code)! + count);
  return counts;
}

/** A part that fails to answer is a condition itself, never an error of whoever looks. */
function askSafely(ask: () => readonly Condition[]): readonly Condition[] {
  try {
    return ask();
  } catch (error) {
    return [condition('health-failed', messageOf(error))];
  }
}

function compare(a: ActiveCondition, b: ActiveCondition): number {
  if (a.severity !== b.severity) return a.severity === 'error' ? -1 : 1;
  return SCOPES.indexOf(a.scope) - SCOPES.indexOf(b.scope) || a.sinceMs - b.sinceMs;
}
