// Reverse path filtering: what admission and guard let in, the kernel must not throw away behind their back.
//
// The underlay is the route to a host's public IP, the overlay the way on which packets with that source may come: the
// answer of a service in a host's own network, and what a host sends to containers from its public IP.
//
//   container 1 ── echo request to 172.20.0.2, by the underlay ──► host 2
//   container 1 ◄── echo reply, inner source 172.20.0.2, by the overlay ── host 2
//
// Distributions set net.ipv4.conf.default.rp_filter to 1 (RHEL) or 2 (systemd); the strict one is in force here, for
// all devices and for new ones, before a daemon starts. The uplink is loose in the tunnel modes, as it must be for the
// first half of that way with any overlay.

import { join } from 'node:path';
import t from 'tap';
import { type Host, Lab, labUnavailable, waitFor } from '../support/lab.js';
import { countIn, metricsOf, startDaemon, statusOf, tableOf, writeTable } from '../support/twill-hosts.js';

const skip = labUnavailable();

const sysctl = (lab: Lab, host: Host, ...settings: string[]) =>
  lab.run(host.ns, 'sysctl', ['-qw', ...settings.map((setting) => `net.ipv4.conf.${setting}`)]);

/** Echo replies out of three. */
async function answers(lab: Lab, ns: string, ...words: string[]): Promise<number> {
  const args = ['-n', '-q', '-c3', '-i0.1', '-W1', ...words];
  const { stdout } = await lab.run(ns, 'ping', args, { mustSucceed: false });
  return Number(/(\d+) received/.exec(stdout)?.[1]);
}

async function kernelDrops(lab: Lab, host: Host): Promise<number> {
  return countIn(await metricsOf(lab, host), 'kernel_reverse_path_drops_total');
}

t.jobs = 3; // they only wait

for (const { type, device, uplinkFilter } of [
  { type: 'udp', device: 'flannel0', uplinkFilter: 2 },
  { type: 'vxlan', device: 'flannel.1', uplinkFilter: 2 },
  { type: 'host-gw', device: undefined, uplinkFilter: 1 },
]) {
  t.test(`${type}: packets from a host’s public IP arrive at rp_filter=1`, { skip }, async (t) => {
    const lab = Lab.open(`rp-${type}-`);
    t.teardown(() => lab.close());
    const hosts = [1, 2].map((index) => lab.addHost(index));
    const staticFile = join(lab.dir, 'static.json');
    writeTable(staticFile, tableOf(hosts, { Type: type }));
    for (const host of hosts) {
      await sysctl(lab, host, 'all.rp_filter=1', 'default.rp_filter=1', `eth0.rp_filter=${uplinkFilter}`);
    }
    await Promise.all(hosts.map((host) => startDaemon(lab, host, staticFile)));
    const ways = [hosts, [...hosts].reverse()] as [Host, Host][];
    for (const [from, to] of ways) {
      const reaches = async (): Promise<boolean> =>
        (await answers(lab, from.containerNs, '-c1', to.containerIp)) > 0;
      await waitFor(reaches, 'the overlay');
    }
    // While hosts start, a peer's probe may come before the route to it: to the filter it has no way back.
    const before = new Map<Host, number>();
    for (const host of hosts) before.set(host, await kernelDrops(lab, host));
    const dropped = async (host: Host): Promise<number> => (await kernelDrops(lab, host)) - before.get(host)!;
    for (const [from, to] of ways) {
      t.equal(await answers(lab, from.containerNs, to.underlayIp), 3, 'a service in a host’s own network');
      t.equal(await answers(lab, from.ns, '-I', from.underlayIp, to.containerIp), 3, 'sent from a public IP');
      t.strictSame((await statusOf(lab, from)).degraded, []);
    }
    for (const host of hosts) t.equal(await dropped(host), 0);
    if (device === undefined) return;

    const [a, b] = hosts;
    await t.test('the setting is repaired', async (t) => {
      const setting = `${device.replace('.', '/')}.rp_filter`; // a slash in sysctl(8) for the point in a name
      await sysctl(lab, a, `${setting}=1`);
      const filter = async (): Promise<string> =>
        (await lab.run(a.ns, 'sysctl', ['-n', `net.ipv4.conf.${setting}`])).stdout.trim();
      await waitFor(async () => (await filter()) === '2', 'repair', 15_000);
      t.equal(await answers(lab, a.containerNs, b.underlayIp), 3);
    });

    await t.test('what the uplink’s filter discards is counted', async (t) => {
      await sysctl(lab, b, 'eth0.rp_filter=1');
      t.equal(await answers(lab, a.containerNs, b.underlayIp), 0);
      t.equal(await dropped(b), 3);
    });
  });
}
