import t from 'tap';
import { type Dual, familiesOf, firstOf, mapDual, sameDual } from '../../../src/net/dual.js';

const PAIRS: readonly { pair: Dual<number>; families: string[]; first: number; doubled: object }[] = [
  { pair: { v4: 1 }, families: ['v4'], first: 1, doubled: { v4: 'v4 2' } },
  { pair: { v6: 2 }, families: ['v6'], first: 2, doubled: { v6: 'v6 4' } },
  { pair: { v4: 1, v6: 2 }, families: ['v4', 'v6'], first: 1, doubled: { v4: 'v4 2', v6: 'v6 4' } },
  { pair: { v4: 0, v6: 2 }, families: ['v4', 'v6'], first: 0, doubled: { v4: 'v4 0', v6: 'v6 4' } },
];

t.test('familiesOf(), firstOf() and mapDual() take what is there, IPv4 first', (t) => {
  for (const { pair, families, first, doubled } of PAIRS) {
    t.same(familiesOf(pair), families);
    t.equal(firstOf(pair), first);
    t.strictSame(
      mapDual(pair, (value, family) => `${family} ${2 * value}`),
      doubled,
    );
  }
  t.end();
});

t.test('sameDual() asks for the same families and the same values', (t) => {
  PAIRS.forEach(({ pair }, i) =>
    PAIRS.forEach(({ pair: other }, j) => t.equal(sameDual({ ...pair }, other), i === j, `${i} and ${j}`)),
  );
  const isSame = (a: string, b: string): boolean => a.toLowerCase() === b.toLowerCase();
  t.ok(sameDual({ v4: 'a' }, { v4: 'A' }, isSame));
  t.notOk(sameDual({ v4: 'a' }, { v6: 'A' }, isSame));
  t.end();
});
