// Names that one daemon of a host holds.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import t from 'tap';
import {
  askHolder,
  heldNames,
  holdName,
  type HostLock,
  holdOrRefuse,
  parseHeldNames,
} from '../../../src/kernel/host-lock.js';

const NAME = `network/10.5.0.0/16 of test ${process.pid}`;

t.test('holdName() excludes a second holder until the first lets go', async (t) => {
  const first = await holdName(NAME, 'pid 1, twill 0.1.0');
  t.ok(first);
  t.equal(await holdName(NAME, 'second'), undefined);
  t.equal(await askHolder(NAME), 'pid 1, twill 0.1.0');
  t.ok((await heldNames()).includes(NAME));
  const other = await holdName(`${NAME}7`, 'a longer name is another');
  t.ok(other);
  await first!.close();
  const next = await holdName(NAME, 'next');
  t.ok(next, 'free again');
  await Promise.all([next!.close(), other!.close()]);
  t.equal(await askHolder(NAME), undefined);
});

t.test('holdName() waits for a holder that is about to end', async (t) => {
  const first = (await holdName(NAME, 'first'))!;
  const second = holdName(NAME, 'second');
  setImmediate(() => void first.close());
  const held = await second;
  t.ok(held);
  await held!.close();
});

t.test('a name is free when its holder is killed', async (t) => {
  const script = `
    const path = ('\\0twill/${NAME}').padEnd(108, '\\0');
    require('node:net').createServer().listen({ path }, () => console.log('held'));`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  t.equal(await holdName(NAME, 'too early'), undefined);
  child.kill('SIGKILL');
  await once(child, 'exit');
  const held = await holdName(NAME, 'after');
  t.ok(held);
  await held!.close();
});

t.test('holdOrRefuse() names the holder and the way out', async (t) => {
  const warn = (): void => void t.fail('no warning');
  const path = `/run/${'x'.repeat(200)}`;
  const first: HostLock = await holdOrRefuse(`file/${path}`, 'pid 7', 'the file', 'use another', warn);
  await t.rejects(holdOrRefuse(`file/${path}`, 'pid 8', 'the file', 'use another', warn), {
    code: 'E_RUNNING',
    message: 'Another daemon (pid 7) has the file: use another',
  });
  await first.close();
});

t.test('parseHeldNames() reads /proc/net/unix', (t) => {
  const text = `Num       RefCount Protocol Flags    Type St Inode Path
ffff9c0: 00000002 00000000 00010000 0001 01 29733 @twill/network/10.5.0.0/16${'@'.repeat(82)}
ffff9c1: 00000002 00000000 00010000 0001 01 29734 @twill/device/flannel0
ffff9c1: 00000003 00000000 00000000 0001 03 29734 @twill/device/flannel0
ffff9c2: 00000002 00000000 00010000 0001 01 29735 /run/twill/twilld.sock
ffff9c3: 00000002 00000000 00010000 0001 01 29736
`;
  t.strictSame(parseHeldNames(text), ['network/10.5.0.0/16', 'device/flannel0']);
  t.end();
});
