import pino from 'pino';
import t from 'tap';
import { parseNetworkConfig, prefixesOf } from '../../../src/config/network-config.js';
import type { OverlayError } from '../../../src/core/errors.js';
import type { LeaseHost } from '../../../src/lease/lease.js';
import { formatPrefixes, parsePrefix } from '../../../src/net/prefix.js';
import { RejoinedMembership } from '../../../src/overlay/rejoined.js';
import type { CachedTable, Membership, MembershipListener, StoredNetwork } from '../../../src/store/store.js';
import { codesOf } from '../../support/conditions.js';
import { hostOf } from '../../support/leases.js';
import { settle } from '../../support/fake-clock.js';

const OWN = parsePrefix('10.5.1.0/24')!;
const CONFIG = parseNetworkConfig('{"Network":"10.5.0.0/16"}', 'store');
const OTHER_CONFIG = parseNetworkConfig('{"Network":"10.6.0.0/16"}', 'store');
const HOST = hostOf({ publicIp: '172.20.0.1' });
const MOVED = hostOf({ publicIp: '172.20.0.2' });
const TABLE: CachedTable = {
  config: CONFIG,
  ownSubnets: { v4: OWN },
  ownHost: HOST,
  leases: [],
  savedAt: 'then',
};
const STATUS = { kind: 'static', file: 'f', leases: 0 } as const;

interface Bench {
  readonly member: RejoinedMembership;
  /** What was told, and done, in words. */
  readonly heard: string[];
  /** The store answers with this config, and gives this subnet; undefined: none can be had. */
  readonly answer: (config?: typeof CONFIG, subnet?: string) => Promise<void>;
  /** The first leases come from the store. */
  readonly snapshot: () => void;
  readonly end: AbortController;
}

function open(): Bench {
  const heard: string[] = [];
  const end = new AbortController();
  let answered = (_network: StoredNetwork): void => undefined;
  const coming = new Promise<StoredNetwork>((resolve) => (answered = resolve));
  let told: MembershipListener | undefined;
  const joined = (own: string): Membership => ({
    own: { v4: parsePrefix(own)! },
    watch: (listener) => (told = listener),
    publish: (host: LeaseHost) => {
      heard.push(`publish ${host.publicIp.v4 === MOVED.publicIp.v4 ? 'moved' : 'same'}`);
      return Promise.resolve();
    },
    conditions: () => [],
    metrics: () => [],
    status: () => ({ ...STATUS, leases: 7 }),
    close: () => {
      heard.push('closed');
      return Promise.resolve();
    },
  });
  const store = {
    kind: 'static' as const,
    conditions: () => [{ code: 'store-unreachable' as const, text: 'away' }],
    metrics: () => [],
    status: () => STATUS,
  };
  const member = new RejoinedMembership({
    table: TABLE,
    host: HOST,
    store,
    stored: (signal) =>
      Promise.race([
        coming,
        new Promise<never>((_resolve, reject) =>
          signal.addEventListener('abort', () => reject(signal.reason as Error)),
        ),
      ]),
    signal: end.signal,
    log: pino({ level: 'silent' }),
  });
  return {
    member,
    heard,
    end,
    snapshot: () => told?.onLeases({ kind: 'snapshot', leases: [] }),
    answer: async (config = CONFIG, subnet) => {
      answered({
        config,
        join: ({ host, previousSubnets }) => {
          const isMoved = host.publicIp.v4 === MOVED.publicIp.v4;
          heard.push(`join ${formatPrefixes(previousSubnets!)}${isMoved ? ' moved' : ''}`);
          return subnet === undefined ? Promise.reject(new Error('full')) : Promise.resolve(joined(subnet));
        },
      });
      await settle();
    },
  };
}

function listenerOf(heard: string[]): MembershipListener {
  return {
    onLeases: ({ kind }) => heard.push(kind),
    onConfig: () => heard.push('config'),
    onConfirmed: (config) => heard.push(`confirmed ${formatPrefixes(prefixesOf(config))}`),
    onOutdated: (changes) => heard.push(`outdated ${changes.join()}`),
    onOwnLeaseLost: ({ code, message }: OverlayError) => heard.push(`${code} ${message}`),
  };
}

t.test(
  'RejoinedMembership reports the table at once, and what is joined once the store answers',
  async (t) => {
    const { member, heard, answer, snapshot } = open();
    t.same(member.own, { v4: OWN });
    member.watch(listenerOf(heard));
    t.strictSame(heard, ['snapshot']);
    t.strictSame(codesOf(member), ['store-unreachable', 'saved-table']);
    t.equal(member.status(), STATUS, 'the store speaks');
    await answer(CONFIG, '10.5.1.0/24');
    t.strictSame(heard.splice(0), ['snapshot', 'join 10.5.1.0/24', 'confirmed 10.5.0.0/16']);
    t.strictSame(codesOf(member), ['saved-table'], 'its leases are still in use');
    t.match(member.status(), { leases: 7 }, 'what is joined speaks');
    snapshot();
    t.strictSame(heard.splice(0), ['snapshot']);
    t.strictSame(codesOf(member), []);
    await member.close();
    t.strictSame(heard, ['closed']);
  },
);

t.test('RejoinedMembership tells what makes another overlay, and joins nothing', async (t) => {
  const { member, heard, answer } = open();
  member.watch(listenerOf(heard));
  await answer(OTHER_CONFIG, '10.5.1.0/24');
  t.match(heard, ['snapshot', /^outdated Network/]);
  t.equal(heard.length, 2);
  await member.close();
  t.equal(heard.length, 2);
});

t.test('RejoinedMembership has lost the lease when it gets another, or none', async (t) => {
  const cases: [subnet: string | undefined, heard: (string | RegExp)[]][] = [
    ['10.5.2.0/24', ['closed', /^E_LEASE_LOST .*away: got 10\.5\.2\.0\/24 instead of 10\.5\.1\.0\/24$/]],
    [undefined, [/^E_LEASE_LOST .*away: full$/]],
  ];
  for (const [subnet, expected] of cases) {
    const { member, heard, answer } = open();
    member.watch(listenerOf(heard));
    await answer(CONFIG, subnet);
    t.match(heard, ['snapshot', 'join 10.5.1.0/24', ...expected]);
    t.equal(heard.length, 2 + expected.length);
    await t.rejects(member.publish(MOVED), { code: 'E_LEASE' });
    await member.close();
  }
});

t.test(
  'RejoinedMembership.publish() waits for the store, which is joined with the last that was told',
  async (t) => {
    const { member, heard, answer } = open();
    member.watch(listenerOf(heard));
    const publishing = [member.publish(hostOf({ publicIp: '172.20.0.9' })), member.publish(MOVED)];
    await answer(CONFIG, '10.5.1.0/24');
    await Promise.all(publishing);
    t.strictSame(heard.splice(0), ['snapshot', 'join 10.5.1.0/24 moved', 'confirmed 10.5.0.0/16']);
    await member.publish(HOST);
    t.strictSame(heard, ['publish same']);
    await member.close();
  },
);

t.test('RejoinedMembership says nothing of an end that was asked for', async (t) => {
  for (const how of ['close', 'signal'] as const) {
    const { member, heard, end } = open();
    member.watch(listenerOf(heard));
    const publishing = member.publish(MOVED);
    const refused = t.rejects(publishing, { code: 'E_LEASE' });
    if (how === 'signal') end.abort(new Error('daemon closed'));
    await member.close();
    await refused;
    t.strictSame(heard, ['snapshot'], how);
  }
});
