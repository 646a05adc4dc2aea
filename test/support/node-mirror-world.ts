// A NodeMirror through HttpKubeClient on the stand-in of an API server: TLS, HTTP/2, HTTP/1.1 and time are real.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import { MONOTONIC_CLOCK } from '../../src/core/waiting.js';
import { HttpKubeClient } from '../../src/store/kube/api/http-client.js';
import { NodeMirror, type NodeMirrorTuning } from '../../src/store/kube/nodes/node-mirror.js';
import { TIMING } from '../../src/store/kube/api/timing.js';
import { ApiServer, type ApiServerOptions } from './api-server.js';
import { NODES } from './api-server/resources.js';
import { MirrorRecorder, PREFIX, showServed } from './node-mirror-bench.js';
import { until } from './store-fixture.js';
import { folderOf } from './folder.js';

/** Fast enough for a test, and slow enough for a machine that is busy. */
const TUNING: Partial<NodeMirrorTuning> = {
  silenceMs: 3_000,
  checkMs: [300, 500],
  settleMs: 100,
  retry: { quickMs: [10, 200], slowMs: [50, 200] },
};
const PATIENCE_MS = 30_000;

/** A server, a client and a mirror of its nodes, with what it told. */
export class World extends MirrorRecorder {
  readonly server: ApiServer;
  readonly mirror: NodeMirror;
  readonly #folder: string;

  constructor(server: ApiServer, client: HttpKubeClient, folder: string, tuning: Partial<NodeMirrorTuning>) {
    super();
    this.server = server;
    this.#folder = folder;
    this.mirror = new NodeMirror({
      ...{
        client,
        reading: { prefix: PREFIX },
        listener: this,
        log: this.log,
        clock: MONOTONIC_CLOCK,
        random: Math.random,
      },
      tuning: { ...TUNING, ...tuning },
    });
  }

  get served(): string[] {
    return this.server.store
      .list(NODES)
      .map((node) => showServed(node.json()))
      .sort();
  }

  /** Waits until the listener has what the server has. */
  async agree(what: string): Promise<void> {
    const isSame = (): boolean => this.lines.join('\n') === this.served.join('\n');
    await until(
      () => this.mirror.isLive && isSame(),
      `${what}: ${this.mirror.fault ?? 'no fault'}`,
      PATIENCE_MS,
    );
  }

  annotate(name: string, value: string): void {
    this.server.updateNode(name, { metadata: { annotations: { [`${PREFIX}public-ip`]: value } } });
  }

  /** A file that the client reads. */
  write(name: 'token' | 'ca.crt', text: string): void {
    writeFileSync(join(this.#folder, name), text);
  }
}

export interface WorldOptions {
  readonly server?: ApiServerOptions;
  readonly environment?: Readonly<Record<string, string>>;
  readonly tuning?: Partial<NodeMirrorTuning>;
  /** What is to go wrong with the first requests. */
  readonly prepare?: (server: ApiServer) => void;
}

/** With nodes a and b, and the mirror past its first list unless something was prepared. */
export async function openWorld(t: Test, options: WorldOptions = {}): Promise<World> {
  const server = await ApiServer.open(options.server);
  const isTls = server.url.startsWith('https');
  const folder = folderOf(t, {
    'ca.crt': isTls ? server.authority.cert : '',
    token: server.tokens.flannel,
    kubeconfig: JSON.stringify({
      'current-context': 'c',
      contexts: [{ name: 'c', context: { cluster: 'x', user: 'u' } }],
      clusters: [
        {
          name: 'x',
          cluster: { server: server.url, ...(isTls ? { 'certificate-authority': 'ca.crt' } : {}) },
        },
      ],
      users: [{ name: 'u', user: { tokenFile: 'token' } }],
    }),
  });
  for (const name of ['a', 'b']) server.createNode(name, { podCidrs: [`10.244.${name.charCodeAt(0)}.0/24`] });
  options.prepare?.(server);
  const timing = { ...TIMING, pingMs: 300, pongMs: 500, connectMs: 1_000, callMs: 1_000, idleMs: 1_500 };
  const identity = { apiUrl: '', kubeconfigFile: join(folder, 'kubeconfig') };
  const client = await HttpKubeClient.open(identity, options.environment ?? {}, timing);
  const world = new World(server, client, folder, options.tuning ?? {});
  t.teardown(async () => {
    await world.mirror.close();
    client.close();
    await server.close();
  });
  if (options.prepare === undefined) await world.agree('the first list');
  return world;
}
