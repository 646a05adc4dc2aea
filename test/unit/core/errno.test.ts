import t from 'tap';
import { errnoName } from '../../../src/core/errno.js';

t.test('errnoName() has a word for each number that the kernel may answer', (t) => {
  for (const [errno, name] of [
    [-1, 'EPERM'],
    [95, 'ENOTSUP'],
    [-116, 'ESTALE'],
    [-77, 'EBADFD'],
    [109, 'ETOOMANYREFS'],
    [-999, 'errno 999'],
  ] as const)
    t.equal(errnoName(errno), name);
  t.end();
});
