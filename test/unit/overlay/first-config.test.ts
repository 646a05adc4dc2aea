import pino from 'pino';
import t from 'tap';
import type { NetworkConfig } from '../../../src/config/network-config.js';
import { parseNetworkConfig } from '../../../src/config/network-config.js';
import { OverlayError } from '../../../src/core/errors.js';
import { parsePrefix } from '../../../src/net/prefix.js';
import { firstConfig } from '../../../src/overlay/first-config.js';
import type { CachedTable, LeaseStore } from '../../../src/store/store.js';
import { hostOf } from '../../support/leases.js';

const STORED = parseNetworkConfig('{"Network":"10.5.0.0/16"}', 'store');
const SAVED = parseNetworkConfig('{"Network":"10.6.0.0/16"}', 'table');
const TABLE: CachedTable = {
  config: SAVED,
  ownSubnet: parsePrefix('10.6.1.0/24')!,
  ownHost: hostOf({ publicIp: '172.20.0.1' }),
  leases: [],
  savedAt: 'then',
};
const never = new Promise<NetworkConfig>(() => undefined);
const bad = (): Promise<never> => Promise.reject(new OverlayError('E_CONFIG', 'bad'));

interface Case {
  readonly name: string;
  readonly isAway?: boolean;
  readonly table?: CachedTable;
  readonly reads: (() => Promise<NetworkConfig>)[];
  readonly expected: 'stored' | 'saved' | 'E_CONFIG';
}

function fakeStore({
  isAway = false,
  table,
  reads,
}: Case): Pick<LeaseStore, 'readConfig' | 'isAway' | 'cached'> {
  let next = 0;
  return {
    readConfig: () => reads[next++](),
    isAway: () => Promise.resolve(isAway),
    cached: () => table,
  };
}

const stored = (): Promise<NetworkConfig> => Promise.resolve(STORED);

const CASES: Case[] = [
  { name: 'answers', table: TABLE, reads: [stored], expected: 'stored' },
  { name: 'invalid in the store', reads: [bad], expected: 'E_CONFIG' },
  { name: 'invalid in the store, with a table', table: TABLE, reads: [bad], expected: 'saved' },
  { name: 'away, with a table', isAway: true, table: TABLE, reads: [], expected: 'saved' },
  { name: 'away, without a table', isAway: true, reads: [stored], expected: 'stored' },
  { name: 'listens but does not answer', table: TABLE, reads: [() => never], expected: 'saved' },
];

for (const testCase of CASES) {
  t.test(`firstConfig(): ${testCase.name}`, async (t) => {
    const store = fakeStore(testCase) as LeaseStore;
    const starting = firstConfig(store, pino({ level: 'silent' }), new AbortController().signal);
    if (testCase.expected === 'E_CONFIG') return t.rejects(starting, { code: 'E_CONFIG' });
    const { config, cached } = await starting;
    t.equal(config, testCase.expected === 'stored' ? STORED : SAVED);
    t.equal(cached, testCase.expected === 'stored' ? undefined : TABLE);
  });
}

t.test('firstConfig().fromStore() brings the config that was late', async (t) => {
  let answer = (_config: NetworkConfig): void => undefined;
  const late = new Promise<NetworkConfig>((resolve) => (answer = resolve));
  const store = fakeStore({ name: '', table: TABLE, reads: [() => late], expected: 'saved' }) as LeaseStore;
  const first = await firstConfig(store, pino({ level: 'silent' }), new AbortController().signal);
  t.equal(first.answered(), undefined);
  answer(STORED);
  t.equal(await first.fromStore(), STORED);
  t.equal(first.answered(), STORED, 'in time, if nothing was made from the table yet');
});

t.test('firstConfig() without the table waits for the store, away or not', async (t) => {
  const store = fakeStore({ name: '', isAway: true, table: TABLE, reads: [stored], expected: 'stored' });
  const first = await firstConfig(
    store as LeaseStore,
    pino({ level: 'silent' }),
    new AbortController().signal,
    false,
  );
  t.equal(first.config, STORED);
  t.equal(first.cached, undefined);
});
