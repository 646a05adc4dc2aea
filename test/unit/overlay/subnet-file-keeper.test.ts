import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pino from 'pino';
import t from 'tap';
import { parsePrefix } from '../../../src/net/prefix.js';
import { formatSubnetFile } from '../../../src/overlay/subnet-file.js';
import { SubnetFileKeeper } from '../../../src/overlay/subnet-file-keeper.js';
import { textsOf } from '../../support/conditions.js';
import { folderOf } from '../../support/folder.js';

const CONTENT = {
  networks: { v4: parsePrefix('10.5.0.0/16')! },
  subnets: { v4: parsePrefix('10.5.1.0/24')! },
  mtuBytes: 1472,
  ipMasq: false,
};

t.test('SubnetFileKeeper', async (t) => {
  const folder = join(folderOf(t), 'run');
  const path = join(folder, 'subnet.env');
  const keeper = new SubnetFileKeeper(path, pino({ level: 'silent' }));
  t.teardown(() => keeper.close());
  await keeper.check();
  t.throws(() => readFileSync(path), 'nothing is written before it is known what');
  await keeper.write(CONTENT);
  t.equal(readFileSync(path, 'utf8'), formatSubnetFile(CONTENT));

  rmSync(folder, { recursive: true });
  await keeper.check();
  t.equal(readFileSync(path, 'utf8'), formatSubnetFile(CONTENT), 'with its folder');
  t.match(keeper.metrics(), [{ name: 'subnet_file_repairs_total', values: [{ value: 1 }] }]);

  writeFileSync(path, 'x');
  await keeper.check();
  t.equal(readFileSync(path, 'utf8'), formatSubnetFile(CONTENT), 'what somebody else wrote');
  writeFileSync(path, 'y');
  await keeper.check();
  t.equal(readFileSync(path, 'utf8'), 'y', 'but not at full speed');

  rmSync(folder, { recursive: true });
  writeFileSync(folder, 'in the way');
  await keeper.check();
  t.match(textsOf(keeper), [/^Cannot write subnet file/]);
  rmSync(folder);
  await keeper.check();
  t.strictSame(textsOf(keeper), []);
  await keeper.close();
  rmSync(path);
  await keeper.check();
  t.throws(() => readFileSync(path), 'not after close()');
});
