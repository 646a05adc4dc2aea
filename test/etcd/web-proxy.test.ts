// Variables that name a web proxy: etcd is asked directly, unless --etcd-proxy=environment says otherwise.

import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import t from 'tap';
import type { Test } from 'tap';
import { startEtcd } from '../support/etcd-server.js';
import type { EtcdServer } from '../support/etcd-server.js';
import { makeStore, putConfig, until } from '../support/store-fixture.js';

t.setTimeout(60_000);

const NAMES = ['grpc_proxy', 'https_proxy', 'http_proxy', 'all_proxy', 'no_grpc_proxy', 'no_proxy'];
const FAR = 'http://198.51.100.7:2379'; // TEST-NET-2: reached by the proxy only

/** A web proxy that joins every CONNECT with `etcd`. */
async function openProxy(t: Test, etcd: EtcdServer): Promise<{ url: string; asked: string[] }> {
  const asked: string[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    sockets.add(client);
    client.on('error', () => undefined);
    client.once('data', (head) => {
      asked.push(head.toString('latin1').split('\r\n')[0]);
      const upstream = connect(etcd.clientPort, '127.0.0.1', () => {
        client.write('HTTP/1.1 200 OK\r\n\r\n');
        client.pipe(upstream).pipe(client);
      });
      sockets.add(upstream);
      upstream.on('error', () => undefined);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked };
}

/** The environment has these and no other variables about proxies until the test ends. */
function setProxyVariables(t: Test, variables: Record<string, string>): void {
  const before = { ...process.env };
  const clear = (): void => {
    for (const name of NAMES) {
      delete process.env[name];
      delete process.env[name.toUpperCase()];
    }
  };
  clear();
  Object.assign(process.env, variables);
  t.teardown(() => {
    clear();
    for (const [name, value] of Object.entries(before)) process.env[name] = value;
  });
}

t.test('etcd is asked directly whatever the environment says', async (t) => {
  const etcd = await startEtcd();
  t.teardown(() => etcd.remove());
  await putConfig(etcd);
  const proxy = await openProxy(t, etcd);
  for (const name of NAMES.slice(0, 4)) {
    for (const spelling of [name, name.toUpperCase()]) {
      await t.test(spelling, async (t) => {
        setProxyVariables(t, { [spelling]: proxy.url, NO_PROXY: '10.0.0.0/8' });
        const { store } = makeStore({ endpoints: etcd.url });
        t.teardown(() => store.close());
        await store.readConfig(AbortSignal.timeout(5000));
        t.strictSame(proxy.asked, []);
      });
    }
  }
});

t.test('--etcd-proxy=environment', async (t) => {
  const etcd = await startEtcd();
  t.teardown(() => etcd.remove());
  await putConfig(etcd);
  const proxy = await openProxy(t, etcd);
  const read = async (t: Test, endpoints: string, variables: Record<string, string>): Promise<boolean> => {
    proxy.asked.length = 0;
    setProxyVariables(t, variables);
    const { store, log } = makeStore({ endpoints, store: { proxy: 'environment' } });
    t.teardown(() => store.close());
    let isRead = false;
    store.readConfig(AbortSignal.timeout(20_000)).then(
      () => (isRead = true),
      () => undefined,
    );
    await until(() => isRead || log.some((line) => line.msg.includes('Cannot connect')), 'read or refused');
    return isRead;
  };
  for (const name of ['https_proxy', 'HTTP_PROXY']) {
    await t.test(`${name} is used`, async (t) => {
      t.equal(await read(t, FAR, { [name]: proxy.url }), true);
      t.strictSame(proxy.asked, ['CONNECT 198.51.100.7:2379 HTTP/1.1']);
    });
  }
  await t.test('loopback is asked directly', async (t) => {
    t.equal(await read(t, etcd.url, { https_proxy: proxy.url }), true);
    t.strictSame(proxy.asked, []);
  });
  await t.test('so is what NO_PROXY names', async (t) => {
    const variables = { https_proxy: proxy.url, NO_PROXY: '10.0.0.0/8, 198.51.100.0/24' };
    t.equal(await read(t, `${FAR},http://203.0.113.7:2379`, variables), true);
    t.strictSame(proxy.asked, ['CONNECT 203.0.113.7:2379 HTTP/1.1'], 'the first endpoint was not asked for');
  });
});
