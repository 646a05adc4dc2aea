// What systemd hears from a daemon, on a socket of the kind it listens on, while things go wrong and right again.

import { join } from 'node:path';
import t from 'tap';
import { Lab, labUnavailable, waitFor } from '../support/lab.js';
import { daemonArguments, tableOf, writeTable } from '../support/twill-hosts.js';

const LISTENER = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind(sys.argv[1]); print('listening', flush=True)
while True: print(s.recv(4096).decode(), flush=True)`;

t.test('STATUS= follows the conditions', { skip: labUnavailable() }, async (t) => {
  const lab = Lab.open('sd-');
  t.teardown(() => lab.close());
  const host = lab.addHost(1);
  const file = join(lab.dir, 'static.json');
  writeTable(file, tableOf([host]));
  const socket = join(host.dir, 'notify');
  const manager = await lab.spawnUntil(host.ns, 'python3', ['-c', LISTENER, socket], /listening/);
  const hears = async (sign: RegExp): Promise<void> => {
    const before = manager.log().length;
    await waitFor(() => sign.test(manager.log().slice(before)), `systemd to hear ${sign}`);
  };
  const daemon = lab.spawn(host.ns, 'env', [
    `NOTIFY_SOCKET=${socket}`,
    process.execPath,
    ...daemonArguments(host, file),
  ]);
  await hears(/^READY=1\n(.*\n)*STATUS=forwarding for 10\.5\.1\.0\/24 \(udp\)$/m);
  lab.ip(host.ns, 'link set eth0 down');
  await hears(/^STATUS=not ready: .*eth0 is down/m);
  lab.ip(host.ns, 'link set eth0 up');
  await hears(/^STATUS=forwarding for 10\.5\.1\.0\/24 \(udp\)$/m);
  t.equal(await lab.end(daemon), 0);
  await waitFor(() => manager.log().endsWith('STOPPING=1\nSTATUS=stopping\n'), 'the end');
});
