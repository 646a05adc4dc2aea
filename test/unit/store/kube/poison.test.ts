// Whoever may annotate one Node writes anything into it: hundreds of hostile nodes, two hosts that watch them, and good
// peers that stay as they are.

import t, { type Test } from 'tap';
import { LeaseView } from '../../../../src/lease/lease-view.js';
import { parseIpv4 } from '../../../../src/net/ipv4.js';
import { formatPrefix, parseCidr } from '../../../../src/net/prefix.js';
import type { LeaseUpdate } from '../../../../src/lease/lease.js';
import type { Membership } from '../../../../src/store/store.js';
import { ApiServer, type NodeParts } from '../../../support/api-server.js';
import { codesOf } from '../../../support/conditions.js';
import { udpAnnotations } from '../../../support/kube-nodes.js';
import { Listening, openStoreBench, type StoreBench } from '../../../support/kube-store-bench.js';
import { waitFor } from '../../../support/lab.js';
import { hostOf } from '../../../support/leases.js';
import { folderOf } from '../../../support/folder.js';

t.setTimeout(90_000);
const PREFIX = 'flannel.alpha.coreos.com/';
const signal = new AbortController().signal;
const GOOD = ['good2', 'good3', 'good4', 'good5'];
const OWN_IP = '172.30.0.1';

type Texts = Readonly<Record<string, string>>;

/** A member with other annotations in place of the good ones. */
function member(publicIp: string, podCidr: string, more: Texts = {}): NodeParts {
  const all = Object.entries({ ...udpAnnotations(publicIp), ...more });
  return {
    podCidrs: [podCidr],
    annotations: Object.fromEntries(all.map(([name, value]) => [PREFIX + name, value])),
  };
}

/** A host as the daemon has it: what the store tells goes through the table of peers. */
class Host extends Listening {
  readonly bench: StoreBench;
  readonly membership: Membership;
  readonly view: LeaseView;

  private constructor(bench: StoreBench, membership: Membership, publicIp: string) {
    super();
    this.bench = bench;
    this.membership = membership;
    this.view = new LeaseView({
      networks: { v4: parseCidr('10.244.0.0/16')! },
      leasable: { v4: { first: parseIpv4('10.244.0.0')!, last: parseIpv4('10.244.255.255')! } },
      own: membership.own,
      ownPublicIp: { v4: parseIpv4(publicIp)! },
    });
  }

  static async open(t: Test, api: ApiServer, name: string, publicIp: string): Promise<Host> {
    const dir = folderOf(t);
    const bench = await openStoreBench(api, dir, { env: { NODE_NAME: name } });
    t.teardown(() => bench.store.close());
    const network = await bench.store.readConfig(signal);
    const membership = await network.join({ host: hostOf({ publicIp }), previousSubnets: undefined }, signal);
    t.teardown(() => membership.close());
    const host = new Host(bench, membership, publicIp);
    membership.watch(host);
    await waitFor(() => GOOD.every((peer) => host.leases.has(peer)), `the first list of ${name}`);
    return host;
  }

  override onLeases(update: LeaseUpdate): void {
    super.onLeases(update);
    this.view.apply(update);
  }

  /** Whether a node is used as a peer. */
  uses(node: string): boolean {
    return [...this.view.accepted()].some(({ id }) => id === node);
  }

  /** The good peers that are used, in words. */
  peers(): string[] {
    const found = [...this.view.accepted()].filter(({ id }) => GOOD.includes(id));
    return found.map(({ id, subnets: { v4 } }) => `${id} ${formatPrefix(v4!)}`).sort();
  }

  get badNodes(): number {
    return this.membership.metrics().find(({ name }) => name === 'kube_bad_nodes')!.values[0].value;
  }
}

interface Bench {
  readonly api: ApiServer;
  readonly hosts: readonly [Host, Host];
}

async function openBench(t: Test): Promise<Bench> {
  let bornMs = Date.UTC(2026, 0, 1);
  const api = await ApiServer.open({ now: () => new Date(bornMs) });
  t.teardown(() => api.close());
  for (const i of [1, 6]) api.createNode(`own${i}`, { podCidrs: [`10.244.${i}.0/24`] });
  for (const i of [2, 3, 4, 5]) api.createNode(`good${i}`, member(`172.30.0.${i}`, `10.244.${i}.0/24`));
  bornMs += 60_000; // what comes now is younger
  const first = await Host.open(t, api, 'own1', OWN_IP);
  const second = await Host.open(t, api, 'own6', '172.30.0.6');
  await waitFor(() => first.leases.has('own6') && second.leases.has('own1'), 'each other');
  return { api, hosts: [first, second] };
}

/** A sentinel that is seen shows that all before it was. */
async function settled({ api, hosts }: Bench, name: string): Promise<void> {
  api.createNode(name, member('172.30.250.1', '10.244.250.0/24'));
  await waitFor(() => hosts.every((host) => host.leases.has(name)), `${name} to be seen`);
  api.deleteNode(name);
  await waitFor(() => hosts.every((host) => !host.leases.has(name)), `${name} to be gone`);
}

const deep = (depth: number): string => '['.repeat(depth) + ']'.repeat(depth);
const LONG = 16_384;
const ODD_TEXTS = [
  '\0',
  '\0\0\0',
  '\ufeff',
  '\u202e\u0007\u001b[2J',
  '\ud83d\ude00'.repeat(50),
  '\u2028\n\r\t',
];

const ADDRESSES = [
  ...['', ' ', 'x', '1.2.3', '1.2.3.4.5', '1.2.3.256', '01.2.3.4', '1.2.3.4 ', '1.2.3.4/24', '0x7f.0.0.1'],
  ...['fd00::1', '::ffff:127.0.0.1', '::', '0.0.0.0', '0.1.2.3', '127.0.0.1', '127.255.0.9', '224.0.0.1'],
  ...['239.1.2.3', '240.0.0.1', '255.255.255.255', '-1.2.3.4', '1e1.2.3.4', '1,2,3,4', '١.٢.٣.٤'],
  ...ODD_TEXTS,
  'x'.repeat(LONG),
  'x'.repeat(200 << 10),
];

const DATA = [
  ...[
    ' ',
    '{',
    '}',
    '{"VNI"',
    '{"VNI":1,}',
    "{'VNI':1}",
    '{VNI:1}',
    '// x',
    'NaN',
    'nullx',
    'null null',
    '"x',
  ],
  ...['{"__proto__":{"x":1}}', '{"a":{"__proto__":1}}', '[{"__proto__":[]}]'],
  ...[deep(17), deep(1000), deep(8000), deep(100_000), '{"a":'.repeat(3000), '['.repeat(LONG)],
  ...[
    `"${'x'.repeat(LONG - 2)}"`,
    `"${'x'.repeat(LONG)}"`,
    `"${'x'.repeat(200 << 10)}"`,
    `"${'x'.repeat(2000)}"`,
  ],
  ...ODD_TEXTS,
];

const TYPES = ['x'.repeat(65), 'x'.repeat(LONG), 'x'.repeat(200 << 10), '\ud83d\ude00'.repeat(40)];

/** Unreadable: of none of them there may be a lease. */
function unreadable(): NodeParts[] {
  const cidr = '10.244.100.0/24';
  const rows: NodeParts[] = [
    ...ADDRESSES.map((address) => member(address, cidr)),
    ...DATA.map((data) => member('172.30.9.9', cidr, { 'backend-data': data })),
    ...TYPES.map((type) => member('172.30.9.9', cidr, { 'backend-type': type })),
  ];
  const good = member('172.30.9.9', cidr).annotations ?? {};
  for (const name of ['public-ip', 'backend-type']) {
    const rest = Object.entries(good).filter(([key]) => key !== PREFIX + name);
    rows.push({ podCidrs: [cidr], annotations: Object.fromEntries(rest) });
  }
  const cidrs = [
    ...[
      'x',
      '10.244.100.0',
      '10.244.100.0/',
      '10.244.100.0/33',
      '10.244.100.0/-1',
      '10.244.100.0/024',
      '/24',
    ],
    ...['10.244.100.0/24 ', ' 10.244.100.0/24', '10.244.100.300/24', '010.244.1.0/24', '10.244.100.0/1e1'],
    ...[
      '0.0.0.0/0',
      '10.244.100.7/24',
      '10.244.100.0/32',
      '10.244.2.1/24',
      'fd00::/64',
      '::/0',
      '10.244.2.0/24/24',
    ],
    ...ODD_TEXTS,
    '1'.repeat(300),
  ];
  for (const cidr of cidrs) rows.push(member('172.30.9.9', cidr));
  rows.push({
    ...member('172.30.9.9', cidr),
    podCidrs: ['10.244.100.0/24', '10.244.101.0/24', '10.244.102.0/24'],
  });
  rows.push({ ...member('172.30.9.9', cidr), podCidrs: Array<string>(5000).fill('10.244.100.0/24') });
  return rows;
}

/** Readable, and yet to be used by nobody, or by nobody in place of a good one. */
function readable(): NodeParts[] {
  return [
    member(OWN_IP, '10.244.110.0/24'),
    member(OWN_IP, '10.244.1.0/24'),
    ...GOOD.map((_, i) => member('172.30.9.8', `10.244.${i + 2}.0/24`)),
    ...GOOD.map((_, i) => member(`172.30.0.${i + 2}`, `10.244.${i + 2}.0/24`)),
    ...['10.244.1.0/24', '10.244.1.128/25', '10.244.0.0/23', '10.244.0.0/16', '10.0.0.0/8', '0.0.0.0/1'].map(
      (cidr) => member('172.30.9.8', cidr),
    ),
    ...['172.30.0.0/24', '10.9.1.0/24', '127.0.0.0/8', '224.0.0.0/4', '128.0.0.0/1'].map((cidr) =>
      member('172.30.9.8', cidr),
    ),
    member('10.244.2.2', '10.244.111.0/24'),
    member('172.30.9.7', '10.244.112.0/24', { 'backend-type': 'constructor' }),
    member('172.30.9.7', '10.244.112.0/24', {
      'backend-type': 'vxlan',
      'backend-data': '{"VNI":1,"VtepMAC":"ff:ff:ff:ff:ff:ff"}',
    }),
    member('172.30.9.7', '10.244.113.0/24', {
      constructor: 'x',
      toString: 'x',
      valueOf: 'x',
      hasOwnProperty: 'x',
    }),
    member(
      '172.30.9.7',
      '10.244.114.0/24',
      Object.fromEntries(Array.from({ length: 2000 }, (_, i) => [`n${i}`, 'x'])),
    ),
    member('172.30.9.7', '10.244.115.0/24', { 'backend-data': deep(16), 'backend-v6-data': deep(9000) }),
    member('172.30.9.7', '10.244.115.0/24', {
      'public-ip-overwrite': '127.0.0.1',
      'node-public-ip': 'x'.repeat(LONG),
    }),
  ];
}

const NAMES = ['constructor', 'tostring', 'valueof', 'prototype', 'null', 'undefined', '0', 'x'.repeat(253)];

function createAll(api: ApiServer, rows: readonly NodeParts[], what: string): string[] {
  const names = rows.map((_, i) => (what === 'bad' ? (NAMES[i] ?? `bad-${i}`) : `${what}-${i}`));
  for (const [i, parts] of rows.entries()) api.createNode(names[i], parts);
  return names;
}

function checkQuiet(t: Test, { hosts }: Bench, before: readonly string[][]): void {
  for (const [i, host] of hosts.entries()) {
    t.strictSame(host.peers(), before[i], 'good peers are used as before');
    t.equal(host.lost, undefined);
    const { log } = host.bench;
    t.ok(log.length <= 12, `${log.length} lines`);
    t.strictSame(
      log
        .filter((line) => line.length > 1200 || /[\0-\x1f\x7f]/.test(line))
        .map((line) => line.slice(0, 200)),
      [],
      'no line is long, or writes on the terminal',
    );
    const shown = JSON.stringify(host.membership.status()).length;
    t.ok(shown < 100_000, `the status has ${shown} characters`);
    t.ok(JSON.stringify(host.membership.conditions()).length < 10_000, 'conditions are short');
  }
}

const touched = (host: Host, from: number): string[] =>
  host.words.slice(from).filter((word) => GOOD.some((name) => word.split(' ')[1] === name));

t.test('hundreds of hostile nodes: the good peers stay', async (t) => {
  const bench = await openBench(t);
  const { api, hosts } = bench;
  const before = hosts.map((host) => host.peers());
  t.equal(before[0].length, 4);
  const marks = hosts.map((host) => host.words.length);
  const bad = unreadable();
  t.ok(bad.length > 90, `${bad.length} unreadable`);
  const names = createAll(api, bad, 'bad');
  await settled(bench, 'seen1');
  for (const host of hosts) {
    t.strictSame(
      names.filter((name) => host.leases.has(name)),
      [],
      'none has a lease',
    );
    t.equal(host.badNodes, bad.length);
    t.ok(codesOf(host.membership).includes('lease-unreadable'));
  }
  createAll(api, readable(), 'odd');
  createAll(api, [...bad, ...bad], 'more');
  await settled(bench, 'seen2');
  for (const [i, host] of hosts.entries())
    t.strictSame(touched(host, marks[i]), [], 'nobody was told of good ones');
  checkQuiet(t, bench, before);

  await t.test('in a first list, too', async (t) => {
    const late = await Host.open(t, api, 'own6', '172.30.0.6');
    t.strictSame(late.peers(), before[1]);
    t.equal(late.badNodes, 3 * bad.length);
    t.ok(late.bench.log.length <= 12, `${late.bench.log.length} lines`);
  });
});

t.test('nodes that flap between good, bad and gone', async (t) => {
  const bench = await openBench(t);
  const { api, hosts } = bench;
  const before = hosts.map((host) => host.peers());
  const marks = hosts.map((host) => host.words.length);
  const annotate = (name: string, texts: Readonly<Record<string, string | null>>): unknown =>
    api.updateNode(name, {
      metadata: { annotations: Object.fromEntries(Object.entries(texts).map(([k, v]) => [PREFIX + k, v])) },
    });
  for (let i = 0; i < 20; i++) api.createNode(`flap-${i}`, member('172.30.8.1', `10.244.${150 + i}.0/24`));
  for (let round = 0; round < 30; round++) {
    for (let i = 0; i < 20; i++) {
      const name = `flap-${i}`;
      const step = (round + i) % 5;
      if (step === 0) annotate(name, { 'public-ip': `x${round}` });
      else if (step === 1) annotate(name, { 'public-ip': '127.0.0.1', 'backend-data': deep(20 + round) });
      else if (step === 2) annotate(name, { 'public-ip': '172.30.8.1', 'backend-data': 'null' });
      else if (step === 3) annotate(name, { 'kube-subnet-manager': round % 2 === 0 ? null : 'true' });
      else {
        api.deleteNode(name);
        api.createNode(name, member(OWN_IP, `10.244.${1 + (i % 5)}.0/24`));
      }
    }
  }
  await settled(bench, 'seen');
  for (const [i, host] of hosts.entries())
    t.strictSame(touched(host, marks[i]), [], 'nobody was told of good ones');
  checkQuiet(t, bench, before);
});

t.test('any number of strange annotations hides none of ours', async (t) => {
  const bench = await openBench(t);
  const { api } = bench;
  const junk = Object.fromEntries(Array.from({ length: 2000 }, (_, i) => [`a${i}`, 'x']));
  api.createNode('own7', member('172.30.0.7', '10.244.7.0/24', junk));
  api.updateNode('own7', { metadata: { annotations: { [`${PREFIX}public-ip`]: '172.30.9.7' } } });
  const host = await Host.open(t, api, 'own7', '172.30.0.7');
  await waitFor(() => host.leases.has('own1'), 'the others');
  t.strictSame(codesOf(host.membership), []);
  await waitFor(() => bench.hosts.every((peer) => peer.uses('own7')), 'it to be used');
});

t.test('a good node that turns bad keeps its lease, until it is deleted', async (t) => {
  const bench = await openBench(t);
  const { api, hosts } = bench;
  const before = hosts.map((host) => host.peers());
  for (const value of ['127.0.0.1', '', 'x'.repeat(200 << 10), '\0']) {
    api.updateNode('good2', { metadata: { annotations: { [`${PREFIX}public-ip`]: value } } });
    await settled(bench, 'seen');
    for (const [i, host] of hosts.entries()) {
      t.strictSame(host.peers(), before[i]);
      t.equal(host.leases.get('good2'), '10.244.2.0/24 172.30.0.2');
      t.equal(host.badNodes, 1);
    }
  }
  api.deleteNode('good2');
  await waitFor(() => hosts.every((host) => !host.leases.has('good2') && host.badNodes === 0), 'it to go');
});
