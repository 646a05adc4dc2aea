// Hosts whose own addresses lie inside the Network, where no subnet is leased, as in flannel's documentation.

import { join } from 'node:path';
import t from 'tap';
import { Lab, labUnavailable, waitFor } from '../support/lab.js';
import { startDaemon, statusOf, writeTable } from '../support/twill-hosts.js';

for (const mode of ['udp', 'host-gw']) {
  t.test(mode, { skip: labUnavailable() }, async (t) => {
    const lab = Lab.open(`in-${mode}-`);
    t.teardown(() => lab.close());
    const a = lab.addHost(1, { subnet: '172.21.1.0/24' });
    const b = lab.addHost(2, { subnet: '172.21.2.0/24' });
    const staticFile = join(lab.dir, 'static.json');
    const backend = { Type: mode };
    writeTable(staticFile, {
      config: {
        Network: '172.16.0.0/12',
        SubnetLen: 24,
        SubnetMin: '172.21.0.0',
        SubnetMax: '172.21.255.0',
        Backend: backend,
      },
      leases: [a, b].map((host) => ({
        subnet: host.subnet,
        publicIP: host.underlayIp,
        backendType: mode,
      })),
    });
    for (const host of [a, b]) await startDaemon(lab, host, staticFile);
    await waitFor(async () => (await statusOf(lab, a)).peers.length === 1, 'the peer');
    await waitFor(
      async () =>
        (await lab.run(a.containerNs, 'ping', ['-c', '1', '-W', '1', b.containerIp], { mustSucceed: false }))
          .code === 0,
      'the overlay',
    );
    const { stdout } = await lab.run(a.containerNs, 'ping', ['-c', '20', '-i', '0.05', b.containerIp]);
    t.match(stdout, / 0% packet loss/);
    const underlay = await lab.run(a.ns, 'ping', ['-c', '3', '-i', '0.05', b.underlayIp]);
    t.match(underlay.stdout, / 0% packet loss/, 'and the hosts reach each other as before');
  });
}
