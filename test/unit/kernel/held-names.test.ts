// What a daemon holds against the others of its host. Each test has a network of its own, since names are the host's.

import { join } from 'node:path';
import t from 'tap';
import { askHolder } from '../../../src/kernel/host-lock.js';
import { abandonedNetwork, HeldNames } from '../../../src/kernel/held-names.js';
import { parsePrefix } from '../../../src/net/prefix.js';
import { folderOf } from '../../support/folder.js';

const second = 16 + (process.pid % 200);
const NETWORK = parsePrefix(`10.${second}.0.0/17`)!;
const BESIDE = parsePrefix(`10.${second}.128.0/17`)!;
const AROUND = parsePrefix(`10.${second}.0.0/16`)!;

function names(owner: string): HeldNames {
  const held = new HeldNames(owner, (text) => t.fail(text));
  t.teardown(() => held.close());
  return held;
}

t.test('HeldNames excludes the other daemons until close()', async (t) => {
  const path = join(folderOf(t), 'subnet.env');
  const first = names('pid 1');
  const other = names('pid 2');
  await first.holdSubnetFile(path);
  await first.holdSubnetFile(path); // what is ours already is no error
  await first.holdNetwork(NETWORK);
  t.equal(await first.holdDevice(`dev${process.pid}`), true);

  await t.rejects(other.holdSubnetFile(path), {
    code: 'E_RUNNING',
    message: `Another daemon (pid 1) has the subnet file ${path}: give each its own --subnet-file`,
  });
  await t.rejects(other.holdNetwork(NETWORK), { code: 'E_RUNNING' });
  const around = names('pid 3');
  await t.rejects(around.holdNetwork(AROUND), { code: 'E_CONFIG', message: /^Network .* overlaps / });
  await around.close();
  t.equal(await other.holdDevice(`dev${process.pid}`), false);
  await other.holdNetwork(BESIDE);

  await first.close();
  await first.close();
  await other.holdSubnetFile(path);
  t.equal(await other.holdDevice(`dev${process.pid}`), true);
});

t.test('HeldNames.close() lets go of what was still being asked for', async (t) => {
  const late = names('pid 4');
  const holding = late.holdDevice(`late${process.pid}`);
  await late.close();
  await holding;
  t.equal(await askHolder(`device/late${process.pid}`), undefined);
});

t.test('abandonedNetwork() is what nobody serves any more', async (t) => {
  const network = parsePrefix(`172.${16 + (second % 16)}.0.0/20`)!;
  const previous = parsePrefix(`172.${16 + (second % 16)}.16.0/20`)!;
  t.equal(await abandonedNetwork(undefined, network), undefined);
  t.equal(await abandonedNetwork(network, network), undefined);
  t.same(await abandonedNetwork(parsePrefix('192.168.0.0/24'), network), parsePrefix('192.168.0.0/24'));
  const server = names('pid 6');
  await server.holdNetwork(previous);
  t.equal(await abandonedNetwork(previous, network), undefined, 'another daemon serves it');
});
