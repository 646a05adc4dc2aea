// A host's address changes: while its daemon runs, while etcd is away, and while the daemon is down. The lease follows
// in place, under the same subnet, and the other hosts follow the lease.
//
//   host a (172.20.0.1 → .101 → .102 → .1) ── switch ── host b, host c, etcd

import t, { type Test } from 'tap';
import {
  addBareHost,
  connectIpv6,
  ETCD_PREFIX,
  ETCD_PROGRAMS,
  etcdctl,
  joinHost,
  type LabEtcd,
  leasedSubnet,
  restartEtcd,
  startEtcd,
  startEtcdDaemon,
} from '../support/etcd-hosts.js';
import { type Host, Lab, labUnavailable, type Task, waitFor } from '../support/lab.js';
import { ensurePackages } from '../support/packages.js';
import { HEALTH_PORT, statusOf } from '../support/twill-hosts.js';

const skip = labUnavailable();
// The uplink's address has to be gone for 5 s before another one is chosen; the rest is for a machine that is busy.
const FOLLOW_MS = 20_000;

function reaches(lab: Lab, from: Host, to: Host): Promise<boolean> {
  return lab
    .run(from.containerNs, 'ping', ['-c', '1', '-W', '1', to.containerIp], { mustSucceed: false })
    .then(({ code }) => code === 0);
}

async function isReady(lab: Lab, host: Host): Promise<boolean> {
  return (await lab.get(host.ns, `http://127.0.0.1:${HEALTH_PORT}/readyz`)).status === 200;
}

/** As a DHCP client does: the new address goes up before or after the old one goes. */
function changeAddress(lab: Lab, host: Host, from: number, to: number, order = 'after'): void {
  const add = (): string => lab.ip(host.ns, `addr add 172.20.0.${to}/24 dev eth0`);
  if (order === 'before') add(); // a second address of one prefix outlives the first by promote_secondaries only
  lab.ip(host.ns, `addr del 172.20.0.${from}/24 dev eth0`);
  if (order === 'after') add();
}

/** Keys and public IPs below the subnets directory. */
async function leases(lab: Lab, etcd: LabEtcd): Promise<Record<string, string>> {
  const lines = (await etcdctl(lab, etcd, ['get', '--prefix', `${ETCD_PREFIX}/subnets/`])).split('\n');
  const found: Record<string, string> = {};
  for (let i = 0; i + 1 < lines.length; i += 2) {
    const { PublicIP } = JSON.parse(lines[i + 1]) as { PublicIP: string };
    found[lines[i].slice(`${ETCD_PREFIX}/subnets/`.length).replace('-', '/')] = PublicIP;
  }
  return found;
}

async function followed(
  t: Test,
  { lab, etcd, hosts, index, what }: { lab: Lab; etcd: LabEtcd; hosts: Host[]; index: number; what: string },
): Promise<void> {
  const [a, ...others] = hosts;
  const publicIp = `172.20.0.${index}`;
  const startedMs = performance.now();
  await waitFor(
    async () => (await leases(lab, etcd))[a.subnet] === publicIp,
    `${what}: published`,
    FOLLOW_MS,
  );
  for (const other of others) {
    await waitFor(() => reaches(lab, other, a), `${what}: host ${other.index} follows`, FOLLOW_MS);
    t.ok(await reaches(lab, a, other), `${what}: both ways, host ${other.index}`);
  }
  t.comment(`${what}: ${Math.round(performance.now() - startedMs)} ms`);
  const all = await leases(lab, etcd);
  t.same(Object.keys(all).sort(), hosts.map(({ subnet }) => subnet).sort(), `${what}: no other lease`);
  t.equal(leasedSubnet(a), a.subnet, `${what}: subnet kept`);
  await waitFor(() => isReady(lab, a), `${what}: ready`, FOLLOW_MS);
}

const MODES = [{ Type: 'udp' }, { Type: 'vxlan' }, { Type: 'host-gw' }];
t.jobs = 2 * MODES.length; // they only wait

for (const backend of MODES) {
  t.test(`${backend.Type}: a public IP that changes`, { skip, timeout: 240_000 }, async (t) => {
    ensurePackages(ETCD_PROGRAMS);
    const lab = Lab.open(`public-ip-${backend.Type}-`);
    t.teardown(() => lab.close());
    const etcd = await startEtcd(lab, { Network: '10.5.0.0/16', Backend: backend });
    const joined = [await joinHost(lab, 1), await joinHost(lab, 2), await joinHost(lab, 3)];
    const hosts = joined.map(({ host }) => host);
    const [a, b] = hosts;
    let [{ daemon }] = joined;
    const check = (index: number, what: string): Promise<void> =>
      followed(t, { lab, etcd, hosts, index, what });
    await lab.run(a.ns, 'sysctl', ['-qw', 'net.ipv4.conf.all.promote_secondaries=1']);
    await check(1, 'before');

    changeAddress(lab, a, 1, 101, 'before');
    await check(101, 'at run time');
    t.equal(daemon.child.exitCode, null, 'the daemon goes on');

    // Published once etcd is back, by the daemon that runs.
    await lab.end(etcd.task, 'SIGKILL');
    changeAddress(lab, a, 101, 102);
    await waitFor(
      async () =>
        JSON.stringify((await statusOf(lab, a)).degraded).includes('public IP is now 172.20.0.102, but the'),
      'the fault to be shown',
      FOLLOW_MS,
    );
    t.notOk(await isReady(lab, a));
    await restartEtcd(lab, etcd);
    await check(102, 'etcd away meanwhile');

    // Over a restart: the saved table tells which key is ours.
    t.equal(await lab.end(daemon), 0);
    changeAddress(lab, a, 102, 1);
    daemon = await startEtcdDaemon(lab, a);
    await check(1, 'over a restart');

    // A virtual address that would be chosen today is not: the one of the last run is still there.
    if (backend.Type === 'udp') {
      t.equal(await lab.end(daemon), 0);
      lab.ip(a.ns, 'addr change 172.20.0.1/24 dev eth0 valid_lft 3600 preferred_lft 3600');
      lab.ip(a.ns, 'addr add 198.51.100.90/24 dev eth0');
      daemon = await startEtcdDaemon(lab, a);
      await check(1, 'beside a virtual address, over a restart');
      lab.ip(a.ns, 'addr del 198.51.100.90/24 dev eth0');
    }

    // Started from the saved table, and changed before etcd is back.
    await lab.end(etcd.task, 'SIGKILL');
    t.equal(await lab.end(daemon), 0);
    daemon = await startEtcdDaemon(lab, a);
    changeAddress(lab, a, 1, 105);
    await waitFor(
      async () => JSON.stringify((await statusOf(lab, a)).degraded).includes('public IP is now 172.20.0.105'),
      'the fault to be shown',
      FOLLOW_MS,
    );
    await restartEtcd(lab, etcd);
    await waitFor(async () => (await leases(lab, etcd))[a.subnet] === '172.20.0.105', 'published', FOLLOW_MS);
    await waitFor(() => isReady(lab, a), 'the fault to be gone with its cause', 4_000);
    changeAddress(lab, a, 105, 1);
    await check(1, 'after the saved table');

    // Twice within a moment, and back: what stands in the end is right.
    changeAddress(lab, a, 1, 103);
    changeAddress(lab, a, 103, 1);
    await check(1, 'there and back');

    // Without the saved table there is no proof: another subnet, reached at once although the old lease stands.
    t.equal(await lab.end(daemon), 0);
    await lab.run(a.ns, 'rm', [`${a.dir}/subnet.env`, `${a.dir}/subnet.env.leases`]);
    changeAddress(lab, a, 1, 104);
    await startEtcdDaemon(lab, a);
    const moved = leasedSubnet(a);
    t.not(moved, a.subnet);
    const own = moved.replace('0/24', '1');
    lab.ip(a.ns, `addr add ${own}/32 dev lo`);
    await waitFor(
      async () =>
        (await lab.run(b.containerNs, 'ping', ['-c', '1', '-W', '1', own], { mustSucceed: false })).code ===
        0,
      'the new subnet to be reached',
      FOLLOW_MS,
    );
    t.equal((await leases(lab, etcd))[a.subnet], '172.20.0.1', 'the old lease stands still');
  });
}

// The same of IPv6, alone and beside an IPv4 that stays. Host 1 leaves fd00:aa::1.
const IPV6 = { EnableIPv6: true, IPv6Network: 'fd00:5::/48' };
for (const [type, networks] of [
  ['udp', { EnableIPv4: false, ...IPV6 }],
  ['vxlan', { Network: '10.5.0.0/16', ...IPV6 }],
  ['host-gw', { EnableIPv4: false, ...IPV6 }],
] as const) {
  const isDual = 'Network' in networks;
  t.test(`${type}: an IPv6 public IP that changes`, { skip, timeout: 240_000 }, async (t) => {
    ensurePackages(ETCD_PROGRAMS);
    const lab = Lab.open(`public-ip6-${type}-`);
    t.teardown(() => lab.close());
    const etcd = await startEtcd(lab, { ...networks, Backend: { Type: type } });
    const keys = async (): Promise<Record<string, string>> => {
      const text = await etcdctl(lab, etcd, ['get', '--prefix', `${ETCD_PREFIX}/subnets/`]);
      const pairs = [...text.matchAll(/subnets\/(\S+)\n(.*)\n/g)].map(([, key, value]) => {
        const { PublicIP, PublicIPv6 } = JSON.parse(value) as Record<string, string>;
        return [key, `${PublicIP} ${PublicIPv6}`] as const;
      });
      return Object.fromEntries(pairs);
    };
    const hosts: Host[] = [];
    const addresses: string[] = [];
    const daemons: Task[] = [];
    for (const index of [1, 2]) {
      const bare = await addBareHost(lab, index);
      daemons.push(await startEtcdDaemon(lab, bare));
      hosts.push(isDual ? lab.connectContainer(bare, leasedSubnet(bare)) : bare);
      addresses.push(`${connectIpv6(lab, bare)}2`);
    }
    const [a, b] = hosts;
    const before = await keys();
    const v4 = isDual ? '172.20.0.1' : '0.0.0.0';
    const own = Object.keys(before).find((key) => before[key] === `${v4} fd00:aa::1`)!;
    const change = (from: number, to: number): void => {
      lab.ip(a.ns, `address del fd00:aa::${from}/64 dev eth0`);
      lab.ip(a.ns, `address add fd00:aa::${to}/64 dev eth0 nodad`);
    };
    const followed = async (index: number, what: string): Promise<void> => {
      const expected = { ...before, [own]: `${v4} fd00:aa::${index}` };
      const isPublished = async (): Promise<boolean> => (await keys())[own] === expected[own];
      await waitFor(isPublished, `${what}: published`, FOLLOW_MS);
      for (const [from, to] of [
        [b, addresses[0]],
        [a, addresses[1]],
      ] as const) {
        const echo = ['-c', '1', '-W', '1', to];
        const isHeard = async (): Promise<boolean> =>
          (await lab.run(from.containerNs, 'ping', echo, { mustSucceed: false })).code === 0;
        await waitFor(isHeard, `${what}: from host ${from.index}`, FOLLOW_MS);
      }
      t.same(await keys(), expected, `${what}: the same subnets`);
      await waitFor(() => isReady(lab, a), `${what}: ready`, FOLLOW_MS);
    };
    await followed(1, 'before');
    change(1, 101);
    await followed(101, 'at run time');
    t.equal(daemons[0].child.exitCode, null, 'the daemon goes on');

    // The saved table tells which key is ours: of IPv6 alone, nothing else does.
    t.equal(await lab.end(daemons[0]), 0);
    change(101, 1);
    await startEtcdDaemon(lab, a);
    await followed(1, 'over a restart');
  });
}
