// flannel0 taken away under traffic: renamed, moved to another network namespace, replaced, deleted again and again.
// Its file stays open and looks healthy in the first two cases.

import t from 'tap';
import { Lab, labUnavailable, waitFor } from '../support/lab.js';
import { HEALTH_PORT, startCluster } from '../support/twill-hosts.js';

t.test('the TUN is taken away', { skip: labUnavailable() }, async (t) => {
  const lab = Lab.open('lost-');
  t.teardown(() => lab.close());
  const { hosts, daemons } = await startCluster(lab, 2);
  const [a, b] = hosts;
  const other = lab.addNamespace('other');
  const ready = async (): Promise<{ status: number; body: string }> =>
    await lab.get(a.ns, `http://127.0.0.1:${HEALTH_PORT}/readyz`);
  const reaches = async (): Promise<boolean> =>
    (await lab.run(a.containerNs, 'ping', ['-c', '1', '-W', '1', b.containerIp], { mustSucceed: false }))
      .code === 0;
  const indexOf = (): string => lab.ip(a.ns, '-o link show flannel0').split(':')[0];
  const opens = (): number => daemons[0].log().split('data path open on').length;
  const losses = (): number =>
    daemons[0].log().split('flannel0 is gone: deleted, renamed or moved to another network namespace; ')
      .length;
  /** How often the device lost its reader or got one. In a flood, the log holds lines back and tells them later. */
  const readerChanges = async (): Promise<string> =>
    (await lab.run(a.ns, 'cat', ['/sys/class/net/flannel0/carrier_changes'])).stdout;

  for (const [what, command, where] of [
    ['renamed', 'link set flannel0 name x0', a.ns],
    ['renamed while down', 'link set flannel0 down name x0', a.ns],
    ['moved to another network namespace', `link set flannel0 netns ${other}`, other],
  ] as const) {
    await t.test(what, async (t) => {
      const before = indexOf();
      const opened = opens();
      const lost = losses();
      lab.ip(a.ns, command);
      // By the kernel's event; the timer would come seconds later.
      await waitFor(() => losses() > lost, 'the loss to be noticed', 3_000);
      await waitFor(() => opens() > opened, 'the data path to be opened again');
      await waitFor(reaches, 'the containers to reach each other again');
      t.not(indexOf(), before, 'a new device');
      t.notMatch(lab.ip(where, 'link show'), new RegExp(`^${before}: `, 'm'), 'the old one is gone');
      t.match(lab.ip(a.ns, 'route show'), /10\.5\.0\.0\/16 dev flannel0/);
      await waitFor(async () => (await ready()).status === 200, 'readiness');
      t.equal(opens(), opened + 1, 'once');
    });
  }

  await t.test('renamed, and its name is taken by another kind of device', async (t) => {
    const steal = 'ip link set flannel0 name x0 && ip link add flannel0 type veth peer name y0';
    await lab.run(a.ns, 'sh', ['-c', steal]);
    await waitFor(async () => (await ready()).status === 503, 'the truth about it');
    await waitFor(async () => (await ready()).body.includes('is no TUN device'), 'the reason');
    t.match(lab.ip(a.ns, '-d link show flannel0'), /veth/, 'what is not ours stays');
    lab.ip(a.ns, 'link delete flannel0');
    await waitFor(reaches, 'traffic');
    await waitFor(async () => (await ready()).status === 200, 'readiness');
    t.match(lab.ip(a.ns, '-d link show flannel0'), /tun/);
  });

  await t.test('deleted again and again, while it is being opened', async (t) => {
    for (let i = 0; i < 40; i++) {
      await lab.run(a.ns, 'ip', ['link', 'delete', 'flannel0'], { mustSucceed: false });
      await new Promise((resolve) => setTimeout(resolve, 7 * (i % 13)));
    }
    await waitFor(reaches, 'traffic', 10_000);
    await waitFor(async () => (await ready()).status === 200, 'readiness', 5_000);
    const index = indexOf();
    const changes = await readerChanges();
    const { stdout } = await lab.run(a.containerNs, 'ping', ['-c', '40', '-i', '0.05', b.containerIp]);
    t.match(stdout, / 0% packet loss/);
    t.equal(indexOf(), index, 'the same device');
    t.equal(await readerChanges(), changes, 'a failure of an earlier data path leaves the good one alone');
  });
});
