// A cluster of three: the leader dies, and a member is cut off from the others together with us.
//
//   m0 ── proxy0 ┐            every peer connection goes through the proxy of the member it leads to;
//   m1 ── proxy1 ┼ peers      isolating m2 refuses proxy2, and what m2's process opens to proxy0 and proxy1
//   m2 ── proxy2 ┘

import t from 'tap';
import { startCluster } from '../support/etcd-server.js';
import type { EtcdServer } from '../support/etcd-server.js';
import {
  converged,
  pause,
  putConfig,
  putLease,
  reasonsOf,
  startStore,
  until,
} from '../support/store-fixture.js';
import { TcpProxy } from '../support/tcp-proxy.js';

t.setTimeout(90_000);

async function memberIds(servers: readonly EtcdServer[]): Promise<{ leader: number; followers: number[] }> {
  const flags = await Promise.all(
    servers.map(async (server) => {
      const out = await server.ctl('endpoint', 'status', '-w', 'json');
      const ids = [...out.matchAll(/"(member_id|leader)":(\d+)/g)].map((match) => match[2]);
      return ids[0] === ids[1];
    }),
  );
  const leader = flags.indexOf(true);
  return { leader, followers: [0, 1, 2].filter((i) => i !== leader) };
}

t.test('E9 the leader is killed: no event is lost, whoever we were connected to', async (t) => {
  const servers = await startCluster();
  t.teardown(() => Promise.all(servers.map((server) => server.remove())));
  // The stores' own subnets are none of those below.
  await putConfig(servers[0], '{"Network":"10.5.0.0/16","SubnetMin":"10.5.100.0"}');
  const { leader, followers } = await memberIds(servers);
  const urls = [leader, ...followers].map((i) => servers[i].url);
  const onLeader = await startStore({ endpoints: urls.join(','), publicIp: '172.20.0.1' });
  t.equal(onLeader.store.status().connectedTo, servers[leader].url);
  const onFollower = await startStore({ endpoints: urls.toReversed().join(','), publicIp: '172.20.0.2' });
  t.teardown(() => Promise.all([onLeader.store.close(), onFollower.store.close()]));
  await servers[leader].kill();
  const alive = servers[followers[0]];
  await until(async () => (await alive.tryCtl('endpoint', 'health')).code === 0, 'a new leader');
  const startedAtMs = performance.now();
  for (let i = 0; i < 5; i++) await putLease(alive, `10.5.${50 + i}.0-24`, `172.20.0.${50 + i}`);
  await converged(alive, onLeader.recorder);
  await converged(alive, onFollower.recorder);
  t.ok(performance.now() - startedAtMs < 4000, `${Math.round(performance.now() - startedAtMs)} ms`);
  t.equal(onLeader.recorder.deletes + onFollower.recorder.deletes, 0);
  const reasons = (): string[] => [...reasonsOf(onLeader.store), ...reasonsOf(onFollower.store)];
  await until(() => reasons().length === 0, 'healthy').catch(() =>
    t.strictSame(reasons(), [], JSON.stringify([onLeader.log.slice(-6), onFollower.log.slice(-6)])),
  );
});

t.test('E10 our member is in the minority: the watch moves to another one', async (t) => {
  const proxies: TcpProxy[] = [];
  const servers = await startCluster({
    peerPortOf: async (port) => {
      const proxy = await TcpProxy.open(port);
      proxies.push(proxy);
      return proxy.port;
    },
  });
  t.teardown(async () => {
    await Promise.all(servers.map((server) => server.remove()));
    await Promise.all(proxies.map((proxy) => proxy.close()));
  });
  await putConfig(servers[0]);
  const minority = (await memberIds(servers)).followers[0];
  const majority = [0, 1, 2].filter((i) => i !== minority);
  const endpoints = [minority, ...majority].map((i) => servers[i].url).join(',');
  const bench = await startStore({ endpoints });
  t.teardown(() => bench.store.close());
  t.equal(bench.store.status().connectedTo, servers[minority].url);
  proxies[minority].refuse();
  for (const i of majority) await proxies[i].refusePid(servers[minority].pid);
  const movedMs = await until(
    () =>
      bench.store.status().watchEstablished === true &&
      bench.store.status().connectedTo !== servers[minority].url,
    'moved',
    15_000,
  ).catch(async (error: Error) => {
    const members = await Promise.all(servers.map((server) => server.tryCtl('endpoint', 'status')));
    const state = [minority, reasonsOf(bench.store), bench.store.status(), bench.log.slice(-8), members];
    t.fail(`${error.message}: ${JSON.stringify(state)}`);
    return NaN;
  });
  t.pass(`moved after ${Math.round(movedMs)} ms`);
  await putLease(servers[majority[0]], '10.5.60.0-24', '172.20.0.60');
  await converged(servers[majority[0]], bench.recorder);
  t.equal(bench.recorder.puts, 1);
  for (const proxy of proxies) proxy.heal();
  await pause(1000);
  await putLease(servers[majority[0]], '10.5.61.0-24', '172.20.0.61');
  await converged(servers[majority[0]], bench.recorder);
  t.equal(bench.recorder.puts, 2);
  t.equal(bench.recorder.deletes, 0);
});
