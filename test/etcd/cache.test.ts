// The table on disk: a start while etcd is down.

import pino from 'pino';
import t from 'tap';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { formatPrefix, formatPrefixes, parsePrefix } from '../../src/net/prefix.js';
import { firstConfig } from '../../src/overlay/first-config.js';
import { startEtcd } from '../support/etcd-server.js';
import {
  ownHostOf,
  converged,
  leaseValue,
  makeStore,
  putConfig,
  putLease,
  reasonsOf,
  Recorder,
  startStore,
  until,
} from '../support/store-fixture.js';

t.setTimeout(60_000);
const OWN = { previousSubnet: parsePrefix('10.5.1.0/24')! };

t.test('E18 etcd absent at the start: the saved table, flagged; reconciled when etcd is back', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), `twill-table-${process.pid}-`));
  t.teardown(() => rmSync(dir, { recursive: true }));
  const tablePath = join(dir, 'run', 'subnet.env.leases');
  const etcd = await startEtcd();
  t.teardown(() => etcd.remove());
  await putConfig(etcd);
  for (let i = 2; i < 6; i++) await putLease(etcd, `10.5.${i}.0-24`, `172.20.0.${i}`);
  const first = await startStore({ endpoints: etcd.url, ...OWN, store: { tablePath } });
  await putLease(etcd, '10.5.6.0-24', '172.20.0.6');
  await converged(etcd, first.recorder);
  const before = first.recorder.lines();
  await first.store.close();
  t.equal(statSync(tablePath).mode & 0o777, 0o600);
  await etcd.kill();

  const { store } = makeStore({ endpoints: etcd.url, store: { tablePath } });
  const startedAtMs = performance.now();
  const saved = store.savedStart!.table()!;
  t.ok(performance.now() - startedAtMs < 50, `${Math.round(performance.now() - startedAtMs)} ms`);
  t.equal(formatPrefixes(saved.ownSubnets), '10.5.1.0/24');
  const publicIp = ownHostOf({}).publicIp.v4;
  t.equal(saved.ownHost.publicIp.v4, publicIp);
  t.same(store.savedStart!.formerPublicIp(), { v4: publicIp });
  const log = pino({ level: 'silent' });
  const starting = await firstConfig(store, log, AbortSignal.timeout(20_000));
  const network = await starting.network({ v4: publicIp! });
  const signal = AbortSignal.timeout(20_000);
  const member = await network.join({ host: saved.ownHost, previousSubnets: undefined }, signal);
  const recorder = new Confirmed();
  member.watch(recorder);
  t.strictSame(recorder.lines(), before);
  await until(() => reasonsOf(member).some((reason) => reason.startsWith('etcd unreachable')), 'reason');
  t.ok(reasonsOf(member).some((reason) => /^lease table of \d{4}-.* in use/.test(reason)));

  etcd.start();
  await etcd.ready();
  await etcd.ctl('del', '/coreos.com/network/subnets/10.5.6.0-24');
  await until(() => recorder.confirmed === 1, 'the store has answered');
  await converged(etcd, recorder);
  t.strictSame(reasonsOf(member), []);
  t.strictSame(recorder.lost, []);
  await member.close();
  store.close();
});

class Confirmed extends Recorder {
  confirmed = 0;

  override onConfirmed(): void {
    this.confirmed++;
  }
}

t.test(
  'A host whose address changed while its daemon was down keeps its subnet, by its saved etcd lease',
  async (t) => {
    const dir = mkdtempSync(join(tmpdir(), `twill-table-${process.pid}-`));
    t.teardown(() => rmSync(dir, { recursive: true }));
    const store = { tablePath: join(dir, 'subnet.env.leases') };
    const etcd = await startEtcd();
    t.teardown(() => etcd.remove());
    await putConfig(etcd);
    const key = '/coreos.com/network/subnets/10.5.1.0-24';
    const first = await startStore({ endpoints: etcd.url, ...OWN, store });
    await first.store.close();
    // Twice: what the second start saved must hold for the third. And once after a renewal, which changes the etcd
    // lease.
    for (const [publicIp, leaseTtlSeconds] of [
      ['172.20.0.7', 86_400],
      ['172.20.0.8', 4],
      ['172.20.0.9', 86_400],
    ] as const) {
      const again = await startStore({ endpoints: etcd.url, publicIp, store, tuning: { leaseTtlSeconds } });
      t.equal(formatPrefix(again.subnet), '10.5.1.0/24');
      await until(() => again.recorder.lines()[0] === `10.5.1.0/24 ${leaseValue(publicIp)}`, 'published');
      if (leaseTtlSeconds === 4) {
        const renewals = (): number =>
          again.store.metrics().find(({ name }) => name === 'lease_renewals_total')!.values[0].value;
        await until(() => renewals() > 0, 'renewed');
      }
      const list = (): Promise<string> => etcd.ctl('lease', 'list');
      await until(async () => (await list()).includes('found 1 leases'), 'the etcd lease before is gone');
      t.equal((await etcd.ctl('get', '--prefix', '/coreos.com/network/subnets/', '--keys-only')).trim(), key);
      await again.store.close();
    }
    rmSync(store.tablePath);
    const fresh = await startStore({ endpoints: etcd.url, publicIp: '172.20.0.10', store, ...OWN });
    t.not(formatPrefix(fresh.subnet), '10.5.1.0/24', 'without the table there is no proof');
    await fresh.store.close();
  },
);
