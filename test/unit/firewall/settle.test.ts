import t from 'tap';
import { settle } from '../../../src/firewall/settle.js';

interface World {
  value: string;
}

const settling = (world: World, repair: (found: string) => void) => ({
  list: () => Promise.resolve(world.value),
  isRight: (found: string) => found === 'right',
  repair: async (found: string) => {
    await Promise.resolve();
    repair(found);
  },
  isDone: (found: string) => found === 'right',
  unseen: (failure: unknown) => (failure instanceof Error ? failure : new Error('unseen')),
});

t.test('settle() repairs again when another program came between', async (t) => {
  const world = { value: 'right' };
  t.equal(await settle(settling(world, () => t.fail('repaired'))), false);
  world.value = 'wrong';
  const seen: string[] = [];
  const repair = (found: string) => {
    seen.push(found);
    if (seen.length === 1) {
      world.value = 'changed';
      throw new Error('stale');
    }
    world.value = seen.length === 2 ? 'undone' : 'right';
  };
  t.equal(await settle(settling(world, repair)), true);
  t.strictSame(seen, ['wrong', 'changed', 'undone']);
});

t.test(
  'settle() tries once more where a refused repair left the same, and gives up after the second',
  async (t) => {
    const world = { value: 'wrong' };
    let tries = 0;
    const refuseOnce = () => {
      if (++tries === 1) throw new Error('File exists');
      world.value = 'right';
    };
    t.equal(await settle(settling(world, refuseOnce)), true);
    t.equal(tries, 2);

    world.value = 'wrong';
    tries = 0;
    const refuse = () => {
      tries++;
      throw new Error('refused');
    };
    await t.rejects(settle(settling(world, refuse)), { message: 'refused' });
    t.equal(tries, 2);
    await t.rejects(settle(settling(world, () => undefined)), { message: 'unseen' });
  },
);

t.test('settle() gives up after six tries that were all undone', async (t) => {
  const world = { value: 'wrong' };
  let tries = 0;
  await t.rejects(settle(settling(world, () => (world.value = `wrong ${++tries}`))), { message: 'unseen' });
  t.equal(tries, 6);
});

t.test('settle() does not pause any longer when its signal aborts', async (t) => {
  const abort = new AbortController();
  const repair = () => {
    abort.abort();
    throw new Error('stale');
  };
  await t.rejects(settle({ ...settling({ value: 'wrong' }, repair), signal: abort.signal }), {
    message: 'stale',
  });
});

t.test('settle(): two that double and remove a shared rule in step both come to an end', async (t) => {
  // Each adds the rule when there is none, and removes one when there are two, from a list that both took before.
  let rules = 0;
  const contender = () =>
    settle<number>({
      list: () => Promise.resolve(rules),
      isRight: (found) => found === 1,
      repair: async (found) => {
        await Promise.resolve();
        rules += found === 0 ? 1 : -1;
      },
      isDone: (found) => found === 1,
      unseen: () => new Error('never settled'),
    });
  await Promise.all([contender(), contender()]);
  t.equal(rules, 1);
});
