import t from 'tap';
import { randomOf } from '../test/support/random.js';
import { shuffled } from './suite.js';
import { makeQuickSuites, makeSuites } from './suites.js';

t.test('shuffled() keeps all values, gives a seed the same order and other rounds others', (t) => {
  const values = ['a', 'b', 'c', 'd', 'e'];
  const orders = (seed: number): string[] => {
    const random = randomOf(seed);
    return Array.from({ length: 20 }, () => shuffled(values, random).join(''));
  };
  t.same(orders(7), orders(7));
  t.not(orders(7).join(), orders(8).join());
  t.ok(new Set(orders(7)).size > 10);
  for (const order of orders(7)) t.same([...order].sort(), values);
  t.same(new Set(orders(7).map((order) => order[0])).size, values.length, 'each is first some time');
  t.end();
});

t.test('a suite has each peer once', (t) => {
  for (const { name, entries } of [...makeSuites(), ...makeQuickSuites()]) {
    const names = entries.map(({ kind }) => kind.name);
    t.equal(new Set(names).size, names.length, name);
  }
  t.end();
});
