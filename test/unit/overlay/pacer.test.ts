import t from 'tap';
import { DiffPacer } from '../../../src/overlay/pacer.js';
import type { PeerDiff } from '../../../src/lease/lease.js';
import { leaseOf } from '../../support/leases.js';

const added = (third: number): PeerDiff => {
  return {
    added: [leaseOf({ subnet: `10.5.${third}.0/24`, publicIp: '172.20.0.1' })],
    changed: [],
    removed: [],
  };
};

t.test('DiffPacer: the first at once, a storm in few pieces, none lost', async (t) => {
  const applied: PeerDiff[] = [];
  const pacer = new DiffPacer((diff) => applied.push(diff));
  pacer.push(added(0));
  t.equal(applied.length, 1, 'a change that comes alone is not held up');
  for (let i = 1; i <= 200; i++) pacer.push(added(i));
  t.equal(applied.length, 1);
  await new Promise((resolve) => setTimeout(resolve, 150));
  t.equal(applied.length, 2, 'the others together');
  t.equal(applied[1].added.length, 200);
  await new Promise((resolve) => setTimeout(resolve, 250));
  t.equal(applied.length, 2, 'and nothing more');
  pacer.push({ added: [], changed: [], removed: [] });
  t.equal(applied.length, 3, 'an empty first snapshot is passed on');
  pacer.push(added(9));
  pacer.close();
  pacer.close();
  await new Promise((resolve) => setTimeout(resolve, 150));
  t.equal(applied.length, 3, 'nothing reaches a backend that is being closed');
});
