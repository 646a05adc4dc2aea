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

t.test('settle() gives up where a repair changes nothing, and after four tries', async (t) => {
  const world = { value: 'wrong' };
  const refuse = () => {
    throw new Error('refused');
  };
  await t.rejects(settle(settling(world, refuse)), { message: 'refused' });
  await t.rejects(settle(settling(world, () => undefined)), { message: 'unseen' });
  let tries = 0;
  await t.rejects(settle(settling(world, () => (world.value = `wrong ${++tries}`))), { message: 'unseen' });
  t.equal(tries, 4);
});
