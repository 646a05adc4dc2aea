// A start from the saved table, after the config changed in etcd while no daemon ran, also from one family to the other
// and to both: what is made from the table is made anew once etcd answers, in the same process and without a second
// start.
//
//   host a: daemon down ─ config changed ─ etcd stopped (SIGSTOP) ─ daemon starts ─ etcd goes on

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import {
  addBareHost,
  ETCD_PREFIX,
  ETCD_PROGRAMS,
  etcdctl,
  etcdDaemonArguments,
  type LabEtcd,
  startEtcd,
  startEtcdDaemon,
} from '../support/etcd-hosts.js';
import { type Host, Lab, labUnavailable, type Task, waitFor } from '../support/lab.js';
import { ensurePackages } from '../support/packages.js';
import { HEALTH_PORT, statusOf } from '../support/twill-hosts.js';

const skip = labUnavailable();
const SAVED = { Network: '10.5.0.0/16', Backend: { Type: 'udp' } };

/** Networks of this test, with what is in subnet.env and on the device for each. */
const NETWORKS = [
  { network: '10.5.0.0/16', of: '-4', key: 'FLANNEL_NETWORK', address: 'inet 10.5.', vxlan: 'flannel.1' },
  { network: '10.9.0.0/16', of: '-4', key: 'FLANNEL_NETWORK', address: 'inet 10.9.', vxlan: 'flannel.1' },
  {
    ...{ network: 'fd00:5::/48', of: '-6', key: 'FLANNEL_IPV6_NETWORK' },
    ...{ address: 'inet6 fd00:5:', vxlan: 'flannel-v6.1' },
  },
  {
    ...{ network: 'fd00:9::/48', of: '-6', key: 'FLANNEL_IPV6_NETWORK' },
    ...{ address: 'inet6 fd00:9:', vxlan: 'flannel-v6.1' },
  },
] as const;

const CHANGES = [
  { name: 'another Network', type: 'udp', v4: '10.9.0.0/16' },
  { name: 'another Backend, and IPv6 beside IPv4', type: 'vxlan', v4: '10.9.0.0/16', v6: 'fd00:9::/48' },
  { name: 'another Backend', type: 'udp', v4: '10.9.0.0/16', v6: 'fd00:9::/48' },
  { name: 'IPv6 alone', type: 'udp', v6: 'fd00:9::/48' },
  { name: 'another Network and Backend of IPv6', type: 'vxlan', v6: 'fd00:5::/48' },
  { name: 'back again', type: 'udp', v4: '10.5.0.0/16' },
] as const;

function environment(host: Host): string {
  return readFileSync(join(host.dir, 'subnet.env'), 'utf8');
}

async function isReady(lab: Lab, host: Host): Promise<boolean> {
  return (await lab.get(host.ns, `http://127.0.0.1:${HEALTH_PORT}/readyz`)).status === 200;
}

const putConfig = (lab: Lab, etcd: LabEtcd, config: unknown): Promise<string> =>
  etcdctl(lab, etcd, ['put', `${ETCD_PREFIX}/config`, JSON.stringify(config)]);

/** Starts a daemon while etcd is stopped; resolves once it forwards from the saved table and etcd goes on. */
async function startFromTable(lab: Lab, etcd: LabEtcd, host: Host): Promise<Task> {
  etcd.task.child.kill('SIGSTOP');
  try {
    const words = etcdDaemonArguments(host);
    return await lab.spawnUntil(host.ns, process.execPath, words, /ready after/);
  } finally {
    etcd.task.child.kill('SIGCONT');
  }
}

const times = (text: string, pattern: RegExp): number => [...text.matchAll(pattern)].length;

/** Descriptors and threads of a process. */
function resources(pid: number): number[] {
  return ['fd', 'task'].map((what) => readdirSync(`/proc/${pid}/${what}`).length);
}

t.test('a config that changed while no daemon ran', { skip, timeout: 240_000 }, async (t) => {
  ensurePackages(ETCD_PROGRAMS);
  const lab = Lab.open('again-');
  t.teardown(() => lab.close());
  const etcd = await startEtcd(lab, SAVED);
  const a = await addBareHost(lab, 1);
  let daemon = await startEtcdDaemon(lab, a);
  await waitFor(() => isReady(lab, a), 'readiness');

  for (const { name, type, ...networks } of CHANGES) {
    const [v4, v6] = ['v4' in networks && networks.v4, 'v6' in networks && networks.v6];
    t.equal(await lab.end(daemon), 0);
    await putConfig(lab, etcd, {
      ...(v4 ? { Network: v4 } : { EnableIPv4: false }),
      ...(v6 && { EnableIPv6: true, IPv6Network: v6 }),
      Backend: { Type: type },
    });
    daemon = await startFromTable(lab, etcd, a);
    await waitFor(() => times(daemon.log(), /ready after/g) === 2, `${name}: started again`, 15_000);
    t.match(
      daemon.log(),
      /network config differs from that of the saved table in .*: starting again with it/,
    );
    await waitFor(() => isReady(lab, a), `${name}: ready`);
    t.equal(daemon.child.exitCode, null, `${name}: the same process`);
    for (const { network, of, key, address, vxlan } of NETWORKS) {
      const isThere = network === v4 || network === v6;
      t.equal(environment(a).includes(`${key}=${network}`), isThere, `${name}: ${network} in subnet.env`);
      const device = type === 'udp' ? 'flannel0' : vxlan;
      if (isThere) t.match(lab.ip(a.ns, `${of} addr show dev ${device}`), address, `${name}: its address`);
      else t.notMatch(lab.ip(a.ns, `${of} route show`), network, `${name}: no route of ${network}`);
    }
    const keys = await etcdctl(lab, etcd, ['get', '--prefix', '--keys-only', `${ETCD_PREFIX}/subnets/`]);
    t.equal(keys.trim().split(/\s+/).length, 1, `${name}: one lease`);
  }

  await t.test('limits that hold the own subnet are no reason', async (t) => {
    const subnet = /^FLANNEL_SUBNET=(.*)\.1\/24$/m.exec(environment(a))![1];
    t.equal(await lab.end(daemon), 0);
    await putConfig(lab, etcd, { ...SAVED, SubnetMin: `${subnet}.0` });
    daemon = await startFromTable(lab, etcd, a);
    await waitFor(() => isReady(lab, a), 'readiness', 15_000);
    t.equal(times(daemon.log(), /ready after/g), 1);
    t.same((await statusOf(lab, a)).degraded, []);
    t.match(environment(a), `FLANNEL_SUBNET=${subnet}.1/24`);
  });

  await t.test('what is started again costs nothing more, and obeys SIGTERM', async (t) => {
    const before = resources(daemon.child.pid!);
    t.equal(await lab.end(daemon), 0);
    await putConfig(lab, etcd, { Network: '10.8.0.0/16', Backend: { Type: 'udp' } });
    daemon = await startFromTable(lab, etcd, a);
    await waitFor(() => times(daemon.log(), /ready after/g) === 2, 'started again', 15_000);
    await waitFor(() => isReady(lab, a), 'readiness');
    const after = resources(daemon.child.pid!);
    t.comment(`descriptors, threads: ${before.join(', ')} before, ${after.join(', ')} after`);
    for (const [index, count] of after.entries()) t.ok(count <= before[index] + 2, `${index}: ${count}`);
    t.equal(await lab.end(daemon), 0);

    // In the middle of it: etcd stops before the lease is there.
    await putConfig(lab, etcd, SAVED);
    daemon = await startFromTable(lab, etcd, a);
    await waitFor(() => /starting again/.test(daemon.log()), 'starting again', 15_000);
    const startedMs = performance.now();
    t.equal(await lab.end(daemon), 0);
    t.ok(performance.now() - startedMs < 3_000, `${Math.round(performance.now() - startedMs)} ms`);
  });
});
