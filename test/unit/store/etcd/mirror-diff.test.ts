import t from 'tap';
import type { KvEntry } from '../../../../src/store/etcd/etcd-kv.js';
import { diffList, stampOf } from '../../../../src/store/etcd/mirror-diff.js';

const entry = (key: string, mod: number, value = 'v', create = mod): KvEntry => ({
  key,
  value,
  valueBytes: value.length,
  createRevision: BigInt(create),
  modRevision: BigInt(mod),
  leaseId: 0n,
});

interface Case {
  readonly name: string;
  readonly why: 'gap' | 'check';
  readonly held: KvEntry[];
  readonly heldRevision?: number;
  readonly deletes?: Record<string, number>;
  readonly listed: KvEntry[];
  readonly listRevision?: number;
  readonly clusterId?: string;
  readonly expected: string[];
  readonly rewritten?: boolean;
}

const cases: Case[] = [
  { name: 'nothing happened', why: 'gap', held: [entry('a', 5)], listed: [entry('a', 5)], expected: [] },
  {
    name: 'changed, new and deleted in the gap',
    why: 'gap',
    held: [entry('a', 5), entry('b', 6)],
    listed: [entry('a', 12, 'w', 5), entry('c', 13)],
    listRevision: 20,
    expected: ['delete b', 'put a', 'put c'],
  },
  {
    name: 'the revision went back',
    why: 'gap',
    held: [entry('a', 5), entry('b', 6)],
    listed: [entry('a', 5)],
    listRevision: 7,
    expected: ['vanished b'],
    rewritten: true,
  },
  {
    name: 'another cluster',
    why: 'gap',
    held: [entry('a', 5)],
    listed: [],
    listRevision: 50,
    clusterId: '2',
    expected: ['vanished a'],
    rewritten: true,
  },
  {
    name: 'same revisions, other content',
    why: 'gap',
    held: [entry('a', 5)],
    listed: [entry('a', 5, 'w')],
    listRevision: 50,
    expected: ['put a'],
    rewritten: true,
  },
  {
    name: 'a key from before that we never saw',
    why: 'gap',
    held: [entry('a', 5)],
    listed: [entry('a', 5), entry('x', 4)],
    listRevision: 50,
    expected: ['put x'],
    rewritten: true,
  },
  { name: 'check: equal', why: 'check', held: [entry('a', 5)], listed: [entry('a', 5)], expected: [] },
  {
    name: 'check: the watch is ahead with a put',
    why: 'check',
    held: [entry('a', 15, 'w', 5)],
    heldRevision: 15,
    listed: [entry('a', 5)],
    expected: [],
  },
  {
    name: 'check: the watch is ahead with a new key',
    why: 'check',
    held: [entry('a', 15)],
    heldRevision: 15,
    listed: [],
    expected: [],
  },
  {
    name: 'check: the watch is ahead with a deletion',
    why: 'check',
    held: [],
    heldRevision: 15,
    deletes: { a: 14 },
    listed: [entry('a', 5)],
    expected: [],
  },
  {
    name: 'check: a put was lost',
    why: 'check',
    held: [entry('a', 5)],
    listed: [entry('a', 8, 'w', 5)],
    expected: ['put a'],
  },
  { name: 'check: a new key was lost', why: 'check', held: [], listed: [entry('a', 5)], expected: ['put a'] },
  {
    name: 'check: a deletion was lost',
    why: 'check',
    held: [entry('a', 5)],
    listed: [],
    expected: ['vanished a'],
  },
  {
    name: 'check: deleted and made again, the second lost',
    why: 'check',
    held: [],
    deletes: { a: 6 },
    listed: [entry('a', 8)],
    expected: ['put a'],
  },
];

for (const {
  name,
  why,
  held,
  heldRevision = 10,
  deletes = {},
  listed,
  listRevision = 10,
  clusterId = '1',
  expected,
  rewritten = false,
} of cases) {
  t.test(`diffList(${why}) ${name}`, (t) => {
    const diff = diffList(
      {
        stamps: new Map(held.map((row) => [row.key, stampOf(row)])),
        position: { revision: BigInt(heldRevision), clusterId: '1' },
        recentDeletes: new Map(Object.entries(deletes).map(([key, revision]) => [key, BigInt(revision)])),
      },
      {
        entries: listed.map((row) => ({ key: row.key, stamp: stampOf(row), entry: row })),
        revision: BigInt(listRevision),
        clusterId,
      },
      why,
    );
    t.strictSame(
      diff.events.map((event) => `${event.kind} ${event.kind === 'put' ? event.entry.key : event.key}`),
      expected,
    );
    t.equal(diff.isRewritten, rewritten);
    t.end();
  });
}
