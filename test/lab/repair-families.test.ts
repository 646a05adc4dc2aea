// What an operator or another program does to a host of the udp mode whose network has IPv6, alone or beside IPv4, and
// how it comes back; in the end nothing is left. The picture is in ways.ts, faults of IPv4 are in repair.test.ts.

import { join } from 'node:path';
import t from 'tap';
import { type Host, type Lab, labUnavailable, PROJECT_ROOT, waitFor } from '../support/lab.js';
import { HEALTH_PORT } from '../support/twill-hosts.js';
import { openHosts, ping, WAYS } from '../support/ways.js';

const OF_FAMILY = {
  v4: { of: '-4', route: '10.5.0.0/16', address: / 10\.5\.1\.0\/32 / },
  v6: { of: '-6', route: 'fd00:5::/48', address: / fd00:5:0:1::\/128 / },
} as const;

const LINK_LOCAL = 'it makes a link-local address';
/** Put there by hand: it stays, whatever the kernel has made beside it. */
const FOREIGN = 'fe80::7/64';

const isReady = async (lab: Lab, { ns }: Host): Promise<boolean> =>
  (await lab.get(ns, `http://127.0.0.1:${HEALTH_PORT}/readyz`)).status === 200;

for (const way of WAYS.filter(({ name }) => name === 'v6' || name === 'dual over v4')) {
  t.test(`udp, ${way.name}: a host repairs itself`, { skip: labUnavailable() }, async (t) => {
    const { lab, hosts, daemons } = await openHosts(t, way, `rf${way.inner.length}-`);
    const [a] = hosts;
    const mtuBytes = way.outer === 'v4' ? 1472 : 1452;
    const settings = ['-qw', 'net.ipv6.conf.flannel0.disable_ipv6=1'];
    const faults: readonly (readonly [what: string, fault: () => unknown])[] = [
      ['the TUN is deleted', () => lab.ip(a.ns, 'link delete flannel0')],
      ['the TUN is taken down', () => lab.ip(a.ns, 'link set flannel0 down')],
      // The kernel takes IPv6 with its addresses and routes off a device that is narrower than 1,280.
      ['its MTU is less than IPv6 needs', () => lab.ip(a.ns, 'link set flannel0 mtu 1000')],
      [
        LINK_LOCAL,
        () => {
          lab.ip(a.ns, `address add ${FOREIGN} dev flannel0`);
          return lab.run(a.ns, 'sysctl', ['-qw', 'net.ipv6.conf.flannel0.addr_gen_mode=0']);
        },
      ],
      ['IPv6 is switched off on it', () => lab.run(a.ns, 'sysctl', settings)],
      ...way.inner.flatMap((family) => {
        const { of, route } = OF_FAMILY[family];
        return [
          [`its address of ${family} is removed`, () => lab.ip(a.ns, `${of} address flush dev flannel0`)],
          [`the route of ${family} is deleted`, () => lab.ip(a.ns, `${of} route delete ${route}`)],
        ] as const;
      }),
    ];
    for (const [what, fault] of faults)
      await t.test(what, async (t) => {
        await fault();
        for (const family of way.inner) {
          const { of, route, address } = OF_FAMILY[family];
          const reaches = async () => / 1 received/.test(await ping(lab, a, family, 84));
          await waitFor(reaches, `${family}: the containers to reach each other again`, 5_000);
          const isWhole = () =>
            address.test(lab.ip(a.ns, `-o ${of} address show dev flannel0`)) &&
            lab.ip(a.ns, `${of} route show dev flannel0`).includes(route);
          await waitFor(isWhole, `${family}: address and route`, 5_000);
        }
        await waitFor(
          () => lab.ip(a.ns, 'link show flannel0').includes(`mtu ${mtuBytes} `),
          'the MTU',
          5_000,
        );
        const linkLocal = () => lab.ip(a.ns, '-6 address show dev flannel0').match(/fe80\S+/g) ?? [];
        await waitFor(() => linkLocal().every((one) => one === FOREIGN), 'none that the kernel made', 5_000);
        if (what === LINK_LOCAL) t.same(linkLocal(), [FOREIGN], 'that of somebody else stays');
        await waitFor(() => isReady(lab, a), 'readiness');
      });

    await t.test('cleanup leaves nothing of either family', async (t) => {
      await lab.end(daemons[0]);
      const cleanup = [join(PROJECT_ROOT, 'dist/cli/main.js'), 'cleanup'];
      const { stdout } = await lab.run(a.ns, process.execPath, cleanup);
      t.match(stdout, 'device flannel0');
      t.notMatch(lab.ip(a.ns, 'link show'), 'flannel');
      for (const family of way.inner)
        t.notMatch(lab.ip(a.ns, `${OF_FAMILY[family].of} route show table all`), 'proto 94', family);
      for (const tool of ['iptables-save', 'ip6tables-save'])
        t.notMatch((await lab.run(a.ns, tool, [])).stdout, 'FLANNEL', tool);
      t.match((await lab.run(a.ns, process.execPath, cleanup)).stdout, 'nothing of ours is left');
    });
  });
}
