// Records what docs/cli.md shows, as root: `npx tsx test/repo/record-cli.ts`, then `npm run docs`. To be done again
// when
// /status has other keys; docs.test.ts says so.
//
// Three hosts with an etcd; the third has lost its daemon. One lease is of another backend, one key is no lease.

import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { joinHost, startEtcd, ETCD_PREFIX, etcdctl } from '../support/etcd-hosts.js';
import { Lab, PROJECT_ROOT, waitFor } from '../support/lab.js';
import type { PeerStatus, StatusDocument } from '../../src/ops/status.js';
import { RECORDED, type Recorded } from './cli-samples.js';

const TWILL = join(PROJECT_ROOT, 'dist/cli/main.js');

const lab = Lab.open('record-');
try {
  const etcd = await startEtcd(lab, { Network: '10.5.0.0/16', Backend: { Type: 'udp' } });
  const put = (key: string, value: string): Promise<string> =>
    etcdctl(lab, etcd, ['put', `${ETCD_PREFIX}/subnets/${key}`, value]);
  await put('10.5.7.0-24', '{"PublicIP":"172.20.0.7","BackendType":"host-gw"}');
  await put('10.5.8.0-24', '{"PublicIP":"172.20.0.8"');
  const joined = [];
  for (const index of [1, 2, 3]) {
    // A reservation, so that each has the subnet of its number.
    await put(`10.5.${index}.0-24`, `{"PublicIP":"172.20.0.${index}"}`);
    joined.push(await joinHost(lab, index));
  }
  const [{ host: a }, { host: b }, c] = joined;
  const socket = join(lab.dir, `${a.ns}.sock`);
  const status = async (): Promise<StatusDocument> => {
    // Of the daemon's own words, which --json spells otherwise.
    const { stdout } = await lab.run(a.ns, 'curl', ['-s', '--unix-socket', socket, 'http://twilld/status']);
    return JSON.parse(stdout) as StatusDocument;
  };
  const peer = async (number: number): Promise<PeerStatus | undefined> =>
    (await status()).peers.find(({ subnet }) => subnet === `10.5.${number}.0/24`);
  const stateOf = async (number: number): Promise<string | undefined> =>
    (await peer(number))?.reachability.state;
  await waitFor(
    async () => (await stateOf(2)) === 'ok' && (await stateOf(3)) === 'ok',
    'the peers to be reached',
    30_000,
  );
  await lab.end(c.daemon, 'SIGKILL');
  await waitFor(async () => (await stateOf(3)) === 'silent since', 'the third to be missed', 60_000);
  await lab.run(a.containerNs, 'ping', ['-c3', '-i0.05', '-W1', '10.5.77.1'], { mustSucceed: false });
  const traffic = lab.spawn(a.containerNs, 'ping', ['-i0.005', '-q', b.containerIp]);
  await waitFor(async () => ((await peer(2))?.packetsIn ?? 0) > 200, 'traffic');
  const before = await status();
  const beforeMs = performance.now();
  await new Promise((resolve) => setTimeout(resolve, 1000));
  const after = await status();
  const nowMs = Date.now();
  const seconds = (performance.now() - beforeMs) / 1000;
  await lab.end(traffic);
  const settings = [`--subnet-file=${join(a.dir, 'subnet.env')}`];
  const doctor = [TWILL, 'doctor', '--json', '--', ...settings];
  const { stdout } = await lab.run(a.ns, process.execPath, doctor, { mustSucceed: false });
  const recorded: Recorded = {
    ...{ nowMs, before, after, seconds },
    findings: JSON.parse(stdout) as Recorded['findings'],
  };
  const path = fileURLToPath(RECORDED);
  mkdirSync(dirname(path), { recursive: true });
  // Where the lab's files were says nothing; where they are on a host does.
  writeFileSync(path, `${JSON.stringify(recorded, null, 1).replaceAll(a.dir, '/run/flannel')}\n`);
} finally {
  await lab.close();
}
