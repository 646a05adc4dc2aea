import t from 'tap';
import { resultsOf, rowOf, suiteOf } from './made-up-results.js';
import { fullReport, replaceBetweenMarks, shortReport } from './markdown.js';

const CHART = { light: 'a.svg', dark: 'a-dark.svg' };
const results = resultsOf(
  [
    suiteOf('peers', [
      rowOf('twill', 'TCP 1 stream, Cubic', [1, 2, 3]),
      rowOf('twill', 'TCP 4 streams, Cubic', [4]),
      rowOf('plain packet loop', 'TCP 1 stream, Cubic', [0.5]),
      rowOf('bare veth', 'TCP 1 stream, Cubic', [9]),
    ]),
  ],
  { notes: ['nothing else ran'] },
);

t.test('shortReport() has a row for each way of the picture, one stream and four in a cell', (t) => {
  const text = shortReport(results, CHART);
  t.match(text, '| **twill** | 2.00 / 4.00 | – |');
  t.match(text, '| plain packet loop | 0.50 / – |');
  t.notMatch(text, /bare veth|flanneld/);
  t.match(text, 'srcset="a-dark.svg"');
  t.match(text, 'Nothing else ran.');
  t.end();
});

t.test('fullReport() shows median and range, and leaves out who did not take part in a table', (t) => {
  const text = fullReport(results, CHART);
  t.match(text, '| twill | 2.00 (1.00–3.00) | 4.00 (4.00–4.00) |');
  t.match(text, '| bare veth | 9.00 (9.00–9.00) | – |');
  t.match(text, 'not measured');
  t.end();
});

t.test('replaceBetweenMarks() replaces what is between them, and names a page without them', (t) => {
  const page = 'a\n<!-- bench:x -->\nold\n<!-- /bench:x -->\nb\n';
  const after = replaceBetweenMarks('P.md', page, 'x', 'new');
  t.equal(after, 'a\n<!-- bench:x -->\n\nnew\n\n<!-- /bench:x -->\nb\n');
  t.equal(replaceBetweenMarks('P.md', after, 'x', 'new'), after);
  t.throws(() => replaceBetweenMarks('P.md', page, 'y', 'new'), { message: /^P\.md: expected the marks/ });
  t.end();
});
