// Many changes in a short time: each is applied soon, and the thread that applies them stays free for others.

import { monitorEventLoopDelay } from 'node:perf_hooks';
import t from 'tap';
import { formatIpv4, ipv4 } from '../../src/net/ipv4.js';
import { parsePrefix } from '../../src/net/prefix.js';
import { startEtcd } from '../support/etcd-server.js';
import { converged, leaseValue, PREFIX, putConfig, startStore, until } from '../support/store-fixture.js';

const PER_SECOND = 2_000;
const SECONDS = 3;
const PER_REQUEST = 100; // etcd takes 128 operations in one
const LEASES = 200;
const FIRST_IP = 0x64400000; // 100.64.0.0

t.test('E20 2,000 puts a second', async (t) => {
  const etcd = await startEtcd();
  t.teardown(() => etcd.remove());
  await putConfig(etcd);
  const { store, recorder } = await startStore({
    endpoints: etcd.url,
    previousSubnet: parsePrefix('10.5.1.0/24')!,
  });
  t.teardown(() => store.close());

  // Each put has an address of its own, by which it is known when it is applied.
  const writtenMs: number[] = [];
  const delaysMs: number[] = [];
  recorder.onUpdate = (update) => {
    for (const event of update.kind === 'events' ? update.events : []) {
      if (event.kind === 'put') {
        const number = (event.lease.host.publicIp.v4 ?? 0) - FIRST_IP;
        if (number >= 0) delaysMs.push(performance.now() - writtenMs[number]);
      }
    }
  };
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  const write = async (first: number): Promise<void> => {
    const puts = Array.from({ length: PER_REQUEST }, (_, i) => ({
      requestPut: {
        key: base64(`${PREFIX}/subnets/10.5.${2 + ((first + i) % LEASES)}.0-24`),
        value: base64(leaseValue(formatIpv4(ipv4(FIRST_IP + first + i)))),
      },
    }));
    for (let i = 0; i < PER_REQUEST; i++) writtenMs[first + i] = performance.now();
    const response = await fetch(`${etcd.url}/v3/kv/txn`, {
      method: 'POST',
      body: JSON.stringify({ success: puts }),
    });
    if (!response.ok) throw new Error(await response.text());
    await response.arrayBuffer();
  };
  const lag = monitorEventLoopDelay({ resolution: 5 });
  lag.enable();
  const startedMs = performance.now();
  const total = PER_SECOND * SECONDS;
  for (let written = 0; written < total; written += PER_REQUEST) {
    await until(() => (performance.now() - startedMs) * PER_SECOND >= written * 1_000, 'the next request');
    await write(written);
  }
  lag.disable();
  await converged(etcd, recorder, 5_000);
  t.equal(recorder.table.size, LEASES + 1);
  delaysMs.sort((a, b) => a - b);
  const delayMs = delaysMs[Math.floor(delaysMs.length * 0.99)];
  t.ok(delayMs < 1_000, `applied within ${Math.round(delayMs)} ms (99 of 100 puts)`);
  const lagMs = lag.percentile(99) / 1e6;
  t.ok(lagMs < 300, `others wait ${Math.round(lagMs)} ms (p99)`);
});
