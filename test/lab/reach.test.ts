// Whether a peer is said to be reached exactly when packets through the overlay reach it: three hosts on one switch,
// and a lease of a fourth that never was (172.20.0.77). See test/support/lab.ts.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { type Host, Lab, labUnavailable, PROJECT_ROOT, waitFor } from '../support/lab.js';
import {
  countIn,
  HEALTH_PORT,
  metricsOf,
  startDaemon,
  statusOf,
  tableOf,
  writeTable,
} from '../support/twill-hosts.js';
import { printedStatus, type Schema, violations } from '../support/json-schema.js';

const skip = labUnavailable();
const TWILL = join(PROJECT_ROOT, 'dist/cli/main.js');
const SCHEMA = JSON.parse(readFileSync(join(PROJECT_ROOT, 'docs/status.schema.json'), 'utf8')) as Schema;

interface Reachability {
  readonly state: string;
  readonly since?: string;
  readonly lastHeard?: string;
  readonly rttMs?: number;
  readonly reason?: string;
}

async function reachOf(lab: Lab, from: Host, subnet: string): Promise<Reachability> {
  const peer = (await statusOf(lab, from)).peers.find((each) => each['subnet'] === subnet);
  return peer?.['reachability'] ?? { state: 'absent' };
}

async function becomes(
  lab: Lab,
  from: Host,
  subnet: string,
  state: string,
  ms = 10_000,
): Promise<Reachability> {
  let found: Reachability | undefined;
  await waitFor(
    async () => (found = await reachOf(lab, from, subnet)).state === state,
    `${subnet} to be ${state}`,
    ms,
  );
  return found!;
}

const MODES: readonly Readonly<Record<string, unknown>>[] = [
  { Type: 'udp' },
  { Type: 'vxlan' },
  { Type: 'vxlan', DirectRouting: true },
  { Type: 'host-gw' },
];

t.jobs = MODES.length; // they only wait

for (const [index, backend] of MODES.entries()) {
  t.test(`who is reached: ${JSON.stringify(backend)}`, { skip }, async (t) => {
    const lab = Lab.open(`reach-${index}-`);
    t.teardown(() => lab.close());
    const hosts = [1, 2, 3].map((index) => lab.addHost(index));
    const [a, b, c] = hosts;
    const staticFile = join(lab.dir, 'static.json');
    const table = tableOf(hosts, backend);
    const ghost = { subnet: '10.5.77.0/24', publicIP: '172.20.0.77' };
    writeTable(staticFile, { ...table, leases: [...table.leases, ghost] });
    // A rule of INPUT does not see what the kernel lane takes.
    const daemons = await Promise.all(
      hosts.map((host) => startDaemon(lab, host, staticFile, ['--lane=off'])),
    );
    const isUdp = backend['Type'] === 'udp';

    await t.test('those that are there, and one that never was', async (t) => {
      for (const peer of [b, c]) {
        const { rttMs, lastHeard } = await becomes(lab, a, peer.subnet, 'ok');
        t.ok(rttMs! > 0 && rttMs! < 5_000, `round trip ${rttMs} ms`); // a later answer counts for nothing
        t.ok(Date.now() - Date.parse(lastHeard!) < 10_000);
      }
      const never = await becomes(lab, a, ghost.subnet, 'never heard');
      t.ok(Date.parse(never.since!) <= Date.now());
      const isGone = async () =>
        /its host is not there/.test((await reachOf(lab, a, ghost.subnet)).reason ?? '');
      await waitFor(isGone, 'the kernel to find nobody with that address', 15_000);
      const metrics = await metricsOf(lab, a);
      t.equal(countIn(metrics, 'peers_reachability{state="ok"}'), 2);
      t.equal(countIn(metrics, 'peers_reachability{state="never heard"}'), 1);
      t.equal(countIn(metrics, 'peer_reachable{peer="172.20.0.77",subnet="10.5.77.0/24"}'), 0);
      const readyz = await lab.get(a.ns, `http://127.0.0.1:${HEALTH_PORT}/readyz`);
      t.match(readyz, { status: 200, body: /warning peer peer-unreachable .*10\.5\.77\.0\/24/ });
    });

    await t.test('what /status and the commands say is as the schema says', async (t) => {
      const twill = async (command: string): Promise<unknown> => {
        const { stdout } = await lab.run(a.ns, process.execPath, [TWILL, command, '--json']);
        return JSON.parse(stdout);
      };
      t.same(violations(await statusOf(lab, a), SCHEMA, SCHEMA), []);
      t.same(violations(await twill('status'), printedStatus(SCHEMA), SCHEMA), []);
      t.same(violations(await twill('peers'), { type: 'array', items: SCHEMA.$defs!['peer'] }, SCHEMA), []);
    });

    await t.test('a daemon that is killed', async () => {
      await lab.end(daemons[2], 'SIGKILL');
      if (isUdp) await becomes(lab, a, c.subnet, 'silent since');
      // The kernel carries the packets on.
      else await becomes(lab, a, c.subnet, 'ok');
    });

    const port = isUdp ? 8285 : 8472;
    const isOverUdp = backend['Type'] !== 'host-gw' && backend['DirectRouting'] !== true;
    await t.test('the UDP port blocked at the peer', { skip: !isOverUdp }, async (t) => {
      const chain = `chain in {\ntype filter hook input priority -300; udp dport ${port} drop\n}`;
      const rules = `table inet wall {\n${chain}\n}\n`;
      await lab.run(b.ns, 'nft', ['-f', '-'], { input: rules });
      await waitFor(async () => (await reachOf(lab, a, b.subnet)).state !== 'ok', 'not ok', 10_000);
      const peer = (await statusOf(lab, a)).peers.find((each) => each['subnet'] === b.subnet)!;
      t.ok((peer['path'] as { rttMs: number }).rttMs > 0, 'its public IP answers all the same');
      if (isUdp) {
        const { reason } = await becomes(lab, a, b.subnet, 'unreachable', 20_000);
        t.match(reason, /its packets arrive/);
      }
      await lab.run(b.ns, 'nft', ['delete', 'table', 'inet', 'wall']);
      await becomes(lab, a, b.subnet, 'ok');
    });

    await t.test('the cable out', async () => {
      lab.ip(b.ns, 'link set eth0 down');
      await waitFor(
        async () => !['ok', 'unknown'].includes((await reachOf(lab, a, b.subnet)).state),
        'not ok',
        12_000,
      );
    });
  });
}

t.test('without probes it is unknown, and says why', { skip }, async (t) => {
  const lab = Lab.open('reach-');
  t.teardown(() => lab.close());
  const hosts = [1, 2].map((index) => lab.addHost(index));
  const staticFile = join(lab.dir, 'static.json');
  writeTable(staticFile, tableOf(hosts));
  await startDaemon(lab, hosts[0], staticFile, ['--path-probes=false']);
  const reachability = await becomes(lab, hosts[0], hosts[1].subnet, 'unknown');
  t.match(reachability.reason, /switched off/);
});
