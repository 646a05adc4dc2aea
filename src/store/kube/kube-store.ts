// The Kubernetes store: the network config in a file, the subnets in spec.podCIDRs, what hosts tell in annotations.
//
//   KubeStore ─ readConfig ─► net-conf.json and the own Node ─ join ─► podCIDR, annotated ─► KubeMembership
//
// A cluster manager gives each node its subnet; this host reads it, and says where it is to be had. So nothing is
// acquired, renewed or released. What the parts guarantee stands in their heads; docs/install/kubernetes tells the
// whole for operators.

import { type Condition, type ConditionCode, Conditions } from '../../core/conditions.js';
import { OverlayError } from '../../core/errors.js';
import type { Logger } from '../../core/log.js';
import type { MetricFamily } from '../../core/metric.js';
import { Backoff, orAbort, sleep } from '../../core/waiting.js';
import type { Decoded } from '../../lease/lease-codec.js';
import { familiesOf, type FamilyName } from '../../net/dual.js';
import { type DualPrefix, formatPrefix, formatPrefixes, prefixCovers } from '../../net/prefix.js';
import { prefixesOf } from '../../config/network-config.js';
import type { ActiveCondition } from '../../ops/health.js';
import type { KubeStatus } from '../../ops/status.js';
import type { LeaseStore, Publication, SavedStart, StoredNetwork, StoreFlags } from '../store.js';
import {
  annotationPrefix,
  hostOf,
  NODE_PUBLIC_IP_FROM,
  nodePublicIp,
  operatorProblem,
} from './annotations.js';
import type { KubeClient } from './api/client.js';
import { KubeFault } from './api/faults.js';
import { HttpKubeClient } from './api/http-client.js';
import { KubeMembership } from './kube-membership.js';
import { Loss } from './loss.js';
import { type KubeNode, readNode } from './nodes/kube-node.js';
import { KubeSavedStart, tableSource } from './kube-saved-start.js';
import { readNetConfig, type ReadConfig } from './net-config-file.js';
import { NodeEvents } from './node-events.js';
import { nodeName, type NodeNameSource, nodeNameSource } from './node-name.js';
import { OwnNode } from './own-node.js';
import { lackOf, podSubnets } from './pod-cidr.js';
import { DEFAULT_TUNING, type KubeShared, type KubeTuning } from './shared.js';
import { kubeCounters } from './store-counters.js';

export interface KubeStoreOptions {
  readonly client: KubeClient;
  readonly nodeName: NodeNameSource;
  /** As annotationPrefix() gives it. */
  readonly prefix: string;
  /** --net-config-path. */
  readonly netConfigPath: string;
  /** --set-node-network-unavailable. */
  readonly setsNetworkUnavailable: boolean;
  /** Where the last good table is kept; undefined: nowhere. */
  readonly tablePath: string | undefined;
  readonly log: Logger;
  /** For tests: what is fixed in production. */
  readonly tuning?: Partial<KubeTuning>;
}

const MIN_RETRY_MS = 100;
const MAX_RETRY_MS = 5000;
const MAX_WAIT_MS = 60_000; // however long a server wants to be left alone

/** What holds up the start is one thing at a time. */
const START = 'start';

/** The store that the flags tell of. Rejects with OverlayError E_USAGE or E_FILE for what can never work. */
export async function openKubeStore(
  { kube, files }: StoreFlags,
  log: Logger,
  env: Readonly<Record<string, string | undefined>> = process.env,
): Promise<KubeStore> {
  const { apiUrl, kubeconfigFile, annotationPrefix: prefix, netConfigPath, setsNetworkUnavailable } = kube;
  const known = { nodeName: nodeNameSource(env), prefix: annotationPrefix(prefix) };
  return new KubeStore({
    ...known,
    client: await HttpKubeClient.open({ apiUrl, kubeconfigFile }, env),
    netConfigPath,
    setsNetworkUnavailable,
    tablePath: `${files.subnetFile}.leases`,
    log,
  });
}

/** See the head of this file. */
export class KubeStore implements LeaseStore {
  readonly kind = 'kube';
  readonly savedStart: SavedStart | undefined;
  readonly #shared: KubeShared;
  readonly #nodeName: NodeNameSource;
  readonly #closing = new AbortController();
  /** What holds up the start. */
  readonly #conditions = new Conditions();
  /** Once the name of the node is known. */
  #events: NodeEvents | undefined;
  /** Until the membership has it. */
  #own: OwnNode | undefined;
  #node = '';

  /** Contacts nobody. */
  constructor(options: KubeStoreOptions) {
    const { client, prefix, tablePath: path, log } = options;
    this.#shared = { ...options, ...DEFAULT_TUNING, ...options.tuning };
    this.#nodeName = options.nodeName;
    const source = tableSource(prefix);
    this.savedStart = path === undefined ? undefined : new KubeSavedStart({ client, path, source, log });
  }

  /** The own node is read with the config: a server that hangs has not answered. */
  async readConfig(signal: AbortSignal): Promise<StoredNetwork> {
    const until = AbortSignal.any([signal, this.#closing.signal]);
    const read = await readNetConfig(this.#shared.netConfigPath);
    const node = await this.#readNode(until);
    const families = familiesOf(read.config.networks);
    const problem = operatorProblem(node.annotations, families);
    if (problem !== undefined) this.#shared.log.error(`node "${node.name}": ${problem}; it is not used`);
    const former = hostOf(node.annotations, families);
    return {
      config: read.config,
      hints: {
        publicIp: nodePublicIp(node.annotations, families),
        publicIpFrom: NODE_PUBLIC_IP_FROM,
        backend: former.ok ? former.value.backend : undefined,
      },
      join: (publication, joining) =>
        this.#join(read, node, publication, AbortSignal.any([joining, this.#closing.signal])),
    };
  }

  conditions(): readonly Condition[] {
    return [...this.#conditions.list(), ...(this.#own?.conditions() ?? [])];
  }

  metrics(): readonly MetricFamily[] {
    return kubeCounters({});
  }

  status(): KubeStatus {
    return {
      kind: this.kind,
      server: this.#shared.client.server,
      node: this.#node,
      podCidr: null,
      resourceVersion: '',
      watchEstablished: false,
      leases: 0,
      badKeys: 0,
      badKeyList: [],
    };
  }

  noteHealth(conditions: readonly ActiveCondition[]): void {
    this.#events?.note(conditions);
  }

  close(): void {
    this.#events?.close();
    this.#closing.abort(new KubeFault(0, 'closed', 'the Kubernetes store is closed'));
    this.#shared.client.close();
  }

  /** The own Node, as soon as there is one. */
  async #readNode(until: AbortSignal): Promise<KubeNode> {
    const { client, prefix, clock, now, log } = this.#shared;
    const name = await this.#wait('starting', 'the name of this node is not known yet', until, async () => {
      const found = await nodeName(this.#nodeName, client, until);
      return found === undefined ? bad('its pod is on no node') : { ok: true, value: found };
    });
    this.#node = name;
    this.#events ??= new NodeEvents({ client, node: name, clock, now, log });
    return await this.#wait('node-missing', `node "${name}" is not read yet`, until, async () => {
      const node = readNode(await client.get(`/api/v1/nodes/${name}`, until), { prefix });
      return node.name === name ? { ok: true, value: node } : bad('the answer is another object');
    });
  }

  /** The node with all subnets that it is given. Rejects with OverlayError E_LEASE when they never can be used. */
  async #assigned(
    first: KubeNode,
    families: readonly FamilyName[],
    until: AbortSignal,
  ): Promise<{ node: KubeNode; subnets: DualPrefix }> {
    const { client, prefix } = this.#shared;
    const { name } = first;
    const lacks = families.length === 1 ? 'no podCIDR' : 'not a podCIDR of each family';
    const what = `node "${name}" has ${lacks} yet`;
    let known: KubeNode | undefined = first;
    return await this.#wait('pod-cidr-missing', what, until, async () => {
      const node = known ?? readNode(await client.get(`/api/v1/nodes/${name}`, until), { prefix });
      known = undefined;
      const found = podSubnets(node.podCidrs, families);
      if (!found.ok) throw new OverlayError('E_LEASE', `Cannot use node "${name}": its ${found.problem}`);
      if (found.value === undefined)
        return bad('a controller manager with --allocate-node-cidrs gives it one');
      const lack = lackOf(found.value, families);
      if (lack === undefined) return { ok: true, value: { node, subnets: found.value } };
      // It may be made anew: a cluster that became dual-stack gives no second one to the nodes that it had.
      return bad(`${lack} beside ${formatPrefixes(found.value)}`);
    });
  }

  /** Before anything is published: a subnet outside would be told to all. */
  #checkNetwork({ config }: ReadConfig, name: string, subnets: DualPrefix): void {
    const networks = prefixesOf(config);
    for (const family of familiesOf(subnets)) {
      const [network, subnet] = [networks[family]!, subnets[family]!];
      if (prefixCovers(network, subnet)) continue;
      const key = family === 'v4' ? 'Network' : 'IPv6Network';
      const expected = `expected one inside the ${key} ${formatPrefix(network)} of ${this.#shared.netConfigPath}`;
      throw new OverlayError('E_LEASE', `podCIDR of node "${name}" is ${formatPrefix(subnet)}: ${expected}`);
    }
  }

  async #join(
    read: ReadConfig,
    first: KubeNode,
    { host }: Publication,
    until: AbortSignal,
  ): Promise<KubeMembership> {
    const families = familiesOf(read.config.networks);
    const { node, subnets } = await this.#assigned(first, families, until);
    this.#checkNetwork(read, node.name, subnets);
    const loss = new Loss();
    const hintedPublicIp = nodePublicIp(first.annotations, families); // as readConfig() has told it
    const onLost = (error: OverlayError): void => loss.tell(error);
    const own = new OwnNode({ ...this.#shared, subnets, host, node, hintedPublicIp, onLost });
    this.#own = own;
    try {
      await orAbort(own.written(), until);
    } catch (error) {
      await own.close();
      throw error;
    } finally {
      this.#own = undefined;
    }
    return new KubeMembership(this.#shared, read, { node: node.name, subnets, own, hintedPublicIp, loss });
  }

  /** What `ask` finds, asked again until it does; meanwhile `code` says `what`, and why. */
  async #wait<T>(
    code: ConditionCode,
    what: string,
    until: AbortSignal,
    ask: () => Promise<Decoded<T>>,
  ): Promise<T> {
    const { clock, random } = this.#shared;
    const backoff = new Backoff(MIN_RETRY_MS, MAX_RETRY_MS, random);
    for (;;) {
      let delayMs = backoff.next();
      try {
        const found = await ask();
        this.#conditions.release(START);
        if (found.ok) return found.value;
        this.#hold(code, `${what}: ${found.problem}`);
      } catch (error) {
        if (until.aborted || !(error instanceof KubeFault)) throw error;
        this.#hold(error.status === 404 ? code : 'store-unreachable', `${what}: ${error.message}`);
        delayMs = Math.max(delayMs, Math.min(error.retryAfterMs ?? 0, MAX_WAIT_MS));
      }
      await sleep(clock, delayMs, until);
    }
  }

  #hold(code: ConditionCode, text: string): void {
    if (text !== this.#conditions.textOf(START)) this.#shared.log.warn(text);
    this.#conditions.hold(code, text, START);
  }
}

function bad(problem: string): { ok: false; problem: string } {
  return { ok: false, problem };
}
