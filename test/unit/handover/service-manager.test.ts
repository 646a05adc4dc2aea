import { spawn } from 'node:child_process';
import { closeSync } from 'node:fs';
import t from 'tap';
import { serviceManagerStore } from '../../../src/handover/service-manager.js';
import { native } from '../../../src/native/native.js';

/** A service manager that is slow, and says how many descriptors it was sent until it is told to forget. */
const MANAGER = `
import os, socket, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind('')
print(s.getsockname()[1:].decode(), flush=True)
time.sleep(0.1)
count = 0
while True:
    data, fds, _, _ = socket.recv_fds(s, 4096, 8)
    for fd in fds: os.close(fd)
    if data.startswith(b'BARRIER'): break
    if data.startswith(b'FDSTORE=1'): count += len(fds)
print(count, flush=True)`;

t.test('keep() loses none of many descriptors to a service manager that is behind', async (t) => {
  const child = spawn('python3', ['-c', MANAGER], { stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  const name = await new Promise<string>((resolve) =>
    child.stdout.on('data', (chunk: Buffer) => {
      said += chunk.toString();
      resolve(said.trim());
    }),
  );
  const store = serviceManagerStore({ NOTIFY_SOCKET: `@${name}` });
  const fd = native.memoryFile('x');
  store.keep(Array.from({ length: 768 }, (_, i) => [`flannel0.tun.${i}`, fd] as const));
  store.forget(['flannel0.tun.0']);
  await new Promise((resolve) => child.once('close', resolve));
  t.equal(said, `${name}\n768\n`);
  closeSync(fd);
});
