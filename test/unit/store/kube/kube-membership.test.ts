// A membership on a server without a wire and a clock that is moved by hand: what takes minutes with a real one.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pino from 'pino';
import t, { type Test } from 'tap';
import type { ApiObject } from '../../../../src/store/kube/api/client.js';
import { KubeStore } from '../../../../src/store/kube/kube-store.js';
import { codesOf } from '../../../support/conditions.js';
import { FakeClock, settle } from '../../../support/fake-clock.js';
import { FakeKube } from '../../../support/fake-kube-client.js';
import { Listening, NET_CONF } from '../../../support/kube-store-bench.js';
import { hostOf } from '../../../support/leases.js';
import { folderOf } from '../../../support/folder.js';

const PREFIX = 'flannel.alpha.coreos.com/';
const signal = new AbortController().signal;

/** Takes patches of annotations. */
class WritableKube extends FakeKube {
  override patch(path?: string, patch?: ApiObject): Promise<ApiObject> {
    const [, name] = /nodes\/([^/]+)\/status$/.exec(path ?? '')!;
    const { annotations } = patch?.['metadata'] as { annotations: Record<string, string> };
    return Promise.resolve(this.put(name, annotations));
  }
}

async function openIn(t: Test, kube: FakeKube) {
  const clock = new FakeClock();
  const netConfigPath = join(folderOf(t), 'net-conf.json');
  writeFileSync(netConfigPath, NET_CONF);
  const store = new KubeStore({
    client: kube,
    nodeName: { kind: 'node', name: 'node1' },
    prefix: PREFIX,
    netConfigPath,
    setsNetworkUnavailable: false,
    tablePath: undefined,
    log: pino({ level: 'silent' }),
    tuning: { clock, random: () => 0.5 },
  });
  const network = await store.readConfig(signal);
  const host = hostOf({ publicIp: '172.30.0.11' });
  const membership = await network.join({ host, previousSubnets: undefined }, signal);
  const close = async (): Promise<void> => {
    await membership.close();
    store.close();
    t.equal(clock.pending, 0, 'no timer is left');
  };
  const listening = new Listening();
  membership.watch(listening);
  await settle();
  return { membership, clock, listening, close };
}

t.test(
  'a node that vanished with a restored etcd is missing, and is annotated when it is back',
  async (t) => {
    const kube = new WritableKube();
    const backup = kube.snapshot();
    kube.put('node1', {}, ['10.244.1.0/24']);
    const { membership, clock, close } = await openIn(t, kube);
    t.strictSame(codesOf(membership), []);
    kube.restore(backup);
    await clock.advance(100_000);
    t.match(codesOf(membership), ['node-missing', 'leases-vanished']);
    kube.put('node1', {}, ['10.244.1.0/24']);
    await clock.advance(100_000);
    t.strictSame(codesOf(membership), []);
    t.equal(kube.nodes.get('node1')!.metadata.annotations[`${PREFIX}public-ip`], '172.30.0.11');
    await close();
  },
);

t.test('a list that does not come is said', async (t) => {
  const kube = new WritableKube();
  kube.put('node1', {}, ['10.244.1.0/24']);
  let answer = (): void => undefined;
  kube.onRequest = (verb) =>
    verb === 'list' ? new Promise<void>((resolve) => (answer = resolve)) : undefined;
  const { membership, clock, listening, close } = await openIn(t, kube);
  await clock.advance(5_000);
  t.strictSame(codesOf(membership), [], 'not at once: it takes seconds in a large cluster');
  await clock.advance(10_000);
  t.strictSame(codesOf(membership), ['store-watch-down']);
  answer();
  await settle();
  t.strictSame(codesOf(membership), []);
  t.equal(listening.leases.size, 1);
  await close();
});
