import { createHash } from 'node:crypto';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import t from 'tap';
import {
  formatTable,
  loadPublicIp,
  loadTable,
  parseTable,
  TableCache,
} from '../../../src/store/table-cache.js';
import type { SavedTable } from '../../../src/store/table-cache.js';
import { textsOf } from '../../support/conditions.js';
import { leaseOf } from '../../support/leases.js';

const dir = mkdtempSync(join(tmpdir(), `twill-cache-${process.pid}-`));
t.teardown(() => rmSync(dir, { recursive: true }));

const lease = (i: number): SavedTable['leases'][number] =>
  leaseOf({
    subnet: `10.5.${i}.0/24`,
    publicIp: `172.20.0.${i}`,
    backendType: 'vxlan',
    backendData: { VNI: 1, VtepMAC: `02:00:00:00:00:${i}` },
    created: 9_007_199_254_740_993n + BigInt(i),
    written: 9_007_199_254_740_994n + BigInt(i),
  });
const TABLE: SavedTable = {
  source: 'etcd:/net',
  savedAt: '2026-01-01T00:00:00.000Z',
  configText: '{"Network":"10.5.0.0/16"}',
  ownSubnets: lease(10).subnets,
  ownHost: lease(10).host,
  ownLeaseId: 0x7fff_ffff_ffff_fff1n,
  hintedPublicIp: undefined,
  leases: [lease(10), lease(11), lease(12)],
};

function load(path: string, source = TABLE.source): { table: SavedTable | undefined; warnings: string[] } {
  const warnings: string[] = [];
  const log = pino({}, { write: (line: string) => warnings.push((JSON.parse(line) as { msg: string }).msg) });
  return { table: loadTable(path, source, log), warnings };
}

t.test('formatTable() and parseTable() are inverse', (t) => {
  t.equal(formatTable(parseTable(formatTable(TABLE), TABLE.source)), formatTable(TABLE));
  t.end();
});

t.test('formatTable() writes rows as JSON does', (t) => {
  const odd = leaseOf({
    id: 'node "\\\u2028ü"',
    subnet: '10.5.66.0/24',
    publicIp: '172.20.0.66',
    created: 7n,
  });
  const rows = formatTable({ ...TABLE, leases: [lease(10), odd] }).split('"leases":')[1];
  const text = `${JSON.stringify(JSON.parse(rows.slice(0, -2)))}}\n`;
  t.equal(rows, text);
  t.end();
});

t.test(
  'parseTable() reads a table without etcd lease and last revisions, as earlier versions wrote it',
  (t) => {
    const body = formatTable(TABLE).split('\n')[1];
    const json = JSON.parse(body) as { own: string[]; leases: string[][] };
    json.own.length = 2;
    for (const row of json.leases) row.length = 3;
    const old = `${JSON.stringify(json)}\n`;
    const table = parseTable(
      `twill-table 1 ${createHash('sha256').update(old).digest('hex')}\n${old}`,
      TABLE.source,
    );
    t.equal(table.ownLeaseId, 0n);
    t.strictSame(
      table.leases.map(({ seniority }) => seniority),
      TABLE.leases.map(({ seniority }) => ({ created: seniority!.created, written: seniority!.created })),
      'the last write is not known: it is taken to be the first',
    );
    t.end();
  },
);

t.test('parseTable() leaves out a lease that it cannot read, and keeps the others', (t) => {
  const deep = (depth: number): unknown => (depth === 0 ? 1 : [deep(depth - 1)]);
  const odd = leaseOf({
    id: 'node-x',
    subnet: '10.5.66.0/24',
    publicIp: '172.20.0.66',
    backendData: deep(16),
  });
  const table = parseTable(formatTable({ ...TABLE, leases: [lease(10), odd, lease(12)] }), TABLE.source);
  t.strictSame(
    table.leases.map(({ id }) => id),
    ['10.5.10.0-24', '10.5.12.0-24'],
  );
  t.end();
});

t.test('parseTable() refuses every truncation and every flipped byte', (t) => {
  const text = formatTable(TABLE);
  for (let i = 0; i < text.length; i++) {
    t.throws(() => parseTable(text.slice(0, i), TABLE.source));
    const flipped = text.slice(0, i) + String.fromCharCode(text.charCodeAt(i) ^ 1) + text.slice(i + 1);
    t.throws(() => parseTable(flipped, TABLE.source));
  }
  t.end();
});

t.test('TableCache writes a file of its own, 0600, and makes the directory', async (t) => {
  const path = join(dir, 'new', 'subnet.env.leases');
  const cache = new TableCache(path, pino({ level: 'silent' }));
  cache.changed(() => ({ ...TABLE, savedAt: 'first' }));
  cache.changed(() => TABLE);
  await cache.close();
  await cache.close();
  t.equal(statSync(path).mode & 0o777, 0o600);
  t.equal(formatTable(load(path).table!), formatTable(TABLE));
  t.strictSame(load(path).warnings, []);
  cache.changed(() => undefined);
});

t.test('TableCache replaces a symbolic link instead of following it', async (t) => {
  const target = join(dir, 'victim');
  const path = join(dir, 'link');
  writeFileSync(target, 'precious');
  symlinkSync(target, path);
  t.match(load(path).warnings, [/symbolic link/]);
  const cache = new TableCache(path, pino({ level: 'silent' }));
  cache.changed(() => TABLE);
  await cache.close();
  t.equal(readFileSync(target, 'utf8'), 'precious');
  t.equal(formatTable(load(path).table!), formatTable(TABLE));
});

t.test('TableCache says when it cannot write', async (t) => {
  const blocker = join(dir, 'blocker');
  writeFileSync(blocker, '');
  const cache = new TableCache(join(blocker, 'x'), pino({ level: 'silent' }));
  cache.changed(() => TABLE);
  await cache.close();
  t.match(textsOf(cache)[0], /lease table not saved to ".*\/x": E\w+/);
});

t.test('loadPublicIp() reads the head of the file alone', (t) => {
  const path = join(dir, 'head');
  const configText = '{"Network":"10.5.0.0/16","leases":[],"own":[]}';
  writeFileSync(path, formatTable({ ...TABLE, configText }));
  t.same(loadPublicIp(path, TABLE.source), TABLE.ownHost.publicIp);
  writeFileSync(path, formatTable({ ...TABLE, leases: Array.from({ length: 60_000 }, () => lease(11)) }));
  t.ok(statSync(path).size > 8 << 20);
  t.same(loadPublicIp(path, TABLE.source), TABLE.ownHost.publicIp, 'of a file larger than what is read');
  t.equal(loadPublicIp(path, 'etcd:/x'), undefined, 'of another store');
  t.equal(loadPublicIp(join(dir, 'absent'), TABLE.source), undefined);
  for (const text of ['', 'twill-table 1 ', 'twill-table 1 x\n{"source":"etcd:/net","own":[],"leases":[]}']) {
    writeFileSync(path, text);
    t.equal(loadPublicIp(path, TABLE.source), undefined, JSON.stringify(text));
  }
  t.end();
});

t.test('loadTable() is silent about an absent file and warns about one that cannot be trusted', (t) => {
  t.strictSame(load(join(dir, 'absent')), { table: undefined, warnings: [] });
  const path = join(dir, 'file');
  const cases: { name: string; prepare: () => void; source?: string; warning: RegExp }[] = [
    { name: 'empty', prepare: () => writeFileSync(path, ''), warning: /not a table of this version/ },
    {
      name: 'of another version',
      prepare: () => writeFileSync(path, formatTable(TABLE).replace('table 1', 'table 2')),
      warning: /version/,
    },
    {
      name: 'of another store',
      prepare: () => writeFileSync(path, formatTable(TABLE)),
      source: 'etcd:/x',
      warning: /from "etcd:\/net"/,
    },
    {
      name: 'damaged',
      prepare: () => writeFileSync(path, formatTable(TABLE).replace('10.5.11.0', '10.5.13.0')),
      warning: /checksum/,
    },
    {
      name: 'writable by others',
      prepare: () => (writeFileSync(path, formatTable(TABLE)), chmodSync(path, 0o666)),
      warning: /others can write/,
    },
  ];
  for (const { name, prepare, source, warning } of cases) {
    prepare();
    const { table, warnings } = load(path, source);
    t.equal(table, undefined, name);
    t.match(warnings, [warning]);
  }
  mkdirSync(join(dir, 'directory'));
  t.match(load(join(dir, 'directory')).warnings, [/not a plain file/]);
  t.end();
});
