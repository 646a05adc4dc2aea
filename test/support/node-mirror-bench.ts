// What a NodeMirror told, and one on a fake clock.

import pino from 'pino';
import type { ApiObject } from '../../src/store/kube/api/client.js';
import {
  type KubeNode,
  type NodeEvent,
  type NodeListener,
  readNode,
} from '../../src/store/kube/nodes/kube-node.js';
import { NodeMirror, type NodeMirrorTuning } from '../../src/store/kube/nodes/node-mirror.js';
import { FakeClock, settle } from './fake-clock.js';
import type { FakeKube, FakeWatch } from './fake-kube-client.js';

/** Of the annotations in these tests. */
export const PREFIX = 'flannel.alpha.coreos.com/';

/** What a mirror has told, as lines and as the table that follows from it. */
export class MirrorRecorder implements NodeListener {
  readonly seen: string[] = [];
  /** Messages from level info on. */
  readonly logged: string[] = [];
  /** As whoever listens has it: a vanished node is gone. */
  readonly table = new Map<string, KubeNode>();
  readonly log = pino(
    { level: 'info' },
    { write: (line: string) => this.logged.push((JSON.parse(line) as { msg: string }).msg) },
  );
  /** Called with each event. */
  onEvent: (event: NodeEvent) => void = () => undefined;

  onSnapshot(nodes: readonly KubeNode[]): void {
    for (const node of nodes) this.table.set(node.name, node);
    this.seen.push(['snapshot', ...nodes.map(show)].join(' '));
  }

  onEvents(events: readonly NodeEvent[]): void {
    for (const event of events) this.#take(event);
  }

  /** The table, each as showHeld(). */
  get lines(): string[] {
    return [...this.table.values()].map(showHeld).sort();
  }

  #take(event: NodeEvent): void {
    this.onEvent(event);
    if (event.kind === 'put') {
      this.table.set(event.node.name, event.node);
      this.seen.push(`put ${show(event.node)}`);
    } else {
      this.table.delete(event.name);
      this.seen.push(
        event.kind === 'delete' ? `delete ${event.name} ${event.uid}` : `vanished ${event.name}`,
      );
    }
  }
}

/** A mirror of a server without a wire, on a fake clock. */
export class MirrorBench extends MirrorRecorder {
  readonly kube: FakeKube;
  readonly clock = new FakeClock();
  readonly mirror: NodeMirror;

  constructor(kube: FakeKube, tuning: Partial<NodeMirrorTuning> = {}, random: () => number = () => 0) {
    super();
    this.kube = kube;
    const { clock, log } = this;
    this.mirror = new NodeMirror({
      client: kube,
      reading: { prefix: PREFIX },
      listener: this,
      log,
      clock,
      random,
      tuning,
    });
  }

  /** Open, and the first watch with it. */
  static async open(
    kube: FakeKube,
    tuning?: Partial<NodeMirrorTuning>,
    random?: () => number,
  ): Promise<MirrorBench> {
    const bench = new MirrorBench(kube, tuning, random);
    await bench.nextWatch();
    return bench;
  }

  /** Lets time pass until a watch is open. */
  async nextWatch(): Promise<FakeWatch> {
    for (let i = 0; i < 1000; i++) {
      await settle();
      const watch = this.kube.open.at(-1);
      if (watch !== undefined) return watch;
      await this.clock.advance(100);
    }
    throw new Error(`no watch: ${this.kube.requests.slice(-5).join(', ')}`);
  }
}

/** Puts that told nothing new, or something older than was told before. */
export class Witness {
  readonly faults: string[] = [];
  readonly #told = new Map<string, { readonly version: number; readonly content: string }>();

  /** @param known - What was told before. */
  constructor(known: Iterable<KubeNode>) {
    for (const node of known) this.#remember(node);
  }

  take(event: NodeEvent): void {
    const name = event.kind === 'put' ? event.node.name : event.name;
    const told = this.#told.get(name);
    if (event.kind !== 'put') {
      if (told === undefined) this.faults.push(`${event.kind} of what was not told: ${name}`);
      this.#told.delete(name);
      return;
    }
    const content = showHeld(event.node);
    const version = Number(event.node.resourceVersion);
    if (told !== undefined && told.version >= version)
      this.faults.push(`${content}@${version} after ${told.version}`);
    if (told?.content === content) this.faults.push(`told twice: ${content}@${version}`);
    this.#remember(event.node);
  }

  #remember(node: KubeNode): void {
    this.#told.set(node.name, { version: Number(node.resourceVersion), content: showHeld(node) });
  }
}

/** "name=public-ip@version". */
export function show({ name, annotations, resourceVersion }: KubeNode): string {
  return `${name}=${annotations['public-ip'] ?? '-'}@${resourceVersion}`;
}

/** The annotation that the tests change. */
export function ip(value: string | undefined): Record<string, string | undefined> {
  return { [`${PREFIX}public-ip`]: value };
}

/** What is to be seen of a node: "name uid public-ip podCIDR". */
export function showHeld(node: KubeNode): string {
  return [node.name, node.uid, node.annotations['public-ip'] ?? '-', ...node.podCidrs].join(' ');
}

/** The same of a node as a server has it. */
export function showServed(object: ApiObject): string {
  return showHeld(readNode(object, { prefix: PREFIX }));
}
