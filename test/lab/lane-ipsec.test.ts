// A host that has IPsec policies has no kernel lane: what it sends and takes would pass by them. The policies here
// refuse the datagrams of the overlay, so that whatever comes through has passed by.
//
//   container a (10.5.1.2) ─ twilld ═══ UDP 8285, refused by policy ═══ twilld ─ container b (10.5.2.2)

import t, { type Test } from 'tap';
import { type Host, Lab, labUnavailable, waitFor } from '../support/lab.js';
import { startCluster, startDaemon, statusOf, waitForLane } from '../support/twill-hosts.js';

const skip = labUnavailable();

/** Refuses the datagrams between two hosts, in a direction as the first of them sees it. */
function refuse(lab: Lab, here: Host, there: Host, direction: 'in' | 'out'): void {
  const [from, to] = direction === 'out' ? [here, there] : [there, here];
  const selector = `src ${from.underlayIp}/32 dst ${to.underlayIp}/32 proto udp dport 8285`;
  lab.ip(here.ns, `xfrm policy add ${selector} dir ${direction} action block`);
}

async function answers(lab: Lab, from: Host, to: Host): Promise<number> {
  const words = ['-q', '-c', '5', '-i', '0.1', '-W', '1', to.containerIp];
  const { stdout } = await lab.run(from.containerNs, 'ping', words, { mustSucceed: false });
  return Number(/(\d+) received/.exec(stdout)?.[1]);
}

async function becomes(lab: Lab, host: Host, mode: string): Promise<void> {
  const isMode = async (): Promise<boolean> => (await statusOf(lab, host)).backend.lane.mode === mode;
  await waitFor(isMode, `the lane of host ${host.index} to be ${mode}`, 20_000);
}

t.jobs = 2; // they mostly wait
for (const direction of ['out', 'in'] as const) {
  t.test(`policies that refuse datagrams, ${direction}`, { skip }, (t) => checkDirection(t, direction));
}

async function checkDirection(t: Test, direction: 'in' | 'out'): Promise<void> {
  const lab = Lab.open(`ipsec-${direction[0]}-`);
  t.teardown(() => lab.close());
  const { hosts, daemons, staticFile } = await startCluster(lab, 2, ['--lane=all']);
  const [a, b] = hosts;
  if ((await statusOf(lab, a)).backend.lane.mode === 'off') return t.comment('this kernel has no lane');
  await waitForLane(lab, hosts);
  t.equal(await answers(lab, b, a), 5);
  refuse(lab, a, b, direction);
  // While the data path is opened anew, it is off without a word.
  const isTold = async () => /IPsec/.test((await statusOf(lab, a)).backend.lane.why ?? '');
  await waitFor(isTold, 'the lane to be off', 20_000);
  t.equal(await answers(lab, b, a), 0, 'a policy that comes while the lane is there');

  await lab.end(daemons[0]);
  await startDaemon(lab, a, staticFile, ['--lane=all']);
  t.equal(await answers(lab, b, a), 0, 'a daemon that finds it');

  lab.ip(a.ns, 'xfrm policy flush');
  await becomes(lab, a, 'all');
  await waitFor(async () => (await answers(lab, b, a)) === 5, 'echoes when it is gone');
}
