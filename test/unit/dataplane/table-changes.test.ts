import t from 'tap';
import { type ChangedSide, TableChanges } from '../../../src/dataplane/table-changes.js';
import { WIDE_ROW_WORDS } from '../../../src/dataplane/table-layout.js';

/** Notes every call with its arguments. */
class NotingSide implements ChangedSide {
  readonly calls: unknown[][] = [];
  readonly insert: ChangedSide['insert'] = (...args) => void this.calls.push(['insert', ...args]);
  readonly remove: ChangedSide['remove'] = (...args) => void this.calls.push(['remove', ...args]);
  readonly setMtu: ChangedSide['setMtu'] = (...args) => void this.calls.push(['setMtu', ...args]);
  readonly insertWide: ChangedSide['insertWide'] = (row, lease, isNewPeer) =>
    void this.calls.push(['insertWide', row, [...lease], isNewPeer]);
  readonly removeWide: ChangedSide['removeWide'] = (...args) => void this.calls.push(['removeWide', ...args]);
}

t.test('TableChanges.applyTo() makes the same calls in the same order, each time', (t) => {
  const changes = new TableChanges();
  const wide = Int32Array.from({ length: WIDE_ROW_WORDS }, (_, i) => -i);
  t.ok(changes.isEmpty);
  changes.setMtu(0, 1472);
  changes.insert(65_535, -1, 32, -2, 8285, 1472, true);
  changes.remove(65_535, -1, 32, 7, -2, false);
  changes.insert(1, 0x0a050000, 24, 1, 1, 1, false);
  changes.insertWide(2, wide, true);
  changes.removeWide(2, 3, false);
  changes.setMtu(1, 1000);
  changes.remove(1, 0x0a050000, 24, 0, 1, true);
  t.notOk(changes.isEmpty);
  for (let i = 0; i < 2; i++) {
    const side = new NotingSide();
    changes.applyTo(side);
    t.strictSame(side.calls, [
      ['setMtu', 0, 1472],
      ['insert', 65_535, -1, 32, -2, 8285, 1472, true],
      ['remove', 65_535, -1, 32, 7, -2, false],
      ['insert', 1, 0x0a050000, 24, 1, 1, 1, false],
      ['insertWide', 2, [...wide], true],
      ['removeWide', 2, 3, false],
      ['setMtu', 1, 1000],
      ['remove', 1, 0x0a050000, 24, 0, 1, true],
    ]);
  }
  t.end();
});
