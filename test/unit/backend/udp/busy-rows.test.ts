import t from 'tap';
import { BusyRows } from '../../../../src/backend/udp/busy-rows.js';
import { MAX_ROWS } from '../../../../src/dataplane/route-table.js';

const CALLS_A_SECOND = 10;

class Rows {
  readonly packets: Float64Array;
  isOpen = true;
  readonly busy = new BusyRows((values, first) => {
    if (!this.isOpen) return false;
    values.fill(0);
    for (let i = 0; i < values.length / 4 && first + i < this.packets.length; i++)
      for (const at of [0, 2]) values[4 * i + at] = this.packets[first + i] / 2;
    return true;
  });

  constructor(count: number) {
    this.packets = new Float64Array(count);
  }

  /** Rows that are named within a second. */
  second(): number[] {
    const found: number[] = [];
    for (let call = 0; call < CALLS_A_SECOND; call++) found.push(...this.busy.take(this.packets.length));
    return found;
  }
}

t.test('BusyRows.take() names rows with traffic within a second, and no others', (t) => {
  for (const count of [1, 2, 10, 11, 257, MAX_ROWS]) {
    const rows = new Rows(count);
    const last = count - 1;
    for (let second = 0; second < 12; second++) {
      rows.packets[last] += 10;
      t.strictSame(rows.second(), [last], `${count} rows, second ${second}`);
    }
    for (let second = 0; second < 5; second++) rows.second();
    t.strictSame(rows.second(), [], 'it has ended');
  }
  t.end();
});

t.test('BusyRows.take() takes echoes for no traffic, and a few packets a second for some', (t) => {
  const rows = new Rows(100);
  for (let second = 0; second < 30; second++) {
    if (second % 5 === 0) rows.packets[7] += 8;
    t.strictSame(rows.second(), []);
  }
  const found: number[] = [];
  for (let second = 0; second < 30; second++) {
    rows.packets[7] += 3;
    found.push(...rows.second());
  }
  t.ok(found.length >= 10, 'three packets a second');
  t.end();
});

t.test('BusyRows.take() bears a data path that is closed and opened, and a table that grows', (t) => {
  const rows = new Rows(20);
  rows.packets[3] = 1000;
  t.strictSame(rows.second(), [3]);
  rows.isOpen = false;
  t.strictSame(rows.second(), []);
  rows.isOpen = true;
  rows.packets[3] = 2;
  for (let second = 0; second < 6; second++) t.strictSame(rows.second(), [], 'counters start at 0');
  rows.packets[3] += 10;
  t.strictSame(rows.second(), [3]);
  t.strictSame(rows.busy.take(0), []);
  t.end();
});
