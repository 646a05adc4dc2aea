// Files in a folder of the test's own; changes are waited for, not slept for.

import { execFile } from 'node:child_process';
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import t from 'tap';
import { firstOf } from '../../../../src/net/dual.js';
import { formatAddress, formatPrefixes } from '../../../../src/net/prefix.js';
import { openLogger } from '../../../../src/core/log.js';
import { readTable } from '../../../../src/store/static/static-file.js';
import { StaticStore } from '../../../../src/store/static/static-store.js';
import type { Membership } from '../../../../src/store/store.js';
import { textsOf } from '../../../support/conditions.js';
import { hostOf } from '../../../support/leases.js';
import { prefixesOf } from '../../../../src/config/network-config.js';

const LEASES = [
  { subnet: '10.5.1.0/24', publicIP: '172.20.0.1' },
  { subnet: '10.5.2.0/24', publicIP: '172.20.0.2' },
];
const CONFIG = { Network: '10.5.0.0/16' };
const GOOD = JSON.stringify({ config: CONFIG, leases: LEASES });
// Longer than the store's own poll of two seconds.
const WAIT_MS = 10_000;

interface Opened {
  readonly store: StaticStore;
  readonly path: string;
  /** What the listener heard, in words. */
  readonly heard: string[];
  readonly until: (holds: () => boolean) => Promise<void>;
}

async function opened(t: Tap, text: string | undefined): Promise<Opened> {
  const folder = await mkdtemp(join(tmpdir(), 'twill-static-'));
  const path = join(folder, 'static.json');
  if (text !== undefined) await writeFile(path, text);
  const log = openLogger({ level: 'info', format: 'json', write: () => undefined });
  const store = new StaticStore(path, log);
  t.teardown(async () => {
    store.close();
    await rm(folder, { recursive: true });
  });
  const until = async (holds: () => boolean): Promise<void> => {
    const end = performance.now() + WAIT_MS;
    while (!holds()) {
      if (performance.now() > end) throw new Error('waited in vain');
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  };
  return { store, path, heard: [], until };
}
type Tap = Pick<typeof t, 'teardown'>;

/** Brings a store to the point where it reports. */
async function watching(
  t: Tap,
  text = GOOD,
  publicIp = '172.20.0.1',
): Promise<Omit<Opened, 'store'> & { member: Membership }> {
  const all = await opened(t, text);
  const { store, heard } = all;
  const member = await joinAs(store, publicIp);
  t.teardown(() => member.close());
  member.watch({
    ...NO_TABLE,
    onLeases: (update) => {
      const leases = update.kind === 'snapshot' ? update.leases : [];
      const words = leases.map(
        ({ id, host }) => `${id} ${formatAddress(firstOf(host.publicIp))}${host.backend.type}`,
      );
      heard.push(`leases ${words.join(', ')}`);
    },
    onConfig: (config) => heard.push(`config ${formatPrefixes(prefixesOf(config))}`),
    onOwnLeaseLost: ({ message }) => heard.push(`lost ${message}`),
  });
  return { ...all, member };
}

/** What comes after a start from a saved table alone. */
const NO_TABLE = { onConfirmed: (): void => undefined, onOutdated: (): void => undefined };

async function joinAs(store: StaticStore, publicIp: string): Promise<Membership> {
  const network = await store.readConfig();
  const publication = { host: hostOf({ publicIp }), previousSubnets: undefined };
  return network.join(publication, new AbortController().signal);
}

const BOTH = 'leases 10.5.1.0/24 172.20.0.1, 10.5.2.0/24 172.20.0.2';
const SWAPPED = JSON.stringify({
  config: CONFIG,
  leases: [LEASES[0], { subnet: '10.5.3.0/24', publicIP: '172.20.0.3' }],
});
const AFTER_SWAP = 'leases 10.5.1.0/24 172.20.0.1, 10.5.3.0/24 172.20.0.3';

void t.test('StaticStore reads config and own lease', async (t) => {
  const { store } = await opened(t, GOOD);
  t.equal(formatPrefixes(prefixesOf((await store.readConfig()).config)), '10.5.0.0/16');
  t.match(store.status(), { leases: 2 });
  const member = await joinAs(store, '172.20.0.2');
  t.strictSame(member.own, { v4: { address: 0x0a050200, length: 24 } });
  await t.rejects(joinAs(store, '172.20.0.9'), {
    code: 'E_LEASE',
    message: /no lease has our public IP 172\.20\.0\.9$/,
  });
  t.strictSame([...textsOf(store), ...textsOf(member)], []);
  t.match(member.status(), { leases: 2 });
});

void t.test('StaticStore.readConfig() refuses a wrong file, naming the place', async (t) => {
  const withLeases = (...leases: unknown[]): string => JSON.stringify({ config: CONFIG, leases });
  const publicIP = '172.20.0.1';
  const cases: readonly (readonly [string | undefined, string, RegExp])[] = [
    [undefined, 'E_FILE', /^Cannot read static file .*: ENOENT$/],
    ['', 'E_CONFIG', /not valid JSON/],
    [GOOD.slice(0, -5), 'E_CONFIG', /not valid JSON/],
    ['[]', 'E_CONFIG', /: config is missing: expected a JSON object$/],
    ['{"config":{},"leases":[]}', 'E_CONFIG', /: config: Network is missing/],
    [
      JSON.stringify({ config: { ...CONFIG, EnableIPv6: true, IPv6Network: '10.6.0.0/16' }, leases: [] }),
      'E_CONFIG',
      /: config: IPv6Network is "10.6.0.0\/16": expected an IPv6 network such as/,
    ],
    [JSON.stringify({ config: CONFIG }), 'E_CONFIG', /: leases is missing: expected an array$/],
    [withLeases(null), 'E_CONFIG', /leases\[0\]\.subnet is missing: expected a string$/],
    [withLeases({ subnet: '10.5.1.0/24' }), 'E_CONFIG', /leases\[0\]\.publicIP is missing/],
    [
      withLeases({ subnet: '10.5.1.1/24', publicIP }),
      'E_CONFIG',
      /leases\[0\]\.subnet is "10\.5\.1\.1\/24": expected/,
    ],
    [
      withLeases({ subnet: '10.5.1.0/24', publicIP: 'h' }),
      'E_CONFIG',
      /leases\[0\]\.publicIP is "h": expected/,
    ],
    [
      withLeases(LEASES[0], { subnet: '10.6.1.0/24', publicIP }),
      'E_CONFIG',
      /leases\[1\]\.subnet .*not inside/,
    ],
    [withLeases({ subnet: '10.5.0.0/16', publicIP }), 'E_CONFIG', /not inside the Network 10\.5\.0\.0\/16$/],
    [
      withLeases(...LEASES, { subnet: '10.5.0.0/20', publicIP }),
      'E_CONFIG',
      /10\.5\.0\.0\/20 and 10\.5\.1\.0\/24 overlap$/,
    ],
  ];
  for (const [text, code, message] of cases) {
    const { store } = await opened(t, text);
    await t.rejects(store.readConfig(), { code, message }, String(text));
  }
});

void t.test('StaticMembership.watch() follows writes and replacement by rename', async (t) => {
  const { path, heard, until } = await watching(t);
  t.strictSame(heard, [BOTH], 'a snapshot at once');
  await writeFile(`${path}.new`, SWAPPED);
  await rename(`${path}.new`, path);
  await until(() => heard.length === 2);
  await writeFile(path, GOOD);
  await until(() => heard.length === 3);
  await writeFile(path, JSON.stringify({ config: { Network: '10.4.0.0/15' }, leases: LEASES }));
  await until(() => heard.length === 5);
  t.strictSame(heard, [BOTH, AFTER_SWAP, BOTH, 'config 10.4.0.0/15', BOTH]);
});

void t.test('readTable() reads a file again only when it may have changed', async (t) => {
  const { path } = await opened(t, GOOD);
  const fresh = await readTable(path);
  const laterMs = Date.now() + 60_000;
  const later = await readTable(path, { known: fresh, nowMs: laterMs });
  t.not(later, fresh, 'it was too fresh to be known again');
  t.equal(later.leases, fresh.leases, 'it says the same');
  t.equal(await readTable(path, { known: later, nowMs: laterMs }), later);
  await writeFile(path, SWAPPED);
  const swapped = await readTable(path, { known: later, nowMs: laterMs });
  t.not(swapped.leases, later.leases);
  t.equal(swapped.leases[1].id, '10.5.3.0/24');
  await rm(path);
  await t.rejects(readTable(path, { known: swapped, nowMs: laterMs }), { code: 'E_FILE' });
});

void t.test('StaticMembership: what hangs on a changed config waits for a restart, too', async (t) => {
  const { member, path, heard, until } = await watching(t);
  await writeFile(path, JSON.stringify({ config: { Network: '10.6.0.0/16' }, leases: [] }));
  await until(() => heard.length === 2);
  await writeFile(path, GOOD);
  await until(() => heard.length === 4);
  await writeFile(
    path,
    JSON.stringify({ config: { ...CONFIG, Backend: { Type: 'vxlan' } }, leases: LEASES }),
  );
  await until(() => heard.length === 6);
  const goodAgain = ['config 10.5.0.0/16', BOTH];
  t.strictSame(
    heard,
    [BOTH, 'config 10.6.0.0/16', ...goodAgain, ...goodAgain],
    'no lease has become a vxlan one',
  );
  t.strictSame(textsOf(member), []);
});

void t.test('StaticMembership keeps the last good table while the file is wrong, and recovers', async (t) => {
  const { member, path, heard, until } = await watching(t);
  for (const text of [SWAPPED.slice(0, 40), '', '{}']) {
    await writeFile(path, text);
    await until(() => textsOf(member).length === 1);
    t.match(textsOf(member)[0], /; the last good table stays in force$/);
    t.strictSame(heard, [BOTH]);
  }
  await rm(path);
  await until(() => /ENOENT/.test(textsOf(member)[0] ?? ''));
  await writeFile(path, SWAPPED);
  await until(() => heard.length === 2);
  t.strictSame(heard, [BOTH, AFTER_SWAP]);
  t.strictSame(textsOf(member), []);
});

void t.test('StaticMembership is degraded while its own lease is not in the file', async (t) => {
  const { member, path, heard, until } = await watching(t);
  for (const own of [[], [{ ...LEASES[0], publicIP: '172.20.0.9' }]]) {
    await writeFile(path, JSON.stringify({ config: CONFIG, leases: [...own, LEASES[1]] }));
    await until(() => textsOf(member).length === 1);
    t.match(textsOf(member)[0], /our lease 10\.5\.1\.0\/24 for 172\.20\.0\.1 is no longer in it/);
    await writeFile(path, GOOD);
    await until(() => textsOf(member).length === 0);
  }
  t.notMatch(heard.join('\n'), /^lost/m);
});

// --- IPv6 ----------------------------------------------------------------------------------------------------------

const DUAL_CONFIG = { ...CONFIG, EnableIPv6: true, IPv6Network: 'fd00:5::/48' };
const DUAL_LEASES = [
  { ...LEASES[0], ipv6Subnet: 'fd00:5:0:1::/64', publicIPv6: 'fd30::1' },
  { ...LEASES[1], ipv6Subnet: 'fd00:5:0:2::/64', publicIPv6: 'fd30::2' },
];
const dualFile = (leases: unknown, config: object = DUAL_CONFIG): string =>
  JSON.stringify({ config, leases });
const DUAL = dualFile(DUAL_LEASES);

void t.test('StaticStore finds the own lease by the addresses of both families', async (t) => {
  const own = async (leases: unknown[], publicIp: string, config?: object): Promise<string> => {
    const { store } = await opened(t, dualFile(leases, config));
    const member = await joinAs(store, publicIp).catch((error: Error) => error);
    return member instanceof Error
      ? member.message.replace(/^.*static\.json: /, '')
      : formatPrefixes(member.own);
  };
  const [first, second] = DUAL_LEASES;
  const withoutIp = { ...first, publicIPv6: undefined };
  const v6Only = { ...DUAL_CONFIG, EnableIPv4: false };
  const rows: [leases: unknown[], publicIp: string, expected: string, config?: object][] = [
    [[second, first], '172.20.0.1&fd30::1', '10.5.1.0/24 and fd00:5:0:1::/64'],
    [[second, withoutIp], '172.20.0.1&fd30::1', '10.5.1.0/24 and fd00:5:0:1::/64'],
    [DUAL_LEASES, 'fd30::2', 'fd00:5:0:2::/64', v6Only],
    [DUAL_LEASES, '172.20.0.9&fd30::9', 'no lease has our public IP 172.20.0.9 and fd30::9'],
    [DUAL_LEASES, 'fd30::9', 'no lease has our public IP fd30::9', v6Only],
    [
      DUAL_LEASES,
      '172.20.0.1&fd30::2',
      'our lease 10.5.1.0/24 and fd00:5:0:1::/64 names 172.20.0.1 and fd30::1: ' +
        'expected our public IP 172.20.0.1 and fd30::2',
    ],
    [
      LEASES,
      '172.20.0.1&fd30::1',
      'our lease 10.5.1.0/24 has no ipv6Subnet: expected a subnet of each family that the network has',
    ],
  ];
  for (const [leases, publicIp, expected, config] of rows)
    t.equal(await own(leases, publicIp, config), expected);
});

void t.test('StaticMembership follows a file that gains and loses a family', async (t) => {
  const four = await watching(t);
  await writeFile(four.path, DUAL);
  await four.until(() => four.heard.length === 3);
  t.strictSame(four.heard, [BOTH, 'config 10.5.0.0/16 and fd00:5::/48', BOTH], 'IPv4 goes on');
  t.strictSame(textsOf(four.member), [], 'our lease is still in it');

  const dual = await watching(t, DUAL, '172.20.0.1&fd30::1');
  await writeFile(dual.path, GOOD);
  await dual.until(() => dual.heard.length === 2);
  t.strictSame(dual.heard, [BOTH, 'config 10.5.0.0/16'], 'leases without IPv6 are not looked at');
  await writeFile(dual.path, dualFile([DUAL_LEASES[0], LEASES[1]]));
  await dual.until(() => dual.heard.length === 4);
  t.strictSame(textsOf(dual.member), [], 'another host may have one family');
  await writeFile(dual.path, dualFile([LEASES[0], DUAL_LEASES[1]]));
  await dual.until(() => textsOf(dual.member).length === 1);
  t.match(
    textsOf(dual.member)[0],
    /our lease 10\.5\.1\.0\/24 and fd00:5:0:1::\/64 for 172\.20\.0\.1 and fd30::1 is/,
  );
});

void t.test(
  'StaticMembership.close() leaves nothing that keeps a process alive, twice if asked',
  async (t) => {
    const { path } = await opened(t, GOOD);
    const source = (name: string): string =>
      JSON.stringify(fileURLToPath(new URL(`../../../../src/${name}.ts`, import.meta.url)));
    const program = `
    import { StaticStore } from ${source('store/static/static-store')};
    import { openLogger } from ${source('core/log')};
    const store = new StaticStore(${JSON.stringify(path)}, openLogger({ level: 'info', format: 'text' }));
    const network = await store.readConfig();
    const host = { publicIp: { v4: 0xac140001 }, backend: { type: '', data: {} } };
    const member = await network.join({ host, previousSubnets: undefined });
    member.watch({ onLeases: () => undefined, onConfig: () => undefined, onOwnLeaseLost: () => undefined });
    await member.close();
    await member.close();
    store.close();
    store.close();`;
    const words = ['--import', 'tsx', '--input-type=module', '-e', program];
    // Rejects when the process has to be ended.
    const options = { env: { PATH: process.env['PATH'] }, timeout: WAIT_MS };
    await t.resolves(promisify(execFile)(process.execPath, words, options));
  },
);
