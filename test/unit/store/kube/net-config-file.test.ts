import { renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pino from 'pino';
import t from 'tap';
import { leasableRange, prefixesOf } from '../../../../src/config/network-config.js';
import { NetConfigWatch, readNetConfig } from '../../../../src/store/kube/net-config-file.js';
import { textsOf } from '../../../support/conditions.js';
import { waitFor } from '../../../support/lab.js';
import { folderOf } from '../../../support/folder.js';
import { formatPrefixes } from '../../../../src/net/prefix.js';

const FLANNEL = '{"Network":"10.244.0.0/16","EnableNFTables":false,"Backend":{"Type":"vxlan"}}';

t.test('readNetConfig() reads what kube-flannel’s users have', async (t) => {
  const path = join(folderOf(t, { 'net-conf.json': FLANNEL }), 'net-conf.json');
  const { config, text } = await readNetConfig(path);
  t.equal(text, FLANNEL);
  t.equal(formatPrefixes(prefixesOf(config)), '10.244.0.0/16');
  t.equal(config.backendType, 'vxlan');
});

t.test('readNetConfig() reads no more than a config can have', async (t) => {
  const message = /^Cannot read network config "\/dev\/zero": more than 1048576 bytes: expected a file /;
  await t.rejects(readNetConfig('/dev/zero'), { code: 'E_FILE', message });
});

t.test('limits of subnets do not hold where the cluster gives them', async (t) => {
  const limits = '"SubnetLen":99,"SubnetMin":"1.2.3.4","SubnetMax":"x"';
  const limits6 = '"IPv6SubnetLen":999,"IPv6SubnetMin":"::1","IPv6SubnetMax":"x"';
  const networks = '"Network":"10.0.0.0/8","EnableIPv6":true,"IPv6Network":"fd00::/48"';
  const text = `{${networks},${limits},${limits6}}`;
  const path = join(folderOf(t, { 'net-conf.json': text }), 'net-conf.json');
  const { config } = await readNetConfig(path);
  const { v4, v6 } = leasableRange(config);
  t.ok(v4!.first > v4!.last && v6!.first > v6!.last, 'no host’s address is out of the question');
});

t.test('readNetConfig() names file and fault', async (t) => {
  const dir = folderOf(t, {
    bad: '{"Network":',
    none: '{}',
    v6: '{"Network":"10.0.0.0/8","EnableIPv6":true,"IPv6Network":"10.1.0.0/16"}',
    folder: {},
  });
  const path = (name: string): string => join(dir, name);
  await t.rejects(readNetConfig(path('missing')), {
    code: 'E_FILE',
    message: /^Cannot read network config ".*missing": ENOENT: expected a file .* \(--net-config-path\)$/,
  });
  await t.rejects(readNetConfig(path('folder')), { code: 'E_FILE', message: /EISDIR/ });
  await t.rejects(readNetConfig(path('bad')), { code: 'E_CONFIG', message: new RegExp(path('bad')) });
  await t.rejects(readNetConfig(path('none')), {
    code: 'E_CONFIG',
    message: /none: Network is missing: expected/,
  });
  await t.rejects(readNetConfig(path('v6')), {
    code: 'E_CONFIG',
    message: /v6: IPv6Network is "10.1.0.0\/16": expected an IPv6 network such as/,
  });
  writeFileSync(path('big'), ' '.repeat((1 << 20) + 1));
  await t.rejects(readNetConfig(path('big')), { code: 'E_FILE', message: /more than 1048576 bytes/ });
});

t.test('NetConfigWatch follows a mounted ConfigMap, and keeps the last good one', async (t) => {
  const dir = folderOf(t, {
    one: { 'net-conf.json': FLANNEL },
    two: { 'net-conf.json': FLANNEL.replace('vxlan', 'udp') },
  });
  const path = join(dir, '..data', 'net-conf.json');
  const point = (name: string): void => {
    symlinkSync(name, join(dir, '..new'));
    renameSync(join(dir, '..new'), join(dir, '..data'));
  };
  point('one');
  const seen: string[] = [];
  const log: string[] = [];
  const watch = new NetConfigWatch(
    {
      path,
      text: FLANNEL,
      log: pino({}, { write: (line: string) => log.push(line) }),
      onConfig: ({ backendType }) => seen.push(backendType),
    },
    5,
  );
  t.teardown(() => watch.close());
  point('two');
  await waitFor(() => seen.length === 1, 'the new config');
  rmSync(join(dir, '..data'));
  await waitFor(() => watch.conditions().length === 1, 'the fault');
  t.match(textsOf(watch), [/ENOENT.*; the last good one is used/]);
  point('two');
  await waitFor(() => watch.conditions().length === 0, 'the end of the fault');
  t.strictSame(seen, ['udp'], 'told once');
  t.equal(log.length, 1);
});
