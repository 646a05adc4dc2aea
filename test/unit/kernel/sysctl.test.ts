import t from 'tap';
import {
  readInterfaceSysctl,
  readSysctl,
  writeInterfaceSysctl,
  writeSysctl,
} from '../../../src/kernel/sysctl.js';

t.test('readSysctl() reads, and is undefined for what this kernel has not', async (t) => {
  t.match(await readSysctl('net/ipv4/ip_forward'), /^[01]$/);
  t.equal(await readSysctl('net/ipv4/no_such_key'), undefined);
  t.match(await readInterfaceSysctl('ipv4', 'lo', 'rp_filter'), /^[012]$/);
  t.equal(await readInterfaceSysctl('ipv4', 'nosuch0', 'rp_filter'), undefined);
});

t.test('paths are made from checked words only', async (t) => {
  await t.rejects(readSysctl('../etc/passwd'), { name: 'TypeError' });
  await t.rejects(writeSysctl('kernel/Core', '1'), { name: 'TypeError' });
  await t.rejects(readInterfaceSysctl('ipv4', '../lo', 'rp_filter'), { name: 'TypeError' });
  await t.rejects(readInterfaceSysctl('ipv4', 'all', 'rp_filter'), { name: 'TypeError' });
  await t.rejects(readInterfaceSysctl('ipv4', 'lo', '../rp_filter'), { name: 'TypeError' });
});

t.test('writeInterfaceSysctl() is false where there is nothing to write to', async (t) => {
  t.equal(await writeInterfaceSysctl('ipv6', 'nosuch0', 'accept_ra', '0'), false);
});

t.test('writeSysctl() names value and path when it cannot write', async (t) => {
  const message = /^Cannot write "1" to \/proc\/sys\/net\/ipv4\/no_such_key: /;
  await t.rejects(writeSysctl('net/ipv4/no_such_key', '1'), { code: 'E_KERNEL', message });
});
