// What a container is told when its packet cannot go on: by tracepath, by ping, and by the MTU its kernel then keeps.
// The same of IPv6; what a narrow path is told in it is in narrow-path.test.ts.

import t, { type Test } from 'tap';
import type { LaneChoice } from '../../src/config/options.js';
import { Lab, labUnavailable, waitFor } from '../support/lab.js';
import { measureTcp, startIperfServer } from '../support/measure.js';
import { startCluster, statusOf, waitForLane } from '../support/twill-hosts.js';
import { containerAddress, openHosts, WAYS } from '../support/ways.js';

const skip = labUnavailable();

for (const lane of ['off', 'all'] as const) {
  t.test(`ICMP reaches the container, --lane=${lane}`, { skip }, (t) => checkIcmp(t, lane));
}

async function checkIcmp(t: Test, lane: LaneChoice): Promise<void> {
  const lab = Lab.open(`icmp-${lane[1]}-`);
  t.teardown(() => lab.close());
  const { hosts } = await startCluster(lab, 2, [`--lane=${lane}`]);
  const [a, b] = hosts;

  await t.test('network unreachable, for a subnet nobody has', async (t) => {
    const { stdout } = await lab.run(
      a.containerNs,
      'ping',
      ['-c', '3', '-i', '0.2', '-W', '1', '10.5.77.7'],
      { mustSucceed: false },
    );
    t.match(stdout, /From 10\.5\.0\.0 icmp_seq=1 Destination Net Unreachable/);
  });

  await t.test('no more than the limit of them', async (t) => {
    await lab.run(a.containerNs, 'ping', ['-c', '200', '-i', '0.002', '-W', '1', '10.5.78.7'], {
      mustSucceed: false,
    });
    const { outbound } = (await statusOf(lab, a)).backend.counters;
    t.ok(outbound.icmp_limited > 100, `${outbound.icmp_limited} held back`);
    t.ok(outbound.icmp_sent < 60, `${outbound.icmp_sent} sent`);
  });

  await t.test('time exceeded from both ends of the tunnel, seen by tracepath', async (t) => {
    const { stdout } = await lab.run(a.containerNs, 'tracepath', ['-n', b.containerIp]);
    t.match(stdout, /10\.5\.1\.1 /, 'the own host');
    t.match(stdout, /2:\s+10\.5\.2\.0 /, 'the way into the tunnel');
    t.match(stdout, /10\.5\.2\.2 .*reached/);
    t.match(stdout, /Resume: pmtu 1472/);
  });

  await t.test('a path that became narrower: fragmentation needed, with its MTU', async (t) => {
    await waitForLane(lab, hosts);
    // As an administrator gives it: bpf_fib_lookup() does not know it, unlike one that ICMP has told or that is locked.
    lab.ip(a.ns, `route add ${b.underlayIp}/32 dev eth0 mtu 1300`);
    await startIperfServer(lab, b.containerNs);
    const { gigabitsPerSecond } = await measureTcp(lab, a.containerNs, b.containerIp, 1);
    t.ok(gigabitsPerSecond > 0.01, 'TCP goes on');
    const pathMtu = (): string => lab.ip(a.containerNs, `route get ${b.containerIp}`);
    await waitFor(() => /mtu 1272/.test(pathMtu()), 'the container to know 1300 - 28');
    t.match(pathMtu(), /mtu 1272/);
    const { stdout } = await lab.run(a.containerNs, 'tracepath', ['-n', b.containerIp]);
    t.match(stdout, /Resume: pmtu 1272/);
    const { peers, backend } = await statusOf(lab, a);
    t.equal(peers[0].mtuBytes, 1272);
    t.ok(backend.counters.outbound.drop_too_big > 0);
    const { stdout: large } = await lab.run(a.containerNs, 'ping', [
      '-M',
      'dont',
      '-c',
      '2',
      '-i',
      '0.2',
      '-s',
      '1440',
      b.containerIp,
    ]);
    t.match(large, /2 received/, 'without DF it is fragmented outside');
  });
}

t.test('ICMPv6 reaches the container', { skip }, async (t) => {
  const [, V6] = WAYS;
  const { lab, hosts } = await openHosts(t, V6, 'icmp6-');
  const [a] = hosts;
  const echo = async (...args: string[]): Promise<string> =>
    (await lab.run(a.containerNs, 'ping', ['-6', '-W', '1', ...args], { mustSucceed: false })).stdout;

  await t.test('no route, for a subnet nobody has', async (t) => {
    t.match(
      await echo('-c', '1', 'fd00:5:0:77::7'),
      /From fd00:5::\S* icmp_seq=1 Destination unreachable: No route/,
    );
  });

  await t.test('no more than the limit of them', async (t) => {
    await echo('-c', '200', '-i', '0.002', 'fd00:5:0:78::7');
    const { outbound } = (await statusOf(lab, a)).backend.counters;
    t.ok(outbound.icmp_limited > 100, `${outbound.icmp_limited} held back`);
    t.ok(outbound.icmp_sent < 60, `${outbound.icmp_sent} sent`);
  });

  await t.test('time exceeded from both ends of the tunnel, seen by tracepath', async (t) => {
    const to = containerAddress(2, 'v6');
    const { stdout } = await lab.run(a.containerNs, 'tracepath', ['-6', '-n', to]);
    t.match(stdout, /fd00:5:0:1::1 /, 'the own host');
    t.match(stdout, /2:\s+fd00:5:0:2:: /, 'the way into the tunnel');
    t.match(stdout, new RegExp(`${to} .*reached`));
    t.match(stdout, /Resume: pmtu 1452/);
  });
});
