// Kubernetes Events on the own Node, for what an operator must know: what `kubectl describe node` shows.
//
// One Event for each condition that makes this host not ready, or tells of a refused lease, once it has lasted; its
// reason is the condition's code in upper camel case ("lease-refused" is LeaseRefused). When all of them are over, one
// says so. At most BURST Events, then one a minute; one of a code in REPEAT_MS. An account that may not write Events,
// as flannel's may not, is told so once in the log and asked again after hours.

import { type ConditionCode, makesUnready } from '../../core/conditions.js';
import type { Logger } from '../../core/log.js';
import type { Clock } from '../../core/waiting.js';
import type { ActiveCondition } from '../../ops/health.js';
import type { KubeClient } from './api/client.js';
import { KubeFault } from './api/faults.js';

export interface NodeEventsOptions {
  readonly client: Pick<KubeClient, 'create'>;
  readonly node: string;
  readonly clock: Clock;
  /** Wall clock, in milliseconds. */
  readonly now: () => number;
  readonly log: Logger;
}

// Of no node: the API server keeps Events of cluster-wide objects in this namespace.
const PATH = '/api/v1/namespaces/default/events';
const LASTS_MS = 5000;
const REPEAT_MS = 600_000;
const BURST = 10;
const REFILL_MS = 60_000;
const REFUSED_MS = 3_600_000;
/** Of the node's in the name of an Event, which may have 253 characters itself. */
const MAX_NODE_NAME = 220;
const MAX_MESSAGE = 1024; // of an Event (validation of core/v1)

/** Said of every start, and over soon. */
const UNTOLD: readonly ConditionCode[] = ['starting'];
/** Told though this host is ready. */
const TOLD: readonly ConditionCode[] = ['lease-refused'];

/** The reason of the Event for a condition. */
export function eventReason(code: ConditionCode): string {
  return code.replace(/(?:^|-)([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

export class NodeEvents {
  readonly #options: NodeEventsOptions;
  readonly #closing = new AbortController();
  /** When each code was told last. */
  readonly #toldMs = new Map<ConditionCode, number>();
  /** What holds as the last Events say. */
  #holding: ReadonlySet<ConditionCode> = new Set();
  /** Whether an Event says that something is wrong: nothing else can be over. */
  #hasTold = false;
  #tokens = BURST;
  #refilledMs: number;
  #refusedUntilMs = 0;
  #number = 0;

  constructor(options: NodeEventsOptions) {
    this.#options = options;
    this.#refilledMs = options.clock.nowMs();
  }

  /** Takes what holds; to be called again and again. Returns at once. */
  note(conditions: readonly ActiveCondition[]): void {
    const nowMs = this.#options.clock.nowMs();
    if (nowMs < this.#refusedUntilMs) return;
    const told = conditions.filter(isTold);
    const lasting = told.filter(({ sinceMs }) => this.#options.now() - sinceMs >= LASTS_MS);
    for (const { code, text, action } of lasting) {
      if (nowMs - (this.#toldMs.get(code) ?? -Infinity) < REPEAT_MS && this.#holding.has(code)) continue;
      if (nowMs - (this.#toldMs.get(code) ?? -Infinity) < LASTS_MS || !this.#take(nowMs)) continue;
      this.#toldMs.set(code, nowMs);
      this.#hasTold = true;
      this.#send('Warning', eventReason(code), `${text} (${action})`);
    }
    const holding = new Set(lasting.map(({ code }) => code));
    if (this.#hasTold && told.length === 0) {
      this.#hasTold = false;
      this.#send('Normal', 'OverlayReady', 'what was told before is over');
    }
    this.#holding = told.length === 0 ? holding : new Set([...this.#holding, ...holding]);
  }

  close(): void {
    this.#closing.abort();
  }

  #take(nowMs: number): boolean {
    const refills = Math.floor((nowMs - this.#refilledMs) / REFILL_MS);
    this.#tokens = Math.min(BURST, this.#tokens + refills);
    this.#refilledMs += refills * REFILL_MS;
    if (this.#tokens === 0) return false;
    this.#tokens--;
    return true;
  }

  #send(type: 'Warning' | 'Normal', reason: string, message: string): void {
    const { client, node, now, clock, log } = this.#options;
    const at = `${new Date(now()).toISOString().slice(0, 19)}Z`;
    const event = {
      kind: 'Event',
      apiVersion: 'v1',
      // A name of its own, as every writer of Events makes it.
      metadata: {
        name: `${node.slice(0, MAX_NODE_NAME)}.${now().toString(16)}${(this.#number++).toString(16)}`,
        namespace: 'default',
      },
      // The uid is the name: so kubelet's Events are, and `kubectl describe node` looks for that.
      involvedObject: { kind: 'Node', apiVersion: 'v1', name: node, uid: node },
      type,
      reason,
      message: message.slice(0, MAX_MESSAGE),
      source: { component: 'twilld', host: node },
      firstTimestamp: at,
      lastTimestamp: at,
      count: 1,
    };
    client.create(PATH, event, this.#closing.signal).catch((error: unknown) => {
      if (this.#closing.signal.aborted) return;
      const fault = error instanceof KubeFault ? error : undefined;
      log.debug({ reason }, `Event not written: ${String(fault?.message ?? error)}`);
      if (fault?.status !== 403) return;
      const isFirst = this.#refusedUntilMs === 0;
      this.#refusedUntilMs = clock.nowMs() + REFUSED_MS;
      if (isFirst) log.info(`Events are not written: ${fault.message}`);
    });
  }
}

function isTold(condition: ActiveCondition): boolean {
  const { code } = condition;
  return TOLD.includes(code) || (makesUnready(condition) && !UNTOLD.includes(code));
}
