// Prints what the running kernel grants to the udp mode, as one line of JSON: a daemon is started in a lab and asked.

import { Lab } from '../support/lab.js';
import { startCluster, statusOf } from '../support/twill-hosts.js';
import type { Grants } from './results.js';

const lab = Lab.open('grants-');
try {
  const { hosts } = await startCluster(lab, 1);
  const { offloads, lane } = (await statusOf(lab, hosts[0])).backend;
  const grants: Grants = { ...offloads, lane: lane.mode };
  console.log(JSON.stringify(grants));
} finally {
  await lab.close();
}
