import t from 'tap';
import { field, fieldKey, parseJson } from '../../../src/config/go-json.js';

void t.test('field() matches names in any case, the exact one first, of duplicates the last', (t) => {
  const cases: readonly (readonly [string, unknown])[] = [
    ['{"Network":1}', 1],
    ['{"network":1}', 1],
    ['{"NETWORK":1,"nEtWoRk":2}', 2],
    ['{"Network":1,"network":2}', 1],
    ['{"network":2,"Network":1}', 1],
    ['{"Network":1,"Network":2}', 2],
    ['{"Network":null}', null],
    ['{"Networks":1}', undefined],
    ['{}', undefined],
    ['[1]', undefined],
    ['"Network"', undefined],
    ['null', undefined],
    ['7', undefined],
  ];
  for (const [text, expected] of cases) t.equal(field(parseJson(text), 'Network'), expected, text);
  t.equal(fieldKey(parseJson('{"nETWORK":1}'), 'Network'), 'nETWORK');
  t.end();
});

void t.test('field() never finds what an object inherits', (t) => {
  for (const name of ['__proto__', 'constructor', 'toString', 'hasOwnProperty'])
    t.equal(field(parseJson('{}'), name), undefined, name);
  t.end();
});

void t.test('parseJson() keeps "__proto__" an ordinary key at every depth', (t) => {
  const value = parseJson('{"__proto__":{"Network":1},"a":[{"__proto__":{"b":2}}]}');
  t.equal(field(value, 'Network'), undefined);
  t.equal(field(field(value, '__proto__'), 'Network'), 1);
  const [inner] = field(value, 'a') as unknown[];
  t.equal(field(inner, 'b'), undefined);
  t.equal(({} as Record<string, unknown>)['Network'], undefined, 'nothing reached Object.prototype');
  t.end();
});

void t.test('parseJson() bounds depth, and braces in strings do not count', (t) => {
  const nested = (depth: number): string => '['.repeat(depth) + ']'.repeat(depth);
  t.ok(parseJson(nested(32)));
  t.throws(() => parseJson(nested(33)), { name: 'SyntaxError', message: /33 deep: expected at most 32/ });
  t.throws(() => parseJson('['.repeat(500_000)), { message: /nested 500000 deep/ });
  t.throws(() => parseJson('{"a":'.repeat(40)), { message: /nested 40 deep/ });
  t.equal(parseJson(JSON.stringify('['.repeat(100))), '['.repeat(100));
  t.equal(parseJson('"\\"[[[["', { maxDepth: 0 }), '"[[[[');
  t.equal(parseJson('"\\\\"', { maxDepth: 0 }), '\\');
  t.throws(() => parseJson('["\\\\",[]]', { maxDepth: 1 }), { message: /2 deep/ });
  t.end();
});

void t.test('parseJson() bounds size in bytes, not characters', (t) => {
  t.equal(parseJson('"éé"', { maxBytes: 6 }), 'éé');
  t.throws(() => parseJson('"éé"', { maxBytes: 5 }), { message: /6 bytes of JSON: expected at most 5/ });
  t.throws(() => parseJson(`"${'x'.repeat(1 << 20)}"`), { message: /expected at most 1048576/ });
  t.end();
});

void t.test('parseJson() says that text is not JSON', (t) => {
  for (const text of [
    '',
    '{',
    '{"a":1,}',
    "{'a':1}",
    '{"a":1} x',
    '// c\n{}',
    '\ufeff{}',
    'NaN',
    ']',
    '{"a"',
  ])
    t.throws(
      () => parseJson(text),
      { name: 'SyntaxError', message: /^not valid JSON: / },
      JSON.stringify(text),
    );
  t.end();
});
