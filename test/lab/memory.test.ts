// What a daemon takes of the machine's memory in the largest network there is, and in one that somebody has filled with
// rubbish.

import t from 'tap';
import {
  ETCD_PREFIX,
  ETCD_PROGRAMS,
  etcdctl,
  etcdDaemonArguments,
  startEtcd,
} from '../support/etcd-hosts.js';
import { Lab, labUnavailable, waitFor } from '../support/lab.js';
import {
  COLLECT,
  type Entry,
  leaseEntries,
  type Memory,
  putMany,
  settledMemory,
} from '../support/many-leases.js';
import { ensurePackages } from '../support/packages.js';
import { countIn, metricsOf } from '../support/twill-hosts.js';

const FEW = 1_000;
const MANY = 65_000;
const MAX_PEAK_BYTES = 200e6;
const MAX_PEER_BYTES = 1024;
const BAD_KEYS = 10_000;
const BAD_BYTES = 16_000;
// Each is known by the hash of its name; the rest, some 50 MB, seems to be what the list left behind. Less than half of
// what was listed, which is 160 MB.
const MAX_BAD_KEYS_BYTES = 80e6;
const CONFIG = {
  Network: '10.0.0.0/8',
  SubnetLen: 24,
  SubnetMin: '10.0.0.0',
  SubnetMax: '10.255.255.0',
  Backend: { Type: 'udp' },
};

/** Half of them have a name of that size, half a value. */
function* badEntries(): Generator<Entry> {
  const filling = 'x'.repeat(BAD_BYTES);
  for (let i = 0; i < BAD_KEYS / 2; i++) {
    yield [`subnets/x${filling}${i}`, '{}'];
    yield [`subnets/x${i}`, filling];
  }
}

t.test('memory', { skip: labUnavailable() }, async (t) => {
  ensurePackages(ETCD_PROGRAMS);
  const lab = Lab.open('mem-');
  t.teardown(() => lab.close());
  const etcd = await startEtcd(lab, CONFIG);
  let hosts = 0;

  /** What a daemon takes that starts now and knows that many peers. */
  const measure = async (peers: number): Promise<Memory> => {
    const host = lab.addHost(++hosts, { subnet: undefined });
    lab.ip(host.ns, 'route add default via 172.20.0.250'); // a way to peers that do not exist
    const task = await lab.spawnUntil(
      host.ns,
      process.execPath,
      [...COLLECT, ...etcdDaemonArguments(host)],
      /ready after/,
      60_000,
    );
    // Not /status, which would make a text of all of them.
    const isKnown = async (): Promise<boolean> => countIn(await metricsOf(lab, host), 'peers') >= peers;
    await waitFor(isKnown, 'all peers to be known', 60_000);
    const memory = await settledMemory(task);
    await lab.end(task);
    t.comment(`${peers} peers: ${memory.bytes / 1e6} MB, at most ${memory.peakBytes / 1e6} MB`);
    return memory;
  };

  await putMany(lab, etcd, leaseEntries(FEW));
  const few = await measure(FEW);

  await t.test('10,000 keys of 16 KB that are no leases', async (t) => {
    await putMany(lab, etcd, badEntries());
    const { bytes, peakBytes } = await measure(FEW);
    t.ok(bytes - few.bytes <= MAX_BAD_KEYS_BYTES, `${bytes} bytes, without them ${few.bytes}`);
    t.ok(peakBytes <= MAX_PEAK_BYTES, `${peakBytes} bytes at the peak`);
    await etcdctl(lab, etcd, ['del', '--prefix', `${ETCD_PREFIX}/subnets/x`]);
  });

  await t.test('65,000 leases', async (t) => {
    await putMany(lab, etcd, leaseEntries(MANY));
    const { bytes, peakBytes } = await measure(MANY);
    t.ok((bytes - few.bytes) / (MANY - FEW) <= MAX_PEER_BYTES, `${bytes} bytes, with ${FEW} ${few.bytes}`);
    t.ok(peakBytes <= MAX_PEAK_BYTES, `${peakBytes} bytes at the peak`);
  });
});
