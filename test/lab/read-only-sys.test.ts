// A container that is not privileged has /proc/sys read-only: the daemon says what it cannot set, and forwards.

import t from 'tap';
import { Lab, labUnavailable } from '../support/lab.js';
import { daemonArguments, statusOf, tableOf, writeTable } from '../support/twill-hosts.js';

t.test('/proc/sys is read-only', { skip: labUnavailable() }, async (t) => {
  const lab = Lab.open('ro-');
  t.teardown(() => lab.close());
  const hosts = [lab.addHost(1), lab.addHost(2)];
  const file = `${lab.dir}/static.json`;
  writeTable(file, tableOf(hosts));
  const logs: string[] = [];
  for (const host of hosts) {
    const script = 'mount -o bind,ro /proc/sys /proc/sys && exec "$@"';
    const command = ['-m', 'sh', '-c', script, 'sh', process.execPath, ...daemonArguments(host, file)];
    const daemon = await lab.spawnUntil(host.ns, 'unshare', command, /ready after/);
    logs.push(daemon.log());
  }
  for (const log of logs)
    t.match(log, /settings of flannel0 that cannot be made here settings="disable_ipv6/);
  const [a, b] = hosts;
  const ping = ['-c1', '-W2', b.containerIp];
  t.equal((await lab.run(a.containerNs, 'ping', ping, { mustSucceed: false })).code, 0);
  t.match(await statusOf(lab, a), { ready: true });
});
