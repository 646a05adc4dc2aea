import t from 'tap';
import type { NetworkConfig } from '../../../../src/config/network-config.js';
import { formatLeaseValue } from '../../../../src/lease/lease-codec.js';
import { parseIpv4 } from '../../../../src/net/ipv4.js';
import { formatPrefixes, parsePrefix } from '../../../../src/net/prefix.js';
import { acquireLease } from '../../../../src/store/etcd/acquire.js';
import { acquireContext, FakeKv } from '../../../support/etcd-fakes.js';
import { settle } from '../../../support/fake-clock.js';
import { hostOf } from '../../../support/leases.js';

const config: NetworkConfig = {
  networks: {
    v4: {
      network: parsePrefix('10.5.0.0/16')!,
      subnetLength: 24,
      subnetMin: parseIpv4('10.5.1.0')!,
      subnetMax: parseIpv4('10.5.4.0')!,
    },
  },
  subnetsFrom: 'limits',
  enableNftables: false,
  backendType: 'udp',
  backend: {},
  warnings: [],
  source: 'a test',
};
const host = hostOf({ publicIp: '172.20.0.1' });
const valueOf = (publicIp: string): string => formatLeaseValue(hostOf({ publicIp }));
const SUBNETS = '/net/subnets/';

async function acquire(kv: FakeKv, previous?: string, savedLeaseId = 0n): Promise<string> {
  const context = acquireContext(kv, savedLeaseId);
  const previousSubnet = previous === undefined ? undefined : parsePrefix(previous)!;
  const acquiring = acquireLease(
    context,
    { config, host, previousSubnets: previousSubnet && { v4: previousSubnet } },
    new AbortController().signal,
  ).then(({ subnets }) => formatPrefixes(subnets));
  let isDone = false;
  acquiring.catch(() => undefined).finally(() => (isDone = true));
  for (let i = 0; i < 30 && !isDone; i++) await context.clock.advance(1000);
  await settle();
  return acquiring;
}

t.test('acquireLease() chooses in the order of flannel', async (t) => {
  const cases: {
    name: string;
    rows: Record<string, string>;
    previous?: string;
    expected: string;
    gone?: string[];
  }[] = [
    { name: 'empty: the first free', rows: {}, expected: '10.5.1.0/24' },
    {
      name: 'own lease by public IP',
      rows: { '10.5.3.0-24': '172.20.0.1' },
      previous: '10.5.2.0/24',
      expected: '10.5.3.0/24',
    },
    {
      name: 'the first of several',
      rows: { '10.5.3.0-24': '172.20.0.1', '10.5.2.0-24': '172.20.0.1' },
      expected: '10.5.2.0/24',
    },
    {
      name: 'previous subnet',
      rows: { '10.5.2.0-24': '172.20.0.2' },
      previous: '10.5.4.0/24',
      expected: '10.5.4.0/24',
    },
    {
      name: 'previous subnet taken',
      rows: { '10.5.4.0-24': '172.20.0.2' },
      previous: '10.5.4.0/24',
      expected: '10.5.1.0/24',
    },
    {
      name: 'previous subnet overlapped',
      rows: { '10.5.4.128-25': '172.20.0.2' },
      previous: '10.5.4.0/24',
      expected: '10.5.1.0/24',
    },
    { name: 'previous subnet out of range', rows: {}, previous: '10.5.9.0/24', expected: '10.5.1.0/24' },
    { name: 'a bad value keeps its range taken', rows: { '10.5.1.0-24': '' }, expected: '10.5.2.0/24' },
    {
      name: 'bad keys take nothing',
      rows: { foo: '172.20.0.2', '0.0.0.0-0': '172.20.0.2' },
      expected: '10.5.1.0/24',
    },
    {
      name: 'a dual-stack key keeps its range taken',
      rows: { '10.5.1.0-24&fd00::-64': '172.20.0.2' },
      expected: '10.5.2.0/24',
    },
    {
      name: 'own lease out of range is deleted',
      rows: { '10.5.9.0-24': '172.20.0.1' },
      expected: '10.5.1.0/24',
      gone: ['10.5.9.0-24'],
    },
  ];
  for (const { name, rows, previous, expected, gone = [] } of cases) {
    const kv = new FakeKv();
    kv.leases.add(5n);
    for (const [key, publicIp] of Object.entries(rows))
      kv.put(SUBNETS + key, publicIp === '' ? 'x' : valueOf(publicIp), 5n);
    t.equal(await acquire(kv, previous), expected, name);
    t.equal(kv.entries.get(SUBNETS + expected.replace('/', '-'))!.value, valueOf('172.20.0.1'));
    for (const key of gone) t.notOk(kv.entries.has(SUBNETS + key));
  }
});

t.test('acquireLease() leaves a reservation that does not fit alone', async (t) => {
  const kv = new FakeKv();
  kv.put(`${SUBNETS}10.5.9.0-24`, valueOf('172.20.0.1'));
  t.equal(await acquire(kv), '10.5.1.0/24');
  t.ok(kv.entries.has(`${SUBNETS}10.5.9.0-24`));
});

t.test('acquireLease() lists again after each lost race, and gives up after ten more', async (t) => {
  for (const races of [1, 10, 11]) {
    const kv = new FakeKv();
    let left = races;
    kv.interfere = (method) => {
      if (method !== 'create' || left === 0) return;
      left--;
      // Another host takes the subnet that is about to be created, and gives back the one before.
      for (const key of [...kv.entries.keys()]) kv.delete(key);
      const next = `10.5.${1 + ((races - left - 1) % 2)}.0-24`;
      kv.put(SUBNETS + next, valueOf('172.20.0.2'));
    };
    if (races <= 10) t.match(await acquire(kv), /^10\.5\.\d\.0\/24$/, `${races} races`);
    else await t.rejects(acquire(kv), { code: 'E_LEASE', message: 'lost 11 races' });
    t.ok(kv.leases.size <= 1, 'no etcd lease without a key');
  }
});

t.test('acquireLease() says so when the network is full', async (t) => {
  const kv = new FakeKv();
  for (let i = 1; i <= 4; i++) kv.put(`${SUBNETS}10.5.${i}.0-24`, valueOf(`172.20.0.${10 + i}`));
  await t.rejects(acquire(kv), {
    code: 'E_LEASE',
    message:
      'Cannot acquire a subnet in 10.5.0.0/16: out of subnets (4 of /24 from 10.5.1.0 to 10.5.4.0, 4 leases in use)',
  });
});

t.test('acquireLease() whose answer is lost reads back', async (t) => {
  const kv = new FakeKv();
  kv.failures.push({ method: 'create', when: 'after', kind: 'timeout' });
  t.equal(await acquire(kv, '10.5.2.0/24'), '10.5.2.0/24');
  t.equal(kv.leases.size, 1);
  t.equal(kv.calls.filter((call) => call === 'create').length, 1);
});

t.test(
  'acquireLease() takes the key of its saved etcd lease for its own, under whatever public IP',
  async (t) => {
    const [OURS, OTHERS] = [7n, 8n];
    const cases: {
      name: string;
      rows: [key: string, publicIp: string, leaseId: bigint][];
      saved?: bigint;
      previous?: string;
      expected: string;
      gone?: string[];
    }[] = [
      {
        name: 'the address changed',
        rows: [['10.5.3.0-24', '172.20.0.9', OURS]],
        expected: '10.5.3.0/24',
      },
      {
        name: 'the address changed, and another host has a lease',
        rows: [
          ['10.5.1.0-24', '172.20.0.2', OTHERS],
          ['10.5.3.0-24', '172.20.0.9', OURS],
        ],
        previous: '10.5.3.0/24',
        expected: '10.5.3.0/24',
      },
      {
        name: 'the address changed back: not the subnet that it had before',
        rows: [
          ['10.5.2.0-24', '172.20.0.1', OTHERS],
          ['10.5.3.0-24', '172.20.0.9', OURS],
        ],
        previous: '10.5.3.0/24',
        expected: '10.5.3.0/24',
      },
      {
        name: "another host's key on our etcd lease",
        rows: [
          ['10.5.2.0-24', '172.20.0.2', OURS],
          ['10.5.3.0-24', '172.20.0.9', OURS],
        ],
        previous: '10.5.3.0/24',
        expected: '10.5.3.0/24',
      },
      {
        name: 'the etcd lease is another now: somebody else has the subnet',
        rows: [['10.5.3.0-24', '172.20.0.9', OTHERS]],
        previous: '10.5.3.0/24',
        expected: '10.5.1.0/24',
      },
      {
        name: 'no id was saved: a reservation is no proof',
        rows: [['10.5.3.0-24', '172.20.0.9', 0n]],
        saved: 0n,
        previous: '10.5.3.0/24',
        expected: '10.5.1.0/24',
      },
      {
        name: 'a damaged value is ours still',
        rows: [['10.5.3.0-24', '', OURS]],
        expected: '10.5.3.0/24',
      },
      {
        name: 'it does not fit the config any more',
        rows: [['10.5.9.0-24', '172.20.0.9', OURS]],
        expected: '10.5.1.0/24',
        gone: ['10.5.9.0-24'],
      },
      {
        name: 'a plain restart',
        rows: [['10.5.3.0-24', '172.20.0.1', OURS]],
        previous: '10.5.3.0/24',
        expected: '10.5.3.0/24',
      },
    ];
    for (const { name, rows, saved = OURS, previous, expected, gone = [] } of cases) {
      const kv = new FakeKv();
      for (const [key, publicIp, leaseId] of rows) {
        kv.leases.add(leaseId);
        kv.put(SUBNETS + key, publicIp === '' ? 'x' : valueOf(publicIp), leaseId);
      }
      t.equal(await acquire(kv, previous, saved), expected, name);
      const own = kv.entries.get(SUBNETS + expected.replace('/', '-'))!;
      t.equal(own.value, valueOf('172.20.0.1'), 'in place');
      t.ok(own.leaseId !== OURS && own.leaseId !== 0n, 'on a new etcd lease');
      for (const [key, publicIp] of rows) {
        if (gone.includes(key)) t.notOk(kv.entries.has(SUBNETS + key));
        else if (!expected.startsWith(key.slice(0, -3)))
          t.equal(kv.entries.get(SUBNETS + key)!.value, valueOf(publicIp), 'the others are left alone');
      }
    }
  },
);

t.test('acquireLease() that lost the race for its saved key takes another subnet', async (t) => {
  const kv = new FakeKv();
  kv.leases.add(7n);
  kv.put(`${SUBNETS}10.5.3.0-24`, valueOf('172.20.0.9'), 7n);
  kv.interfere = (method) => {
    if (method !== 'replace') return;
    kv.interfere = () => undefined;
    kv.put(`${SUBNETS}10.5.3.0-24`, valueOf('172.20.0.8'), 0n);
  };
  t.equal(await acquire(kv, '10.5.3.0/24', 7n), '10.5.1.0/24');
  t.equal(kv.entries.get(`${SUBNETS}10.5.3.0-24`)!.value, valueOf('172.20.0.8'));
});
