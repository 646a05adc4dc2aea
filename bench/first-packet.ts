// Question: how long after a lease is written to etcd does the first packet to it leave this host?
//
// A daemon, a container that sends a datagram every millisecond into a subnet nobody has, and a host that waits for it.
// Each sample writes a lease for that subnet, notes the time before the put, and the time at which the first datagram
// arrives: etcd, watch, validation, route check, table, data path and wire are all in it. Unit: ms. `--samples=N`.

import { LAB_PROGRAMS, Lab, PROJECT_ROOT, waitFor } from '../test/support/lab.js';
import { ETCD_PREFIX, ETCD_PROGRAMS, joinHost, startEtcd } from '../test/support/etcd-hosts.js';
import { formatTable } from '../test/support/measure.js';
import { ensurePackages } from '../test/support/packages.js';
import { numberOption } from './options.js';

const TARGET_MS = 50;

const SENDER = `
  const s = require('node:dgram').createSocket('udp4');
  setInterval(() => s.send('x', 9, '10.5.250.9', () => {}), 1);`;

const RECEIVER = `
  const s = require('node:dgram').createSocket('udp4');
  let last = 0;
  s.on('message', () => { const now = Date.now(); if (now - last > 200) console.log('first ' + now); last = now; });
  s.bind(8285, () => console.log('listening'));`;

const WRITER = `
  const { Etcd3 } = require('etcd3');
  const client = new Etcd3({ hosts: 'http://127.0.0.1:2379' });
  (async () => {
    const key = '${ETCD_PREFIX}/subnets/10.5.250.0-24';
    for (let i = 0; i < Number(process.argv[1]); i++) {
      await new Promise((resolve) => setTimeout(resolve, 600));
      console.log('put ' + Date.now());
      await client.put(key).value('{"PublicIP":"172.20.0.240","PublicIPv6":null}');
      await new Promise((resolve) => setTimeout(resolve, 400));
      await client.delete().key(key);
    }
    process.exit(0);
  })();`;

function times(log: string, word: string): number[] {
  return [...log.matchAll(new RegExp(`^${word} (\\d+)$`, 'gm'))].map((match) => Number(match[1]));
}

async function main(): Promise<void> {
  if (process.getuid?.() !== 0)
    throw new Error('The benchmark makes network namespaces and must run as root.');
  ensurePackages([...LAB_PROGRAMS, ...ETCD_PROGRAMS]);
  const samples = numberOption('samples', 20, 100_000);
  const lab = Lab.open('first-');
  try {
    const etcd = await startEtcd(lab, {
      Network: '10.5.0.0/16',
      SubnetMax: '10.5.200.0',
      Backend: { Type: 'udp' },
    });
    const { host } = await joinHost(lab, 1);
    const receiver = await lab.spawnUntil(
      lab.addServer('rx', 240),
      process.execPath,
      ['-e', RECEIVER],
      /listening/,
    );
    lab.spawn(host.containerNs, process.execPath, ['-e', SENDER]);
    const writer = lab.spawn(etcd.ns, process.execPath, ['-e', WRITER, String(samples)], {
      cwd: PROJECT_ROOT,
    });
    await writer.exited;
    const puts = times(writer.log(), 'put');
    await waitFor(() => times(receiver.log(), 'first').length >= puts.length, 'every lease to be used').catch(
      () => undefined,
    );
    const firsts = times(receiver.log(), 'first');
    if (puts.length !== samples || firsts.length !== samples) {
      throw new Error(`${puts.length} leases written, ${firsts.length} used:\n${writer.log()}`);
    }
    const delays = puts.map((put, i) => firsts[i] - put).sort((a, b) => a - b);
    const shown = [delays[Math.floor(samples / 2)], delays[0], delays[samples - 1], TARGET_MS].map(
      (ms) => `${ms} ms`,
    );
    console.log(
      formatTable([
        ['put → first packet', 'median', 'lowest', 'highest', 'target'],
        [`${samples} samples`, ...shown],
      ]),
    );
  } finally {
    await lab.close();
  }
}

await main();
