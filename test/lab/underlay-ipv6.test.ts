// Which IPv6 addresses of a real interface are chosen, as the kernel shows them. The picture is in kernel-lab.ts; eth0
// of h1 has fd00:99::1 and 192.0.2.1, and default routes of both families.

import t from 'tap';
import { Driver, LAB_SKIP, NETWORKS, waitFor, withLab } from '../support/kernel-lab.js';

const DUAL = NETWORKS[2];
const V6 = NETWORKS[1].network;

t.test('IPv6 addresses that come, go and are changed are not chosen', { skip: LAB_SKIP }, (t) =>
  withLab(async (lab) => {
    const driver = new Driver(lab, 'h1');
    const chosen = (network = V6) => driver.call<string>('choose', { network });
    const eth0 = (words: string) => lab.sh('h1', `ip addr ${words} dev eth0`);
    t.equal(await chosen(), 'eth0 fd00:99::1');
    t.equal(await chosen(DUAL.network), 'eth0 192.0.2.1 and fd00:99::1');

    await eth0('add fd00:99::8/64 preferred_lft 0');
    await lab.sh('h1', 'sysctl -qw net.ipv6.conf.eth0.use_tempaddr=2');
    await eth0('add fd00:99:0:1::8/64 mngtmpaddr');
    await waitFor('a temporary address', async () => (await eth0('show')).includes('temporary'));
    await eth0('del fd00:99::1/64');
    t.equal(await chosen(), 'eth0 fd00:99:0:1::8', 'the stable address, none of those beside it');
    await eth0('del fd00:99:0:1::8/64');
    await t.rejects(chosen(), /fe80::\S+ is link-local/);
    await t.rejects(chosen(DUAL.network), /fd00:99::8 is deprecated/, 'IPv4 alone will not do');

    // The kernel asks for a second whether somebody else has it.
    await lab.sh('h1', 'sysctl -qw net.ipv6.conf.eth0.accept_dad=1');
    await eth0('add fd00:99::7/64');
    t.match(await eth0('show'), /fd00:99::7\/64 scope global tentative/);
    t.equal(await chosen(), 'eth0 fd00:99::7', 'waited for');
    await eth0('del fd00:99::7/64');
    await eth0('add fd00:99::2/64');
    await waitFor('the other host', async () => (await eth0('show')).includes('dadfailed'));
    await t.rejects(chosen(), /fd00:99::2 is another host’s as well/, 'h2 has it');

    await lab.sh('h1', 'sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1');
    await t.rejects(chosen(), /No default route: .*eth0 \[\] \(disable_ipv6 is 1\)/);
    await t.rejects(
      chosen(DUAL.network),
      /eth0 has no usable IPv6 address \(net\.ipv6\.conf\.eth0\.disable_ipv6 is 1/,
    );
    await driver.close();
  }, DUAL),
);
