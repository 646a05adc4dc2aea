// Whoever can write below the prefix writes anything: 200 malformed keys and values, huge ones, too many.

import t from 'tap';
import { parsePrefix } from '../../src/net/prefix.js';
import { startEtcd } from '../support/etcd-server.js';
import type { EtcdServer } from '../support/etcd-server.js';
import type { Fixture } from '../support/store-fixture.js';
import {
  leaseValue,
  pause,
  PREFIX,
  putConfig,
  putLease,
  startStore,
  until,
} from '../support/store-fixture.js';

t.setTimeout(90_000);
let etcd: EtcdServer;
t.before(
  async () =>
    (etcd = await startEtcd({ args: ['--max-txn-ops', '1000', '--max-request-bytes', '20000000'] })),
);
t.teardown(() => etcd.remove());
t.beforeEach(async () => {
  await etcd.ctl('del', '--prefix', '/');
  await putConfig(etcd);
  for (let i = 2; i < 6; i++) await putLease(etcd, `10.5.${i}.0-24`, `172.20.0.${i}`);
});

const OWN = { previousSubnet: parsePrefix('10.5.1.0/24')! };
const counter = ({ store }: Pick<Fixture, 'store'>, name: string): number =>
  store.metrics().find((family) => family.name === name)!.values[0].value;

/** One request of etcd's JSON gateway; values are bytes, so anything can be written. */
async function gateway(path: string, body: object): Promise<void> {
  const response = await fetch(`${etcd.url}/v3/${path}`, { method: 'POST', body: JSON.stringify(body) });
  const text = await response.text();
  if (!response.ok) throw new Error(`${path}: ${text}`);
}

const base64 = (data: string | Buffer): string => Buffer.from(data as string, 'latin1').toString('base64');

/** Below "<prefix>/subnets", each with what is wrong about it in key or value. */
function malformed(): { key: string; value: string | Buffer }[] {
  const good = leaseValue('172.20.0.66');
  const keys = [
    ...[
      '',
      '/',
      '-foo',
      'X',
      '/10',
      '/10.5.9.0',
      '/10.5.9-24',
      '/10.5.9.300-24',
      '/10.5.9.0-24hi',
      '/&2001::-56',
    ],
    ...[
      '/10.5.9.0-32',
      '/10.5.9.0-33',
      '/10.5.9.0-0',
      '/0.0.0.0-0',
      '/10.5.9.0-024',
      '/010.5.9.0-24',
      '/10.5.9.7-24',
    ],
    ...[
      '/10.5.9.0-24&:12:13:-56',
      '/10.5.9.0-24&20011::-56',
      '/10.5.9.0-24&2001-56',
      '/10.5.9.0-24&fd00::7-56', // without host bits it is the lease of a host with both families
    ],
    ...[
      '/10.5.9.0-24/x',
      '//10.5.9.0-24',
      '/10.5.9.0-24 ',
      '/ 10.5.9.0-24',
      '/10.5.9.0/24',
      '/10.5.9.0-24\n',
      '/10.5.9.0-24\0',
    ],
    ...[
      '/\xff\xfe',
      '/\0',
      '/10.5.9.0-\xb2\xb4',
      '/__proto__',
      '/constructor',
      '/../config',
      '/10.5.9.0--24',
      '/-1.5.9.0-24',
    ],
    ...[
      '/1e1.5.9.0-24',
      '/0x0a.5.9.0-24',
      '/10,5,9,0-24',
      '/10.5.9.0_24',
      `/${'1'.repeat(300)}`,
      `/10.5.9.0-24${'x'.repeat(4000)}`,
    ],
  ];
  const deep = (depth: number): string =>
    `{"PublicIP":"172.20.0.66","BackendData":${'['.repeat(depth)}${']'.repeat(depth)}}`;
  const values = [
    ...[
      '',
      ' ',
      '{',
      '}',
      '[]',
      'null',
      'true',
      '1',
      '"x"',
      '{"PublicIP"',
      good.slice(0, -1),
      `${good}x`,
      `${good}${good}`,
    ],
    ...[
      '{}',
      '{"PublicIP":null}',
      '{"PublicIP":1}',
      '{"PublicIP":{}}',
      '{"PublicIP":[]}',
      '{"PublicIP":""}',
      '{"PublicIP":"x"}',
    ],
    ...[
      'fd00::1',
      '1.2.3',
      '1.2.3.4.5',
      '1.2.3.256',
      '01.2.3.4',
      '1.2.3.4 ',
      '0.0.0.0',
      '0.1.2.3',
      '127.0.0.1',
      '224.0.0.1',
      '255.255.255.255',
      '240.0.0.1',
    ].map(leaseValue),
    ...[
      '{"PublicIP":"1.2.3.4","BackendType":1}',
      '{"PublicIP":"1.2.3.4","BackendType":{}}',
      `{"PublicIP":"1.2.3.4","BackendType":"${'x'.repeat(100)}"}`,
    ],
    ...['{"__proto__":{"PublicIP":"1.2.3.4"}}', '{"PublicIP":"1.2.3.4","BackendData":{"__proto__":{"x":1}}}'],
    ...[
      deep(17),
      deep(1000),
      deep(7000),
      'x'.repeat(17_000),
      `{"PublicIP":"1.2.3.4","BackendData":"${'x'.repeat(17_000)}"}`,
    ],
    ...[
      '\xff\xfe\xfd',
      '\0\0\0',
      "{'PublicIP':'1.2.3.4'}",
      '{"PublicIP":"1.2.3.4",}',
      '{PublicIP:"1.2.3.4"}',
      '// x',
      '{"PublicIP":"1.2.3.4"} // x',
      'NaN',
      '\ufeff',
    ],
  ];
  const rows: { key: string; value: string | Buffer }[] = keys.map((key) => ({ key, value: good }));
  for (const [i, value] of values.entries()) rows.push({ key: `/10.5.${100 + i}.0-24`, value });
  let octet = 0;
  while (rows.length < 200) rows.push({ key: `/10.5.200.${octet++}`, value: good });
  return rows;
}

t.test('E15 200 malformed keys and values, at once and one by one: good peers unchanged', async (t) => {
  const rows = malformed();
  t.equal(rows.length, 200);
  t.equal(new Set(rows.map((row) => row.key)).size, 200);
  const bench = await startStore({ endpoints: etcd.url, ...OWN });
  const good = bench.recorder.lines();
  t.equal(good.length, 5);
  const puts = rows.map(({ key, value }) => ({
    key: base64(`${PREFIX}/subnets${key}`),
    value: base64(value),
  }));
  await gateway('kv/txn', { success: puts.map((put) => ({ request_put: put })) });
  await until(() => counter(bench, 'etcd_bad_keys') === 200, 'all skipped');
  t.strictSame(bench.recorder.lines(), good, 'in one transaction');
  t.equal(bench.recorder.puts + bench.recorder.deletes, 0);
  const warnings = bench.log.filter((line) => line.msg.startsWith('ignoring bad lease key'));
  t.ok(warnings.length > 0 && warnings.length <= 10, `${warnings.length} warnings`);
  t.ok(
    warnings.every((line) => line.msg.includes(`"${PREFIX}/subnets`)),
    'each names its key',
  );
  await bench.store.close();

  const again = await startStore({ endpoints: etcd.url });
  t.strictSame(again.recorder.lines(), good, 'in the first list');
  await etcd.ctl('del', '--prefix', `${PREFIX}/subnets/10.5.1`); // own lease and many bad keys
  await until(() => again.recorder.lines().join() === good.join(), 'own lease is back');
  for (const put of puts) await gateway('kv/put', put);
  await until(() => counter(again, 'etcd_bad_keys') === 200, 'all skipped again');
  t.strictSame(again.recorder.lines(), good, 'one by one');
  t.strictSame(again.recorder.lost, []);
  await again.store.close();
});

t.test('A good lease whose value turns bad keeps its last good value, until it is deleted', async (t) => {
  const bench = await startStore({ endpoints: etcd.url, ...OWN });
  await etcd.ctl('put', `${PREFIX}/subnets/10.5.2.0-24`, '{"PublicIP":"127.0.0.1"}');
  await until(() => counter(bench, 'etcd_bad_keys') === 1, 'seen');
  t.ok(bench.recorder.table.has('10.5.2.0/24'));
  await etcd.ctl('del', `${PREFIX}/subnets/10.5.2.0-24`);
  await until(() => !bench.recorder.table.has('10.5.2.0/24'), 'deleted');
  t.equal(counter(bench, 'etcd_bad_keys'), 0);
  await bench.store.close();
});

t.test('T17 values of 1.4 MiB: listed in parts, skipped, memory bounded', async (t) => {
  const value = base64('x'.repeat(1_400_000));
  for (let i = 0; i < 60; i++)
    await gateway('kv/put', { key: base64(`${PREFIX}/subnets/10.5.${100 + i}.0-24`), value });
  global.gc?.();
  const before = process.memoryUsage().rss;
  const bench = await startStore({ endpoints: etcd.url, ...OWN });
  t.equal(bench.recorder.table.size, 5);
  t.equal(counter(bench, 'etcd_bad_keys'), 60);
  await pause(200);
  t.comment(
    `RSS ${Math.round((process.memoryUsage().rss - before) / 2 ** 20)} MiB more after 84 MB of values`,
  );
  await bench.store.close();
});
