import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { QueueDrops } from '../../../src/kernel/queue-drops.js';
import { folderOf } from '../../support/folder.js';

t.test('QueueDrops counts over every device of the name, and not what was before', (t) => {
  const sysfs = folderOf(t);
  const device = (index: number, dropped: number): void => {
    mkdirSync(`${sysfs}/flannel0/statistics`, { recursive: true });
    writeFileSync(`${sysfs}/flannel0/ifindex`, `${index}\n`);
    writeFileSync(`${sysfs}/flannel0/statistics/tx_dropped`, `${dropped}\n`);
  };
  const drops = new QueueDrops('flannel0', sysfs);
  device(3, 700);
  drops.start();
  t.equal(drops.total(), 0, 'an adopted device has a past');
  device(3, 712);
  t.equal(drops.total(), 12);
  t.equal(drops.total(), 12);
  rmSync(`${sysfs}/flannel0`, { recursive: true });
  t.equal(drops.total(), 12, 'deleted');
  device(4, 5);
  t.equal(drops.total(), 17, 'made anew');
  device(5, 900);
  t.equal(drops.total(), 917, 'made anew with more drops than the last one had');
  t.end();
});

t.test('QueueDrops counts all of a device that is made after start()', (t) => {
  const sysfs = folderOf(t, {});
  const drops = new QueueDrops('flannel0', sysfs);
  drops.start();
  t.equal(drops.total(), 0);
  mkdirSync(`${sysfs}/flannel0/statistics`, { recursive: true });
  writeFileSync(`${sysfs}/flannel0/ifindex`, '9\n');
  writeFileSync(`${sysfs}/flannel0/statistics/tx_dropped`, '2\n');
  t.equal(drops.total(), 2);
  t.end();
});
