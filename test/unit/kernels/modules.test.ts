// The order in which modules are loaded, of files as depmod writes them.

import t from 'tap';
import { loadOrder, moduleName, parseDependencies } from '../../kernels/modules.js';

const DEPENDENCIES = [
  'kernel/net/9p/9pnet.ko.xz: kernel/fs/netfs/netfs.ko.xz',
  'kernel/fs/netfs/netfs.ko.xz:',
  'kernel/fs/9p/9p.ko.xz: kernel/fs/fscache/fscache.ko.xz kernel/net/9p/9pnet.ko.xz kernel/fs/netfs/netfs.ko.xz',
  'kernel/fs/fscache/fscache.ko.xz: kernel/fs/netfs/netfs.ko.xz',
  'kernel/drivers/net/snd-dummy.ko: kernel/drivers/virtio/virtio.ko',
  '',
].join('\n');
const BUILTIN = 'kernel/drivers/virtio/virtio.ko\nkernel/fs/ext4/ext4.ko\n';

for (const [names, expected] of [
  [
    ['9p'],
    [
      'kernel/fs/netfs/netfs.ko.xz',
      'kernel/fs/fscache/fscache.ko.xz',
      'kernel/net/9p/9pnet.ko.xz',
      'kernel/fs/9p/9p.ko.xz',
    ],
  ],
  [['snd-dummy', 'snd_dummy', 'ext4'], ['kernel/drivers/net/snd-dummy.ko']],
  [[], []],
] as const) {
  t.test(`loadOrder() of ${names.join(', ') || 'nothing'}`, (t) => {
    t.same(loadOrder(parseDependencies(DEPENDENCIES), BUILTIN, names), expected);
    t.end();
  });
}

t.test('loadOrder() names a module that the kernel does not have', (t) => {
  t.throws(() => loadOrder(parseDependencies(DEPENDENCIES), BUILTIN, ['nope']), /no module nope/);
  t.end();
});

t.test('moduleName() is the same for either spelling', (t) => {
  for (const path of ['a-b', 'a_b', 'kernel/x/a-b.ko', 'kernel/x/a_b.ko.zst'])
    t.equal(moduleName(path), 'a_b');
  t.end();
});
