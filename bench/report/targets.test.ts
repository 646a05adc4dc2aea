import t from 'tap';
import { resultsOf, rowOf, suiteOf } from './made-up-results.js';
import { isMet, TARGETS } from './targets.js';

const results = resultsOf([
  suiteOf('peers', [
    rowOf('twill', 'connections', [90, 100, 110]),
    rowOf('kernel vxlan', 'connections', [100, 100, 100]),
    rowOf('twill --lane=off', 'connections', [40]),
    rowOf('twill', 'round trip idle p50', [70]),
    rowOf('kernel vxlan', 'round trip idle p50', [60]),
  ]),
]);

const verdicts = TARGETS.map((target) => {
  const value = target.value(results);
  return { what: target.what, value, met: isMet(target, value), engine: target.engine?.(results) };
});
const find = (what: string): (typeof verdicts)[number] | undefined =>
  verdicts.find((one) => one.what === what);

t.test('a target is a ratio of medians, the bound included', (t) => {
  t.match(find('connections, of kernel vxlan'), { value: 1, met: true, engine: 0.4 });
  const slower = find('round trip idle p50, of kernel vxlan');
  t.match(slower, { met: false });
  t.match(slower?.value.toFixed(2), '1.17');
  t.end();
});

t.test('what was not measured is neither met nor missed', (t) => {
  t.equal(find('TCP 1 stream, BBR, of kernel vxlan')?.met, undefined);
  t.equal(verdicts.filter(({ met }) => met !== undefined).length, 2);
  t.end();
});

t.test('each target has words of its own', (t) => {
  t.equal(new Set(TARGETS.map(({ what }) => what)).size, TARGETS.length);
  t.end();
});
