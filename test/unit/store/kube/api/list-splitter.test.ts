import t from 'tap';
import type { ApiObject, ListEnd } from '../../../../../src/store/kube/api/client.js';
import { ListSplitter } from '../../../../../src/store/kube/api/list-splitter.js';

interface Found extends ListEnd {
  readonly items: readonly ApiObject[];
}

function split(chunks: readonly Buffer[]): Found {
  const items: ApiObject[] = [];
  const splitter = new ListSplitter((item) => items.push(item));
  for (const chunk of chunks) splitter.write(chunk);
  return { ...splitter.end(), items };
}

/** The text whole, in two at every place, and byte by byte. */
function* cuts(text: string): Generator<readonly Buffer[]> {
  const bytes = Buffer.from(text);
  yield [bytes];
  for (let at = 1; at < bytes.length; at++) yield [bytes.subarray(0, at), bytes.subarray(at)];
  yield Array.from(bytes, (byte) => Buffer.of(byte));
}

const NODES = [
  { metadata: { name: 'a', annotations: { text: '"items":[{"]}\\' } }, spec: { podCIDRs: ['10.1.0.0/24'] } },
  { metadata: { name: 'ü€𝄞', empty: {}, list: [[], [{}], 'x\\\\"'] } },
  {},
];

t.test('ListSplitter tells what JSON.parse() would find, wherever the answer is cut', (t) => {
  const metadata = { resourceVersion: '17', continue: 'abc', more: ['"items":[', { items: [{}] }] };
  const bodies = [
    { kind: 'NodeList', metadata, items: NODES },
    { items: NODES, metadata, kind: 'x"items":[' },
    { kind: 'NodeList', metadata: { resourceVersion: '17' }, items: [] },
    { metadata: { resourceVersion: '' }, 'a,"items"': [1, 2], items: [{ items: [{ items: [] }] }] },
  ];
  for (const body of bodies) {
    for (const text of [JSON.stringify(body), `${JSON.stringify(body, null, 2)}\n`]) {
      const wanted = {
        resourceVersion: body.metadata.resourceVersion,
        continueToken: 'continue' in body.metadata ? body.metadata.continue : undefined,
        items: body.items,
      };
      for (const chunks of cuts(text)) t.strictSame(split(chunks), wanted);
    }
  }
  t.strictSame(split([Buffer.from('{"items":null,"metadata":{"resourceVersion":"1"}}')]).items, []);
  t.same(split([Buffer.from('{"items":[]}')]), { resourceVersion: '', continueToken: undefined, items: [] });
  t.end();
});

t.test('ListSplitter.end() refuses an answer that was cut off, at every byte', (t) => {
  const bytes = Buffer.from(JSON.stringify({ kind: 'NodeList', metadata: {}, items: NODES }));
  for (let length = 0; length < bytes.length; length++)
    t.throws(() => split([bytes.subarray(0, length)]), { name: 'SyntaxError' });
  t.throws(() => split([bytes.subarray(0, 120)]), /the list is cut off after \d items/);
  t.throws(() => split([]), /the answer is empty/);
  t.end();
});

t.test('ListSplitter refuses what is no list of objects', (t) => {
  const cases: [text: string, expected: RegExp][] = [
    ['{"kind":"Status"}', /the answer has no items/],
    ['<html>"</html>', /cut off/],
    ['<html></html>', /the list is not valid JSON/],
    ['[]', /the list is no object/],
    ['{"items":[1]}', /what follows item 0 is no item/],
    ['{"items":[{},]}', /what follows item 1 is no item/],
    ['{"items":[,{}]}', /what follows item 0 is no item/],
    ['{"items":[{}{}]}', /what follows item 1 is no item/],
    ['{"items":[{},,{}]}', /what follows item 1 is no item/],
    ['{"items":[{"secret"}]}', /^item 1 is not valid JSON$/],
    ['{"items":[{"a":[}]}', /item 1 is not valid JSON|cut off/],
    ['{"items":[]}}', /cut off|not valid/],
    ['{"items":[]} {', /cut off/],
    ['{"items":[]} x', /the list is not valid JSON/],
    [']]{"items":[{}', /cut off|not valid/],
  ];
  for (const [text, expected] of cases)
    t.throws(() => split([Buffer.from(text)]), { message: expected }, text);
  t.end();
});

t.test('ListSplitter bounds an item and what is around', (t) => {
  const million = Buffer.alloc(1 << 20, 'x');
  t.throws(() => split([Buffer.from('{"kind":"'), million]), /around the items has more than/);
  const begun = [Buffer.from('{"items":[{"a":"')];
  t.throws(() => split([...begun, ...Array.from({ length: 8 }, () => million)]), /an item has more than/);
  t.throws(() => split([...begun, Buffer.alloc(9 << 20, 'x'), Buffer.from('"}]}')]), /an item has more than/);
  const many = Buffer.from(`{${'"a":[],'.repeat(140_000)}"items":[]}`);
  const startedMs = performance.now();
  t.same(split([many]).items, []);
  t.ok(performance.now() - startedMs < 2000, 'many arrays around cost no square of them');
  t.end();
});

t.test('ListSplitter lets out what its listener throws', (t) => {
  const splitter = new ListSplitter(() => {
    throw new RangeError('enough');
  });
  t.throws(() => splitter.write(Buffer.from('{"items":[{}')), new RangeError('enough'));
  t.equal(splitter.items, 1);
  t.end();
});
