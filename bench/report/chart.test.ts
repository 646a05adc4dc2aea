import t from 'tap';
import { describeChart, drawChart, THEMES } from './chart.js';
import { resultsOf, rowOf, suiteOf } from './made-up-results.js';

const ONE = 'TCP 1 stream, Cubic';
const results = resultsOf([
  suiteOf('peers', [
    rowOf('twill', ONE, [10, 20, 30]),
    rowOf('kernel vxlan', ONE, [10, 10, 11]),
    rowOf('twill', 'connections', [9371.4]),
  ]),
]);

t.test('drawChart() has a bar for each way that was measured, as long as its median', (t) => {
  const svg = drawChart(results, THEMES.light);
  const widths = [...svg.matchAll(/<rect [^>]*width="([\d.]+)"/g)].map(([, width]) => Number(width));
  t.equal(widths.length, 3);
  t.equal(widths[0], 2 * widths[1], '20 to 10');
  t.equal(widths[2], widths[0], 'each panel has a scale of its own');
  for (const value of ['20.0', '10.0', '9,371']) t.ok(svg.includes(`>${value}<`), value);
  t.match(svg, /2 cores, medians of 3 rounds/);
  t.end();
});

t.test('drawChart() draws the same for dark pages in other colours', (t) => {
  const [light, dark] = [THEMES.light, THEMES.dark].map((theme) => drawChart(results, theme));
  t.not(light, dark);
  const plain = (svg: string): string => svg.replace(/#[0-9a-f]{6}/g, '#');
  t.equal(plain(light), plain(dark));
  t.end();
});

t.test('describeChart() says the first panel in words', (t) => {
  t.equal(describeChart(results), 'One download, Gbit/s: twill 20.0, the kernel’s VXLAN 10.0');
  t.end();
});
