import t from 'tap';
import { leanEvent, leanItem } from '../../../../../src/store/kube/api/lean-object.js';

const METADATA = { name: 'a', annotations: { text: ',"status":{"x":1}}' } };
const NODE = { metadata: METADATA, spec: { podCIDR: '10.1.0.0/24' }, status: { images: [1] } };
const LEAN = { metadata: METADATA, spec: NODE.spec };

function check(parse: typeof parseItem, value: unknown, expected: unknown, name: string): void {
  t.strictSame(parse(Buffer.from(JSON.stringify(value)), 'it'), expected, name);
  const spaced = parse(Buffer.from(JSON.stringify(value, null, 1)), 'it');
  t.strictSame(spaced, value, `${name}, with spaces: whole`);
}

const parseItem = leanItem('own');

t.test('leanItem() leaves out the status of all but one object', (t) => {
  check(parseItem, NODE, LEAN, 'a node');
  const own = { ...NODE, metadata: { ...METADATA, name: 'own' } };
  check(parseItem, own, own, 'the own one');
  check(parseItem, { metadata: METADATA }, { metadata: METADATA }, 'metadata alone');
  check(parseItem, {}, {}, 'nothing');
  for (const odd of [
    { metadata: { name: 'a', x: 1, status: { name: 'own' } }, spec: {} }, // deeper than it should be
    { metadata: METADATA, list: [0, { x: 1, status: {} }] },
    { status: {}, metadata: METADATA }, // not behind a comma
    { metadata: METADATA, status: 'Failure' },
  ])
    check(parseItem, odd, odd, JSON.stringify(odd));
  t.end();
});

t.test('leanEvent() leaves out the status of the object of an event', (t) => {
  const parse = leanEvent('own');
  check(parse, { type: 'MODIFIED', object: NODE }, { type: 'MODIFIED', object: LEAN }, 'a node');
  const own = { type: 'ADDED', object: { ...NODE, metadata: { name: 'own' } } };
  check(parse, own, own, 'the own one');
  for (const whole of [
    { type: 'ERROR', object: { kind: 'Status', x: 1, status: {}, code: 410 } },
    { type: 'ERROR', object: { kind: 'Status', status: 'Failure', code: 410 } },
    { type: 'BOOKMARK', object: { metadata: { resourceVersion: '7' } } },
    { type: 'MODIFIED', status: {}, object: NODE },
  ])
    check(parse, whole, whole, JSON.stringify(whole));
  t.end();
});

t.test('what is no object is refused, whole or cut', (t) => {
  for (const text of ['', '[]', '7', '{"a":1', '{"a":1,"b"', '[1,"status":{}]'])
    t.throws(() => parseItem(Buffer.from(text), 'item 3'), { name: 'SyntaxError', message: /^item 3 is / });
  t.throws(() => leanEvent('own')(Buffer.from('{"object":[1,"status":{}]}'), 'it'), SyntaxError);
  t.end();
});
