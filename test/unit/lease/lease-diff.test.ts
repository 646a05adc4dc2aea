import t from 'tap';
import type { Peer, PeerDiff } from '../../../src/lease/lease.js';
import { DiffAccumulator } from '../../../src/lease/lease-diff.js';
import { leaseOf } from '../../support/leases.js';

const lease = (third: number, host: number, id?: string): Peer =>
  leaseOf({
    subnet: `10.5.${third}.0/24`,
    publicIp: `192.0.2.${host}`,
    created: 1n,
    ...(id === undefined ? {} : { id }),
  });

const diff = (parts: Partial<PeerDiff>): PeerDiff => ({ added: [], changed: [], removed: [], ...parts });

t.test('DiffAccumulator: what two changes of one lease amount to', (t) => {
  const [old, young] = [lease(1, 1), lease(1, 2)];
  const cases: [Partial<PeerDiff>, Partial<PeerDiff>, Partial<PeerDiff> | undefined][] = [
    [{ added: [old] }, { changed: [young] }, { added: [young] }],
    [{ added: [old] }, { removed: [old] }, undefined],
    [{ changed: [old] }, { changed: [young] }, { changed: [young] }],
    [{ changed: [old] }, { removed: [old] }, { removed: [old] }],
    [{ removed: [old] }, { added: [young] }, { changed: [young] }],
  ];
  for (const [first, second, expected] of cases) {
    const all = new DiffAccumulator();
    all.add(diff(first));
    all.add(diff(second));
    const name = `${Object.keys(first)[0]}, then ${Object.keys(second)[0]}`;
    t.same(all.take(), expected && diff(expected), name);
    t.equal(all.take(), undefined, 'it starts anew');
  }
  t.end();
});

t.test('DiffAccumulator: any sequence of diffs leads to the same leases as one after the other', (t) => {
  let seed = 7;
  const random = (below: number): number => (seed = (seed * 48_271) % 2_147_483_647) % below;
  const applyTo = (leases: Map<string, Peer>, { removed, added, changed }: PeerDiff): void => {
    for (const { id } of removed) t.ok(leases.delete(id), 'only what is there is removed');
    for (const one of added) t.notOk(leases.has(one.id), 'only what is new is added');
    for (const one of [...added, ...changed]) leases.set(one.id, one);
  };
  for (let run = 0; run < 50; run++) {
    const stepwise = new Map<string, Peer>();
    const atOnce = new Map<string, Peer>();
    const all = new DiffAccumulator();
    for (let step = 0; step < 40; step++) {
      const third = random(6);
      const known = stepwise.get(`10.5.${third}.0-24`);
      const next = lease(third, 1 + random(200));
      const one = diff(
        known === undefined
          ? { added: [next] }
          : random(2) === 0
            ? { changed: [next] }
            : { removed: [known] },
      );
      applyTo(stepwise, one);
      all.add(one);
      if (random(5) > 0) continue;
      const merged = all.take();
      if (merged !== undefined) applyTo(atOnce, merged);
      t.same([...atOnce].sort(), [...stepwise].sort());
    }
  }
  t.end();
});

t.test('DiffAccumulator: a lease that moves to another subnet goes and comes, it does not change', (t) => {
  const [old, moved, back] = [lease(1, 1, 'host'), lease(2, 1, 'host'), lease(1, 2, 'host')];
  const all = new DiffAccumulator();
  all.add(diff({ removed: [old], added: [moved] }));
  t.same(all.take(), diff({ removed: [old], added: [moved] }));
  all.add(diff({ removed: [old], added: [moved] }));
  all.add(diff({ removed: [moved], added: [back] }));
  t.same(all.take(), diff({ changed: [back] }), 'and back');
  all.add(diff({ removed: [old], added: [moved] }));
  all.add(diff({ removed: [moved] }));
  t.same(all.take(), diff({ removed: [old] }));
  t.end();
});
