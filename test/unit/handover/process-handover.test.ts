import { closeSync, fstatSync } from 'node:fs';
import t from 'tap';
import { ProcessHandover } from '../../../src/handover/process-handover.js';
import type { DescriptorStore } from '../../../src/handover/service-manager.js';
import { native } from '../../../src/native/native.js';

/** A service manager that notes what it is told, in order. */
class Store implements DescriptorStore {
  readonly isThere = true;
  readonly names = new Set<string>();
  isUrgent = false;

  keep(named: readonly (readonly [string, number])[]): void {
    for (const [name] of named) this.names.add(name);
  }

  forget(names: readonly string[]): void {
    for (const name of names) this.names.delete(name);
  }

  beUrgent(): void {
    this.isUrgent = true;
  }

  leave(): void {
    this.names.clear();
  }
}

function found(...names: readonly string[]): Map<string, number> {
  return new Map(names.map((name) => [name, native.memoryFile(name)]));
}

function isOpen(fd: number): boolean {
  try {
    return fstatSync(fd).ino > 0;
  } catch {
    return false;
  }
}

const TWO = ['flannel0.tun.0', 'flannel0.tun.1', 'flannel0.udp4.0', 'flannel0.udp4.1'] as const;

t.test('fewer queues than before: the others are let go of', (t) => {
  const store = new Store();
  const before = found(...TWO);
  for (const name of before.keys()) store.names.add(name);
  const handover = new ProcessHandover(before, { store });
  t.notOk(store.isUrgent, 'not without a data path of ours');
  t.ok(handover.has('flannel0'));
  t.ok(handover.isUrgent, 'nobody reads them');
  const predecessor = { stop: () => Promise.resolve(), gone: Promise.resolve() };
  t.notOk(new ProcessHandover(before, { store, predecessor }).isUrgent, 'somebody reads them');
  t.notOk(new ProcessHandover(new Map(), { store }).isUrgent);
  const taken = handover.take('flannel0')!;
  t.equal(taken.tun.length, 2);
  handover.discard(taken);
  t.notOk([...before.values()].some(isOpen), 'closed');
  const fd = native.memoryFile('x');
  handover.keep('flannel0', { tun: [fd], udp4: [fd], udp6: [], turns: [] });
  t.same([...store.names], ['flannel0.tun.0', 'flannel0.udp4.0']);
  t.ok(store.isUrgent);
  closeSync(fd);
  t.end();
});

t.test('what nobody takes is let go of, and so is half a set', async (t) => {
  const store = new Store();
  const before = found(...TWO, 'flannel1.tun.0', 'flannel2.tun.0', 'flannel2.udp4.0', 'other');
  const fds = [...before.values()];
  for (const name of before.keys()) store.names.add(name);
  const handover = new ProcessHandover(before, { store });
  t.notOk(handover.has('flannel1'));
  t.equal(handover.take('flannel1'), undefined);
  t.notOk(store.names.has('flannel1.tun.0'));
  const taken = handover.take('flannel2')!;
  await handover.settle();
  t.same([...store.names], ['flannel2.tun.0', 'flannel2.udp4.0']);
  t.same(fds.filter(isOpen), [...taken.tun, ...taken.udp4]);
  handover.forgetAll();
  t.same([...store.names], []);
  handover.discard(taken);
});

t.test('a data path that closes leaves duplicates to the next one', (t) => {
  const handover = new ProcessHandover(new Map());
  const [tun, udp] = [native.memoryFile('tun'), native.memoryFile('udp')];
  const inodes = [tun, udp].map((fd) => fstatSync(fd).ino);
  handover.retain('flannel0', { tun: [tun], udp4: [udp], udp6: [], turns: [] });
  closeSync(tun);
  closeSync(udp);
  const taken = handover.take('flannel0')!;
  t.same(
    [...taken.tun, ...taken.udp4].map((fd) => fstatSync(fd).ino),
    inodes,
  );
  t.equal(handover.take('flannel0'), undefined, 'once');
  handover.discard(taken);
  t.end();
});
