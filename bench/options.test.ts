import t from 'tap';
import { checkOptions } from './options.js';

t.test('checkOptions() refuses what a benchmark does not know, and names what it does', (t) => {
  const known = ['quick', 'rounds=N', 'note=TEXT'];
  t.equal(checkOptions(['compare', '--quick', '--rounds=3', '--note=a=b', '--note=c'], known), undefined);
  const expected = 'expected --quick, --rounds=N, --note=TEXT';
  t.equal(checkOptions(['--quikc'], known), `Unknown option "--quikc": ${expected}`);
  t.equal(checkOptions(['-q'], known), `Unknown option "-q": ${expected}`);
  t.equal(checkOptions(['--'], known), `Unknown option "--": ${expected}`);
  t.equal(checkOptions(['--quick=yes'], known), '"--quick=yes": expected --quick');
  t.equal(checkOptions(['--rounds'], known), '"--rounds": expected --rounds=N');
  t.equal(checkOptions(['--rounds='], known), '"--rounds=": expected --rounds=N');
  t.equal(checkOptions(['--quick'], []), 'Unknown option "--quick": expected none');
  t.end();
});
