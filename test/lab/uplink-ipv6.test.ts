// What becomes of a daemon in the udp mode whose uplink has IPv6 in other states than a plain address: switched off,
// none, still asked about, refused, about to go; at the start, and while it runs. Which address is chosen among several
// is in underlay-ipv6.test.ts.
//
//   host 1 (fd00:aa::1) ── switch ── host 2 (fd00:aa::2)

import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type Host, Lab, labUnavailable, type Task, waitFor } from '../support/lab.js';
import { daemonArguments, startDaemon, statusOf, writeTable } from '../support/twill-hosts.js';
import { addHost, ping, tableOf, WAYS } from '../support/ways.js';

const skip = labUnavailable();
const V6 = WAYS.find(({ name }) => name === 'v6')!;
const DUAL = WAYS.find(({ name }) => name === 'dual over v4')!;
const OWN = 'fd00:aa::1';

class Uplink {
  readonly lab: Lab;
  readonly host: Host;
  readonly file: string;

  constructor(lab: Lab, host: Host, hosts: readonly Host[]) {
    [this.lab, this.host, this.file] = [lab, host, join(host.dir, 'static.json')];
    writeTable(this.file, tableOf(V6, hosts));
  }

  ip(words: string): string {
    return this.lab.ip(this.host.ns, `address ${words} dev eth0`);
  }

  /** Its address, and the route of its network: that of the kernel expires with each change of a lifetime. */
  addOwn(words = ' nodad'): void {
    this.ip(`add ${OWN}/64 noprefixroute${words}`);
    this.lab.ip(this.host.ns, 'route replace fd00:aa::/64 dev eth0');
  }

  async set(key: string, value: number): Promise<void> {
    await this.lab.run(this.host.ns, 'sysctl', ['-qw', `net.ipv6.conf.eth0.${key}=${value}`]);
  }

  start(): Promise<Task> {
    return startDaemon(this.lab, this.host, this.file);
  }

  /** A start that ends with a reason. */
  async refused(t: Test, message: RegExp, file = this.file): Promise<void> {
    const startedMs = Date.now();
    const args = daemonArguments(this.host, file);
    const { code, stderr } = await this.lab.run(this.host.ns, process.execPath, args, {
      mustSucceed: false,
      timeoutMs: 20_000,
    });
    t.equal(code, 1);
    t.match(stderr, message);
    t.notMatch(stderr, /\n\s+at /, 'no stack trace');
    t.comment(`${Date.now() - startedMs} ms: ${stderr.trim().split('\n').at(-1)}`);
  }

  async chosen(): Promise<unknown> {
    return (await statusOf(this.lab, this.host)).interface?.address;
  }

  /** Conditions of a code, as /status has them. */
  async said(code: string): Promise<string[]> {
    const { conditions } = await statusOf(this.lab, this.host);
    return conditions.filter((one) => one.code === code).map(({ text }) => text);
  }
}

t.test('an uplink whose IPv6 is not plain', { skip }, async (t) => {
  const lab = Lab.open('up6-');
  t.teardown(() => lab.close());
  const hosts = [await addHost(lab, 1), await addHost(lab, 2)];
  const [a, b] = hosts;
  const uplink = new Uplink(lab, a, hosts);
  const other = new Uplink(lab, b, hosts);
  const dual = join(lab.dir, 'dual.json');
  writeTable(dual, tableOf(DUAL, hosts));

  await t.test('IPv6 is switched off', async (t) => {
    await uplink.set('disable_ipv6', 1);
    const said =
      /interface eth0 has no usable IPv6 address \(net\.ipv6\.conf\.eth0\.disable_ipv6 is 1: set it to 0\)/;
    await uplink.refused(t, said);
    await uplink.refused(t, said, dual);
    await uplink.set('disable_ipv6', 0);
  });

  await t.test('there is no address but the link’s own', async (t) => {
    await waitFor(() => uplink.ip('show').includes('fe80:'), 'the address of the link');
    const said = /interface eth0 has no usable IPv6 address \(fe80::\S+ is link-local\)/;
    await uplink.refused(t, said);
    await uplink.refused(t, said, dual);
  });

  await t.test('another host has the address', async (t) => {
    await uplink.set('accept_dad', 1);
    uplink.ip('add fd00:aa::2/64');
    await waitFor(() => uplink.ip('show').includes('dadfailed'), 'the other host to say so');
    await uplink.refused(t, /fd00:aa::2 is another host’s as well \(duplicate address detection failed\)/);
    uplink.ip('del fd00:aa::2/64');
  });

  await t.test('the kernel asks for longer than we wait', async (t) => {
    await uplink.set('dad_transmits', 30);
    uplink.ip(`add ${OWN}/64`);
    await uplink.refused(t, /fd00:aa::1 is tentative/);
    uplink.ip(`del ${OWN}/64`);
  });

  await t.test('the kernel still asks: it is waited for', async (t) => {
    await uplink.set('dad_transmits', 3);
    uplink.addOwn('');
    const starting = uplink.start();
    t.match(uplink.ip('show'), /fd00:aa::1\/64 scope global tentative/);
    const daemon = await starting;
    t.equal(await uplink.chosen(), OWN);
    t.equal(await lab.end(daemon), 0);
  });

  await t.test('addresses that come and change beside it, or with it', async (t) => {
    uplink.ip('add fd00:aa::8/64 preferred_lft 0');
    const [first] = await Promise.all([uplink.start(), other.start()]);
    const flows = async (): Promise<boolean> => (await ping(lab, b, 'v6', 84)).includes('1 received');
    await waitFor(flows, 'packets to flow');
    t.equal(await uplink.chosen(), OWN, 'not the deprecated one');
    t.strictSame((await statusOf(lab, a)).conditions, []);
    await uplink.set('use_tempaddr', 2);
    uplink.ip('add fd00:aa:0:1::8/64 mngtmpaddr nodad');
    await waitFor(() => uplink.ip('show').includes('temporary'), 'a temporary address');

    // From a router now: it will expire, and is deprecated before that.
    uplink.ip(`change ${OWN}/64 valid_lft 1000 preferred_lft 0 noprefixroute`);
    const unheard = `net.ipv6.conf.eth0.accept_ra is 1, and the host forwards: no router renews ${OWN}`;
    const says = async (text?: string): Promise<boolean> => (await uplink.said('accept-ra-off'))[0] === text;
    await waitFor(() => says(unheard), 'the address that will expire');
    t.ok((await statusOf(lab, a)).ready, 'a warning');
    await uplink.set('accept_ra', 2);
    await waitFor(() => says(), 'accept_ra to be seen');
    t.equal(await uplink.chosen(), OWN, 'a deprecated address stays');
    t.ok(await flows());
    uplink.ip(`change ${OWN}/64 valid_lft forever preferred_lft forever noprefixroute`);

    // Away for less than five seconds.
    const down = async (): Promise<string> => (await uplink.said('interface-down'))[0] ?? '';
    uplink.ip(`del ${OWN}/64`);
    await waitFor(async () => (await down()).includes(`has lost its address ${OWN}`), 'the loss to be said');
    uplink.addOwn();
    await waitFor(async () => (await down()) === '' && (await flows()), 'all to be well');
    t.equal(await uplink.chosen(), OWN);

    // Switched off under the daemon, which goes on as soon as it can.
    await uplink.set('disable_ipv6', 1);
    await waitFor(async () => (await down()).includes('eth0.disable_ipv6 is 1: set it to 0'), 'the reason');
    t.notOk((await statusOf(lab, a)).ready);
    await uplink.set('disable_ipv6', 0);
    uplink.addOwn();
    await waitFor(async () => (await down()) === '', 'the interface to be back');
    await waitFor(flows, 'packets to flow');
    t.equal(first.child.exitCode, null);
    t.ok((await statusOf(lab, a)).ready);
  });
});
