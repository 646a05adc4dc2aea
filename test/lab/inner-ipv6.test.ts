// IPv6 inside datagrams of IPv4, on real devices and sockets: the kernel's superpackets are cut, sent, merged and given
// to the other kernel, whose TCP must find every byte; and what cannot be sent is answered.
//
//   fd00:5:0:1::1 ─ flannel0 ═══ UDP 8285 over IPv4 ═══ flannel0 ─ fd00:5:0:2::1

import { join } from 'node:path';
import t from 'tap';
import { Lab, labUnavailable, PROJECT_ROOT, waitFor } from '../support/lab.js';

const HOST = join(PROJECT_ROOT, 'test/lab/ipv6-host.ts');
const MEGABYTES = 100;

const RECEIVER = `
const hash = require('node:crypto').createHash('sha256');
require('node:net').createServer((socket) => {
  socket.on('data', (data) => hash.update(data));
  socket.on('end', () => { console.log('hash ' + hash.digest('hex')); process.exit(0); });
}).listen(5201, '::', () => console.log('listening'));`;

const SENDER = `
const { createHash, randomBytes } = require('node:crypto');
const hash = createHash('sha256');
let left = ${MEGABYTES};
const socket = require('node:net').connect({ host: 'fd00:5:0:2::1', localAddress: 'fd00:5:0:1::1', port: 5201 }, () => {
  const go = () => {
    while (left-- > 0) {
      const data = randomBytes(1 << 20);
      hash.update(data);
      if (!socket.write(data)) return void socket.once('drain', go);
    }
    socket.end();
    console.log('hash ' + hash.digest('hex'));
  };
  go();
});`;

t.test('TCP, echoes of every size and ICMPv6 errors', { skip: labUnavailable() }, async (t) => {
  const lab = Lab.open('in6-');
  t.teardown(() => lab.close());
  const hosts = [lab.addHost(1), lab.addHost(2)];
  const engines = await Promise.all(
    hosts.map(({ ns, index }) =>
      lab.spawnUntil(ns, process.execPath, ['--import', 'tsx', HOST, String(index)], /ready/, 30_000),
    ),
  );
  const [{ ns }, other] = hosts;
  const ping = async (to: string, ...args: string[]): Promise<string> => {
    const all = ['-6', '-c', '2', '-i', '0.2', '-W', '2', '-I', 'fd00:5:0:1::1', ...args, to];
    return (await lab.run(ns, 'ping', all, { mustSucceed: false })).stdout;
  };
  // 1424 is 1472 without the headers of IPv6 and ICMPv6; what is larger goes in fragments.
  for (const size of ['0', '56', '1424', '1425', '9000'])
    t.match(await ping('fd00:5:0:2::1', '-s', size), /2 received/, `echo of ${size} bytes`);
  t.match(await ping('fd00:5:0:7::1'), /From fd00:5::.* Destination unreachable: No route/);

  const receiver = await lab.spawnUntil(other.ns, process.execPath, ['-e', RECEIVER], /listening/);
  const sender = lab.spawn(ns, process.execPath, ['-e', SENDER]);
  t.equal(await receiver.exited, 0);
  t.equal(await sender.exited, 0);
  const hashOf = (log: string): string | undefined => /hash (\w+)/.exec(log)?.[1];
  t.ok(hashOf(sender.log()));
  t.equal(hashOf(receiver.log()), hashOf(sender.log()), `${MEGABYTES} MiB`);

  for (const { child } of engines) child.kill('SIGTERM');
  await waitFor(() => engines.every((engine) => engine.log().includes('outbound')), 'the counters');
  const [first, second] = engines.map(
    (engine) => JSON.parse(engine.log().split('\n')[1]) as Record<string, Record<string, number>>,
  );
  t.ok(first.outbound.trains > 100, `${first.outbound.trains} trains`);
  t.ok(second.inbound.superpackets > 100, `${second.inbound.superpackets} superpackets`);
  t.equal(
    second.inbound.packets_out,
    second.inbound.packets_in,
    'every packet that was received is delivered',
  );
  t.equal(second.inbound.checksum_bad, 0);
  t.equal(first.outbound.drop_vnet_header, 0);
});
