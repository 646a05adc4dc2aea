// A NodeMirror on a fake clock, and what it told.

import pino from 'pino';
import type { KubeNode, NodeEvent } from '../../src/store/kube/kube-node.js';
import { NodeMirror, type NodeMirrorTuning } from '../../src/store/kube/node-mirror.js';
import { FakeClock, settle } from './fake-clock.js';
import type { FakeKube, FakeNode, FakeWatch } from './fake-kube-client.js';

/** Of the annotations in these tests. */
export const PREFIX = 'flannel.alpha.coreos.com/';

/** What a mirror has told, as lines and as the table that follows from it. */
export class MirrorBench {
  readonly kube: FakeKube;
  readonly clock = new FakeClock();
  readonly seen: string[] = [];
  readonly logged: string[] = [];
  /** As whoever listens has it: a vanished node is gone. */
  readonly table = new Map<string, KubeNode>();
  readonly mirror: NodeMirror;
  /** Called with each event. */
  onEvent: (event: NodeEvent) => void = () => undefined;

  constructor(kube: FakeKube, tuning: Partial<NodeMirrorTuning> = {}, random: () => number = () => 0) {
    this.kube = kube;
    this.mirror = new NodeMirror({
      client: kube,
      prefix: PREFIX,
      listener: {
        onSnapshot: (nodes) => {
          for (const node of nodes) this.table.set(node.name, node);
          this.seen.push(['snapshot', ...nodes.map(show)].join(' '));
        },
        onEvents: (events) => {
          for (const event of events) this.#take(event);
        },
      },
      log: pino(
        { level: 'info' },
        { write: (line: string) => this.logged.push((JSON.parse(line) as { msg: string }).msg) },
      ),
      clock: this.clock,
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

/** The same of a node as the server has it. */
export function showServed({ metadata, spec }: FakeNode): string {
  const publicIp = metadata.annotations[`${PREFIX}public-ip`] ?? '-';
  return [metadata.name, metadata.uid, publicIp, ...(spec.podCIDRs ?? [])].join(' ');
}
