import pino from 'pino';
import t from 'tap';
import { parseNetworkConfig } from '../../../src/config/network-config.js';
import { OverlayError } from '../../../src/core/errors.js';
import { parseIpv4 } from '../../../src/net/ipv4.js';
import { parsePrefix } from '../../../src/net/prefix.js';
import { firstConfig } from '../../../src/overlay/first-config.js';
import { RejoinedMembership } from '../../../src/overlay/rejoined.js';
import type { CachedTable, LeaseStore, StoredNetwork } from '../../../src/store/store.js';
import { hostOf } from '../../support/leases.js';

const IN_STORE: StoredNetwork = {
  config: parseNetworkConfig('{"Network":"10.5.0.0/16"}', 'store'),
  join: () => Promise.reject(new OverlayError('E_LEASE', 'not here')),
};
const SAVED = parseNetworkConfig('{"Network":"10.6.0.0/16"}', 'table');
const OWN_IP = parseIpv4('172.20.0.1')!;
const OTHER_IP = parseIpv4('172.20.0.2')!;
const TABLE: CachedTable = {
  config: SAVED,
  ownSubnets: { v4: parsePrefix('10.6.1.0/24')! },
  ownHost: hostOf({ publicIp: '172.20.0.1' }),
  leases: [],
  savedAt: 'then',
};
const never = new Promise<StoredNetwork>(() => undefined);
const bad = (): Promise<never> => Promise.reject(new OverlayError('E_CONFIG', 'bad'));
const stored = (): Promise<StoredNetwork> => Promise.resolve(IN_STORE);
const quiet = pino({ level: 'silent' });
const signal = new AbortController().signal;

interface Case {
  readonly name: string;
  readonly isAway?: boolean;
  readonly table?: CachedTable;
  /** What the store answers, one after the other. */
  readonly reads: (() => Promise<StoredNetwork>)[];
  readonly expected: 'stored' | 'saved' | 'E_CONFIG';
}

function fakeStore({ isAway = false, table, reads }: Omit<Case, 'name' | 'expected'>): LeaseStore {
  let next = 0;
  return {
    kind: 'static',
    readConfig: () => reads[next++](),
    savedStart: {
      isAway: () => Promise.resolve(isAway),
      table: () => table,
      formerPublicIp: () => undefined,
    },
    conditions: () => [],
    metrics: () => [],
    status: () => ({ kind: 'static', file: '', leases: 0 }),
    close: () => undefined,
  };
}

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
    const starting = firstConfig(fakeStore(testCase), quiet, signal);
    if (testCase.expected === 'E_CONFIG') return t.rejects(starting, { code: 'E_CONFIG' });
    const first = await starting;
    const network = await first.network({ v4: OWN_IP });
    t.equal(first.config, testCase.expected === 'stored' ? IN_STORE.config : SAVED);
    t.equal(network.config, first.config);
    if (testCase.expected === 'stored') return t.equal(network, IN_STORE);
    const member = await network.join({ host: TABLE.ownHost, previousSubnets: undefined }, signal);
    t.ok(member instanceof RejoinedMembership);
    t.equal(member.own, TABLE.ownSubnets);
  });
}

t.test('firstConfig() takes the network that comes before anything is made from the table', async (t) => {
  let answer = (_network: StoredNetwork): void => undefined;
  const late = new Promise<StoredNetwork>((resolve) => (answer = resolve));
  const first = await firstConfig(fakeStore({ table: TABLE, reads: [() => late] }), quiet, signal);
  t.equal(first.config, SAVED);
  answer(IN_STORE);
  await late;
  t.equal(await first.network({ v4: OWN_IP }), IN_STORE);
});

t.test('firstConfig() waits less while packets wait', async (t) => {
  const startedMs = performance.now();
  const store = fakeStore({ table: TABLE, reads: [() => never] });
  const first = await firstConfig(store, quiet, signal, { isUrgent: true });
  t.equal(first.config, SAVED);
  t.ok(performance.now() - startedMs < 900);
});

t.test('firstConfig() waits for the store on a host with another public IP than the table has', async (t) => {
  const store = fakeStore({ isAway: true, table: TABLE, reads: [stored] });
  const first = await firstConfig(store, quiet, signal);
  t.equal(first.config, SAVED, 'the interface is chosen by it');
  t.equal(await first.network({ v4: OTHER_IP }), IN_STORE);
});

t.test('firstConfig() without the table waits for the store, away or not', async (t) => {
  const store = fakeStore({ isAway: true, table: TABLE, reads: [stored] });
  const first = await firstConfig(store, quiet, signal, { mayUseTable: false });
  t.equal(await first.network({ v4: OWN_IP }), IN_STORE);
});
