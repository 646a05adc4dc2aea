import { closeSync, ftruncateSync, writeSync } from 'node:fs';
import t from 'tap';
import { CrashRecord } from '../../../src/handover/crash-record.js';
import { SavedState, STATE_FILES } from '../../../src/handover/saved-state.js';
import { type DescriptorStore, NO_STORE } from '../../../src/handover/service-manager.js';
import { native } from '../../../src/native/native.js';

/** Duplicates, as another process has them. */
function duplicates(fds: readonly number[]): number[] {
  return fds.map((fd) => native.ownDescriptor(fd, true));
}

t.test('what was saved last is read, also when the writing of another was cut off', (t) => {
  const { state, saved } = SavedState.open([]);
  t.equal(saved, undefined);
  t.equal(state!.fds.length, STATE_FILES);
  t.equal(SavedState.open(duplicates(state!.fds)).saved, undefined, 'nothing yet');
  for (let number = 0; number < 5; number++) {
    state!.save({ number });
    t.same(SavedState.open(duplicates(state!.fds)).saved, { number });
  }
  // The fifth is in the first file: it was cut off, and the fourth is there.
  for (const left of ['', '4 {"num', '4 {"number":4}', 'x {}\n']) {
    ftruncateSync(state!.fds[0], 0);
    writeSync(state!.fds[0], left, 0);
    t.same(SavedState.open(duplicates(state!.fds)).saved, { number: 3 }, left);
  }
  const again = SavedState.open(duplicates(state!.fds));
  again.state!.save({ after: true });
  t.same(SavedState.open(duplicates(state!.fds)).saved, { after: true }, 'it goes on after the last one');
  t.end();
});

t.test('one file alone is of no use', (t) => {
  const { state } = SavedState.open([]);
  state!.save({ a: 1 });
  const { state: other, saved } = SavedState.open(duplicates(state!.fds.slice(1)));
  t.equal(saved, undefined);
  t.equal(other!.fds.length, STATE_FILES, 'new ones');
  t.end();
});

t.test('crashes of the last minute are counted, and ends are none', (t) => {
  const kept = new Map<string, number>();
  const store: DescriptorStore = {
    ...NO_STORE,
    isThere: true,
    keep: (named) => {
      for (const [name, fd] of named) kept.set(name, native.ownDescriptor(fd, true));
    },
  };
  const found = (): Map<string, number> =>
    new Map([...kept].map(([name, fd]) => [name, duplicates([fd])[0]]));
  let nowMs = 1_700_000_000_000;
  const start = (): CrashRecord => CrashRecord.open(found(), store, (nowMs += 5_000));
  const first = start();
  t.equal(first.recent, 0);
  t.equal(start().recent, 1);
  const third = start();
  t.equal(third.recent, 2);
  third.ended();
  t.equal(start().recent, 2, 'the third has not crashed');
  t.equal(start().recent, 3);
  nowMs += 60_000;
  t.equal(start().recent, 0, 'long ago');
  nowMs -= 3_600_000;
  t.equal(start().recent, 0, 'the clock was set back');
  const others = new Map([['flannel0.tun.0', 1_000]]);
  CrashRecord.open(others, store).ended();
  t.same([...others.keys()], ['flannel0.tun.0'], 'what else was kept stays');
  for (const fd of kept.values()) closeSync(fd);
  t.equal(CrashRecord.open(new Map(), { ...store, isThere: false }).recent, 0, 'where nobody keeps anything');
  t.end();
});
