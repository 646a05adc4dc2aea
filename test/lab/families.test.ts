// The kernel modes in networks of IPv4, of IPv6 and of both: one description, run three times. The picture is in
// kernel-lab.ts; what only one family has is in vxlan.test.ts and host-gw.test.ts.

import t from 'tap';
import type { FamilyName } from '../../src/net/dual.js';
import {
  hostAddress,
  introduce,
  type KernelLab,
  LAB_SKIP,
  NETWORKS,
  podAddress,
  startLabNode,
  waitFor,
  withLab,
} from '../support/kernel-lab.js';
import type { DriverState } from '../support/kernel-lab.js';

const DEVICES = { v4: 'flannel.1', v6: 'flannel-v6.1' } as const;
/** 50 and 70 bytes less than the 1500 of the underlay. */
const DEVICE_MTU = { v4: 1450, v6: 1430 } as const;
/** IP and ICMP headers before the payload of an echo. */
const ECHO_BYTES = { v4: 28, v6: 48 } as const;
const OUTER = {
  v4: /IP 192\.0\.2\.1\.\d+ > 192\.0\.2\.2\.8472: VXLAN/,
  v6: /IP6 fd00:99::1\.\d+ > fd00:99::2\.8472: VXLAN/,
};

/** What ping prints for one echo of a packet of this size that must not be fragmented. */
async function pingOf(lab: KernelLab, from: string, family: FamilyName, bytes: number): Promise<string> {
  const size = String(bytes - ECHO_BYTES[family]);
  const words = ['ping', '-n', '-c1', '-W1', '-M', 'do', '-s', size, podAddress(2, family)];
  return await lab.exec(from, ['sh', '-c', `${words.join(' ')} 2>&1 || true`]);
}

for (const network of NETWORKS) {
  const { name, families } = network;

  t.test(`vxlan, ${name}: hosts reach each other, each family over its own`, { skip: LAB_SKIP }, (t) =>
    withLab(async (lab) => {
      const nodes = await Promise.all(
        [1, 2, 3].map((number) => startLabNode(lab, number, { Type: 'vxlan' })),
      );
      await introduce(nodes);
      const podMtu = Math.min(...families.map((family) => DEVICE_MTU[family]));
      for (const family of families) {
        const capture = await lab.capture('r', 'p1', 'udp port 8472');
        await waitFor('pings', async () => {
          const answers = await Promise.all([2, 3].map((host) => lab.ping('c1', podAddress(host, family))));
          return answers.every((isThere) => isThere);
        });
        await waitFor('capture', () => Promise.resolve(OUTER[family].test(capture.text())));
        capture.end();
        t.ok(await lab.transfer('c1', 'c3', podAddress(3, family)), `${family}: a file arrives unchanged`);
        const link = await lab.sh('h1', `ip -o link show dev ${DEVICES[family]}`);
        t.match(link, `mtu ${DEVICE_MTU[family]} `, family);
        t.match(await pingOf(lab, 'c1', family, podMtu), ' 0% packet loss', `${family}: the largest packet`);
      }
      const others = (['v4', 'v6'] as const).filter((family) => !families.includes(family));
      for (const family of others)
        await t.rejects(lab.sh('h1', `ip link show dev ${DEVICES[family]}`), `no device of ${family}`);

      // A pod with the MTU of the underlay is told what fits.
      for (const [host, device] of [
        ['h1', 'vk'],
        ['c1', 'eth0'],
      ] as const)
        await lab.sh(host, `ip link set ${device} mtu 1500`);
      for (const family of families) {
        await pingOf(lab, 'c1', family, 1500);
        const told = await lab.sh('c1', `ip route get ${podAddress(2, family)}`);
        t.match(told, new RegExp(` mtu ${DEVICE_MTU[family]} `), `${family}: the path's MTU`);
        t.match(await pingOf(lab, 'c1', family, podMtu), ' 0% packet loss', family);
      }
      const state = await nodes[0].driver.call<DriverState>('state');
      t.strictSame(state.degraded, []);
      for (const node of nodes) await node.driver.close();
      for (const family of families)
        t.ok(await lab.ping('c1', podAddress(2, family)), 'goes on after the end');
    }, network),
  );

  t.test(`vxlan, ${name}: what is deleted by hand comes back`, { skip: LAB_SKIP }, (t) =>
    withLab(async (lab) => {
      const nodes = await Promise.all([1, 2].map((number) => startLabNode(lab, number, { Type: 'vxlan' })));
      await introduce(nodes);
      await nodes[0].driver.call('watch');
      for (const family of families) {
        const device = DEVICES[family];
        const isThere = async () => await lab.ping('c1', podAddress(2, family));
        await waitFor('the first ping', isThere);
        const of = family === 'v4' ? '-4' : '-6';
        for (const words of [
          `ip link del ${device}`,
          `ip link set ${device} down`,
          `ip ${of} route flush dev ${device} proto 94`,
          `ip neigh flush dev ${device} nud permanent`,
          `ip ${of} addr flush dev ${device} scope global`,
        ]) {
          await lab.sh('h1', words);
          await waitFor(words, isThere);
          await waitFor('the address', async () =>
            (await lab.sh('h1', `ip -o ${of} addr show dev ${device}`)).includes(
              family === 'v4' ? ' 10.5.1.0/32 ' : ' fd00:5:0:1::/128 ',
            ),
          );
        }
      }
      if (families.includes('v6')) {
        await lab.sh('h1', 'sysctl -qw net.ipv6.conf.flannel-v6/1.disable_ipv6=1');
        await lab.sh('h1', 'ip link set flannel-v6.1 down'); // a setting makes no event
        await waitFor('IPv6 on the device', () => lab.ping('c1', podAddress(2, 'v6')));
        const read = 'sysctl -n net.ipv6.conf.flannel-v6/1.disable_ipv6 net.ipv6.conf.flannel-v6/1.accept_ra';
        t.equal(await lab.sh('h1', read), '0\n0\n');
        // That of the uplink is the operator's.
        t.equal(await lab.sh('h1', 'sysctl -n net.ipv6.conf.eth0.accept_ra'), '1\n');
      }
      await nodes[0].driver.kill();
      for (const family of families)
        t.ok(await lab.ping('c1', podAddress(2, family)), 'goes on after SIGKILL');
      await nodes[1].driver.close();
    }, network),
  );

  t.test(`vxlan, ${name}: who has no lease is refused, and nothing is left behind`, { skip: LAB_SKIP }, (t) =>
    withLab(async (lab) => {
      const nodes = await Promise.all([1, 2].map((number) => startLabNode(lab, number, { Type: 'vxlan' })));
      const [first, second] = nodes;
      await first.driver.call('apply');
      await second.driver.call('apply', { added: [first.lease] });
      const refused = async () => {
        await first.driver.call('reconcile');
        const { status } = await first.driver.call<DriverState>('state');
        return (status as { refusedDatagrams: number }).refusedDatagrams;
      };
      for (const [index, family] of families.entries()) {
        t.notOk(await lab.ping('c2', podAddress(1, family)), family);
        t.equal(await refused(), index + 1, `${family}: counted`);
      }
      await introduce(nodes);
      for (const family of families) await waitFor('ping', () => lab.ping('c2', podAddress(1, family)));

      // In the end one family after the other, by the network that each belongs to.
      const rules = { network: network.network, subnet: first.lease.subnet, options: { hasBlackhole: true } };
      await first.driver.call('firewall', rules);
      await first.driver.call('close');
      for (const [index, cidr] of network.network.split('&').entries()) {
        const removed = await first.driver.call<string[]>('cleanup', { network: cidr });
        t.equal(removed.length, 5, removed.join('; '));
        t.match(removed.join('; '), `device ${DEVICES[families[index]]}`);
        const left = families.slice(index + 1).map((family) => DEVICES[family]);
        const links = await lab.sh('h1', 'ip -o link show type vxlan');
        t.equal(links.split('\n').filter((line) => line !== '').length, left.length);
        for (const device of left) t.match(links, device);
      }
      const objects = await lab.sh('h1', 'nft list tables');
      t.notMatch(objects, 'twill-vxlan', 'the source checks went with their devices');
      for (const tool of ['iptables-save', 'ip6tables-save'])
        t.notMatch(await lab.sh('h1', tool), 'FLANNEL', tool);
      t.strictSame(await first.driver.call('cleanup'), [], 'nothing is left');
      await second.driver.close();
    }, network),
  );

  t.test(`host-gw, ${name}: hosts on one link are gateways`, { skip: LAB_SKIP }, (t) =>
    withLab(async (lab) => {
      const nodes = await Promise.all(
        [1, 2, 3].map((number) => startLabNode(lab, number, { Type: 'host-gw' })),
      );
      await introduce(nodes);
      for (const family of families) {
        await waitFor('ping', () => lab.ping('c1', podAddress(2, family)));
        t.ok(await lab.transfer('c1', 'c2', podAddress(2, family)), `${family}: a file arrives unchanged`);
        t.match(await pingOf(lab, 'c1', family, 1500), ' 0% packet loss', `${family}: the whole MTU`);
        const of = family === 'v4' ? 'ip -4 route show proto 94' : 'ip -6 route show proto 94';
        const routes = (await lab.sh('h1', of)).trim().split('\n');
        t.equal(routes.length, 1, `${family}: none to the host behind the router`);
        t.match(routes[0], `via ${hostAddress(2, family)} dev eth0`);
      }
      const state = await nodes[0].driver.call<DriverState>('state');
      t.equal(state.degraded.length, families.length);
      for (const text of state.degraded) t.match(text, /cannot be a gateway: .* is behind router/);
      for (const node of nodes) await node.driver.close();
    }, network),
  );
}
