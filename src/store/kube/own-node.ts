// The own Node object: kept annotated with what this host publishes, and looked after for what it says of this host.
//
//   wanted (host, operator's addresses, condition) ─► differs from the node? ─► one patch of nodes/status ─┐
//        ▲                                                  │ no: whoever publishes is answered             │
//        └────────────── the node as it is now ◄────────────┴──────────── watch, and the patch's answer ◄───┘
//
// | the node                                   | this host                                                        |
// | ------------------------------------------ | ---------------------------------------------------------------- |
// | has lost or changed what we wrote          | writes it again, ever more slowly while somebody changes it back |
// | is changed back again and again            | degraded: another host or daemon believes to be this node        |
// | is deleted                                 | degraded; packets flow on; waits for it                          |
// | is made anew, with the same podCIDR        | annotates it                                                     |
// | is made anew, without a podCIDR            | degraded; waits for one                                          |
// | is made anew, with one of two podCIDRs     | degraded; waits for the other                                    |
// | has another podCIDR                        | the own lease is lost                                            |
//
// The node is known by its name alone. Only what differs is written; the condition NetworkUnavailable keeps its time of
// transition and heartbeat, which are the node controller's business, unless its status really changes.

import { type Condition, type ConditionCode, condition, Conditions } from '../../core/conditions.js';
import { OverlayError } from '../../core/errors.js';
import type { Logger } from '../../core/log.js';
import { Backoff, type Clock, nap } from '../../core/waiting.js';
import type { LeaseHost } from '../../lease/lease.js';
import { familiesOf } from '../../net/dual.js';
import {
  type Address,
  type DualAddress,
  type DualPrefix,
  formatPrefixes,
  type Prefix,
  prefixEquals,
} from '../../net/prefix.js';
import { annotationsOf, changedHint, missingOf, operatorProblem, undoneIn } from './annotations.js';
import type { ApiObject, KubeClient } from './api/client.js';
import { KubeFault } from './api/faults.js';
import { type KubeNode, readNode } from './nodes/kube-node.js';
import { lackOf, podSubnets } from './pod-cidr.js';
import { isLater } from './nodes/resource-version.js';
import { WritePace } from './write-pace.js';

export interface OwnNodeOptions {
  readonly client: Pick<KubeClient, 'patch'>;
  /** As annotationPrefix() gives it. */
  readonly prefix: string;
  readonly subnets: DualPrefix;
  readonly host: LeaseHost;
  /** As it was read when the subnet was taken from it. */
  readonly node: KubeNode;
  /** The address that an operator wanted this host to publish when it started. */
  readonly hintedPublicIp: DualAddress | undefined;
  /** --set-node-network-unavailable. */
  readonly setsNetworkUnavailable: boolean;
  readonly clock: Clock;
  readonly random: () => number;
  /** Wall clock, in milliseconds, for times in the node's condition. */
  readonly now: () => number;
  readonly log: Logger;
  onLost(error: OverlayError): void;
}

export interface OwnNodeCounters {
  /** Patches that the server took. */
  writes: number;
  writeFailures: number;
  /** Times what stands in the node was found changed by somebody else. */
  overwritten: number;
}

/** However long a server wants to be left alone. */
const MAX_LEAVE_MS = 60_000;

/** A server's cache is behind its writes by less than that. */
const CACHE_LAG_MS = 10_000;

/** As flannel writes it. */
const UP = { status: 'False', reason: 'FlannelIsUp', message: 'Flannel is running on this node' };

interface Waiter {
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** See the head of this file. Works from construction until close(). */
export class OwnNode {
  readonly counters: OwnNodeCounters = { writes: 0, writeFailures: 0, overwritten: 0 };
  readonly #options: OwnNodeOptions;
  readonly #name: string;
  readonly #conditions = new Conditions();
  readonly #closing = new AbortController();
  readonly #done: Promise<void>;
  #host: LeaseHost;
  /** Undefined while it is deleted. */
  #node: KubeNode | undefined;
  /** What the server itself told last, by no cache: to our first question and to our writes. */
  #answered: { readonly answer: KubeNode; readonly atMs: number } | undefined;
  readonly #pace = new WritePace();
  /** What was undone by somebody else last. */
  #undone = '';
  #forgetStale: () => void = () => undefined;
  #isAnnounced = false;
  #wake: () => void = () => undefined;
  #waiters: Waiter[] = [];

  constructor(options: OwnNodeOptions) {
    this.#options = options;
    this.#name = options.node.name;
    this.#host = options.host;
    this.#node = options.node;
    this.#answered = { answer: options.node, atMs: options.clock.nowMs() };
    this.#done = this.#run();
  }

  get host(): LeaseHost {
    return this.#host;
  }

  conditions(): readonly Condition[] {
    const found = this.#conditions.list();
    if (!this.#pace.isContested(this.#options.clock.nowMs())) return found;
    const text = `node "${this.#name}" is annotated by somebody else again and again: ${this.#undone}`;
    return [...found, condition('lease-overwritten', text)];
  }

  /** Resolves when `host` stands in the node, however long that takes. Rejects with OverlayError E_LEASE at close(). */
  publish(host: LeaseHost): Promise<void> {
    this.#host = host;
    return this.written();
  }

  /** Resolves when what is wanted stands in the node. Rejects as publish() does. */
  written(): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#closing.signal.aborted) return reject(closed());
      this.#waiters.push({ resolve, reject });
      this.#wake();
    });
  }

  /** Packets flow: the node may say so. */
  announce(): void {
    this.#isAnnounced = true;
    this.#wake();
  }

  /** The node as the watch has it; undefined: it is deleted. */
  observe(node: KubeNode | undefined): void {
    this.#forgetStale();
    if (this.#closing.signal.aborted) return;
    if (node === undefined) this.#answered = undefined;
    else if (this.#isOvertaken(node)) {
      // What is newer comes soon, unless there is nothing newer any more, as after a restore of etcd.
      this.#forgetStale = this.#options.clock.after(CACHE_LAG_MS, () => this.observe(node));
      return;
    }
    this.#noteUndone(node);
    this.#take(node);
    this.#wake();
  }

  async close(): Promise<void> {
    this.#closing.abort(closed());
    this.#forgetStale();
    this.#wake();
    await this.#done;
    for (const { reject } of this.#waiters.splice(0)) reject(closed());
  }

  /** The watch, or a list from the server's cache, is behind what the server itself told: of a former node, even. */
  #isOvertaken(node: KubeNode): boolean {
    if (this.#answered === undefined) return false;
    const { answer, atMs } = this.#answered;
    if (!isLater(answer.resourceVersion, node.resourceVersion)) return false;
    return this.#options.clock.nowMs() - atMs < CACHE_LAG_MS; // later the history went back
  }

  #noteUndone(node: KubeNode | undefined): void {
    const before = this.#node;
    if (node === undefined || before?.uid !== node.uid) return;
    const undone = undoneIn(this.#host, before.annotations, node.annotations);
    if (undone === undefined) return;
    this.#undone = undone;
    this.#pace.undone(this.#options.clock.nowMs());
    this.counters.overwritten++;
  }

  #take(node: KubeNode | undefined): void {
    const { subnets, log, hintedPublicIp } = this.#options;
    const families = familiesOf(subnets);
    const name = this.#name;
    const before = this.#node;
    this.#node = node;
    if (node === undefined) {
      const text = `node "${name}" is not known to the API server: our lease is not published`;
      if (before !== undefined) log.error(text);
      return this.#conditions.hold('node-missing', text);
    }
    this.#conditions.release('node-missing');
    const problem = operatorProblem(node.annotations, families);
    this.#conditions.set('node-annotation-invalid', problem);
    const hint = problem === undefined ? changedHint(hintedPublicIp, node.annotations, families) : undefined;
    this.#conditions.set('node-annotation-changed', hint);
    if (before?.uid !== node.uid) log.warn({ node: name }, `node "${name}" was made anew`);
    const found = podSubnets(node.podCidrs, families);
    if (found.ok && families.every((family) => isSameOrNone(found.value?.[family], subnets[family]!))) {
      const lack = lackOf(found.value, families);
      const stays = families.length === 1 ? 'stays' : 'stay';
      const text = lack && `node "${name}" has ${lack} any more: ${formatPrefixes(subnets)} ${stays} in use`;
      return this.#conditions.set('pod-cidr-missing', text);
    }
    this.#conditions.release('pod-cidr-missing');
    const now = found.ok ? `its podCIDR is ${node.podCidrs.join(', ')}` : found.problem;
    const text = `Own lease lost: node "${name}" has another subnet than ${formatPrefixes(subnets)}: ${now}`;
    this.#options.onLost(new OverlayError('E_LEASE_LOST', text));
  }

  /** Never rejects. */
  async #run(): Promise<void> {
    const { clock, random } = this.#options;
    const { signal } = this.#closing;
    const backoff = new Backoff(100, 10_000, random);
    while (!signal.aborted) {
      const patch = this.#patch();
      if (patch === undefined) {
        await this.#idle();
        continue;
      }
      const waitMs = this.#pace.waitMs(clock.nowMs());
      if (waitMs > 0) {
        await nap(waitMs, signal, clock);
        continue; // something else may be wanted by now
      }
      try {
        await this.#write(patch);
        backoff.reset();
      } catch (error) {
        if (signal.aborted) return;
        const delayMs = this.#note(error, backoff.next());
        await nap(delayMs, signal, clock);
      }
    }
  }

  /** What is wanted stands in the node, or there is no node. Until something changes. */
  async #idle(): Promise<void> {
    if (this.#node !== undefined) {
      this.#conditions.release('lease-not-published');
      for (const { resolve } of this.#waiters.splice(0)) resolve();
    }
    if (this.#closing.signal.aborted) return;
    await new Promise<void>((resolve) => (this.#wake = resolve));
    this.#wake = () => undefined;
  }

  /** What is to be written; undefined when the node is as it should be, or is not there. */
  #patch(): ApiObject | undefined {
    const node = this.#node;
    if (node === undefined) return undefined;
    const { prefix } = this.#options;
    const missing = Object.entries(missingOf(annotationsOf(this.#host, node.annotations), node.annotations));
    const condition = this.#condition(node);
    if (missing.length === 0 && condition === undefined) return undefined;
    const annotations = Object.fromEntries(missing.map(([key, value]) => [prefix + key, value]));
    return {
      ...(missing.length === 0 ? {} : { metadata: { annotations } }),
      ...(condition === undefined ? {} : { status: { conditions: [condition] } }),
    };
  }

  #condition({ networkUnavailable: present }: KubeNode): ApiObject | undefined {
    if (!this.#isAnnounced || !this.#options.setsNetworkUnavailable) return undefined;
    const isUp = present?.status === UP.status;
    if (isUp && present.reason === UP.reason && present.message === UP.message) return undefined;
    const now = `${new Date(this.#options.now()).toISOString().slice(0, 19)}Z`;
    const since = isUp && present.lastTransitionTime !== '' ? present.lastTransitionTime : now;
    return { type: 'NetworkUnavailable', ...UP, lastHeartbeatTime: now, lastTransitionTime: since };
  }

  async #write(patch: ApiObject): Promise<void> {
    const { client, prefix, clock, log } = this.#options;
    const name = this.#name;
    const answer = await client.patch(`/api/v1/nodes/${name}/status`, patch, this.#closing.signal);
    this.counters.writes++;
    const nowMs = clock.nowMs();
    this.#pace.written(nowMs);
    const node = readNode(answer, { prefix });
    if (node.name !== name)
      throw new KubeFault(0, 'broken', `patching node "${name}": the answer is another object`);
    log.debug({ node: name, patch }, 'node patched');
    const current = this.#node;
    if (current === undefined) return;
    if (current.uid === node.uid && isLater(current.resourceVersion, node.resourceVersion)) return;
    this.#answered = { answer: node, atMs: nowMs };
    this.#take(node);
  }

  /** Says what kept a write from being done; returns how long to wait. */
  #note(error: unknown, delayMs: number): number {
    this.counters.writeFailures++;
    const fault = error instanceof KubeFault ? error : undefined;
    // 404: the watch will tell. 409: another uid, likewise.
    const text = `node "${this.#name}" cannot be annotated: ${(error as Error).message}`;
    this.#hold('lease-not-published', text);
    // Somebody has to change something first.
    const leastMs = fault?.status === 403 || fault?.status === 422 ? 5000 : 0;
    return Math.max(delayMs, leastMs, Math.min(fault?.retryAfterMs ?? 0, MAX_LEAVE_MS));
  }

  #hold(code: ConditionCode, text: string): void {
    if (text !== this.#conditions.textOf(code)) this.#options.log.warn(text);
    this.#conditions.hold(code, text);
  }
}

function isSameOrNone(found: Prefix<Address> | undefined, own: Prefix<Address>): boolean {
  return found === undefined || prefixEquals(found, own);
}

function closed(): OverlayError {
  return new OverlayError('E_LEASE', 'the own node is not looked after any more');
}
