// The overlay on a stand-in of the Kubernetes API server, on every machine: three hosts in each mode with pods behind
// them, and the faults that the API server and its nodes can have. test/kube runs the same on a real one.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { openStandIn } from '../support/api-server-plane.js';
import { faultSuite, KUBE_MODES, KUBE_NETWORK, KubeHosts, modeSuite } from '../support/kube-overlay.js';
import { Lab, labUnavailable } from '../support/lab.js';

const skip = labUnavailable();

for (const mode of KUBE_MODES) {
  t.test(`${mode} on a stand-in of the API server`, { skip, timeout: 240_000 }, async (t) => {
    const lab = Lab.open(`ks${mode[0]}-`);
    t.teardown(() => lab.close());
    const plane = await openStandIn(lab);
    const config = join(lab.dir, 'net-conf.json');
    writeFileSync(config, JSON.stringify({ Network: KUBE_NETWORK, Backend: { Type: mode } }));
    const hosts = new KubeHosts(lab, plane);
    const joined = await modeSuite(t, hosts, mode, config);
    if (mode === 'udp') await faultSuite(t, hosts, joined, config);
  });
}
