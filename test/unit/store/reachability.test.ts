import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import t from 'tap';
import { acceptsConnection } from '../../../src/store/reachability.js';

t.test('acceptsConnection() does not count the time that a name takes to be resolved', async (t) => {
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  const { port } = server.address() as AddressInfo;
  const after =
    (ms: number, ...addresses: string[]) =>
    () =>
      new Promise<string[]>((resolve) => setTimeout(() => resolve(addresses), ms));
  const cases: [name: string, host: string, resolve: () => Promise<string[]>, expected: boolean][] = [
    ['a slow name server', 'etcd.example', after(150, '127.0.0.1'), true],
    ['one of several addresses', 'etcd.example', after(0, '127.0.0.9', '127.0.0.1'), true],
    ['nobody listens there', 'etcd.example', after(0, '127.0.0.9'), false],
    ['no such name', 'etcd.example', () => Promise.reject(new Error('ENOTFOUND')), false],
    ['a dead name server', 'etcd.example', () => new Promise(() => undefined), false],
    ['an address asks nobody', '127.0.0.1', () => Promise.reject(new Error('asked')), true],
  ];
  for (const [name, host, resolve, expected] of cases) {
    const startedMs = performance.now();
    t.equal(await acceptsConnection([`${host}:${port}`], 50, resolve), expected, name);
    t.ok(performance.now() - startedMs < 1500, `${name}: bounded`);
  }
});
