import t from 'tap';
import { PeerTraffic } from '../../../../src/backend/udp/traffic.js';
import { ipv4 } from '../../../../src/net/ipv4.js';

const A = ipv4(0xac140001);
const B = ipv4(0xac140002);

/** Rows as the addon has them: they only grow, until a new data path starts them at 0. */
function fakeRows() {
  const rows = new Array<number>(16).fill(0);
  const read = (row: number): number[] => rows.slice(4 * row, 4 * row + 4);
  const count = (row: number, packets: number): void => {
    for (let i = 0; i < 4; i++) rows[4 * row + i] += packets * (i + 1);
  };
  return { rows, count, read };
}

t.test('PeerTraffic', (t) => {
  const start = () => {
    const lab = fakeRows();
    const traffic = new PeerTraffic(lab.read);
    traffic.assign('10.5.2.0/24', A, 1);
    traffic.published();
    lab.count(1, 7);
    const check = (packets: number, what: string, key = '10.5.2.0/24'): void =>
      void t.strictSame(traffic.of(key, lab.rows), [packets, 2 * packets, 3 * packets, 4 * packets], what);
    check(7, 'what was counted');
    return { ...lab, traffic, check };
  };

  const reuse = start();
  reuse.traffic.forget('10.5.2.0/24');
  reuse.traffic.assign('10.5.3.0/24', B, 1);
  reuse.check(0, 'before publication', '10.5.3.0/24');
  reuse.count(1, 5);
  reuse.traffic.published();
  reuse.check(0, 'a row that another lease had, with what still came for that', '10.5.3.0/24');
  reuse.count(1, 2);
  reuse.check(2, 'and its own', '10.5.3.0/24');
  reuse.check(0, 'a lease that is gone');
  t.equal(reuse.traffic.keyOf(1), '10.5.3.0/24');
  t.equal(reuse.traffic.keyOf(2), undefined);
  reuse.traffic.release('10.5.3.0/24');
  t.equal(reuse.traffic.keyOf(1), undefined, 'a row that nobody has');

  const moved = start();
  moved.traffic.assign('10.5.2.0/24', B, 1);
  moved.traffic.published();
  moved.check(0, 'another host with the same subnet and row');

  const back = start();
  back.traffic.forget('10.5.2.0/24');
  back.traffic.assign('10.5.2.0/24', A, 1);
  back.traffic.published();
  back.check(0, 'a lease that went and came back');

  const same = start();
  same.traffic.assign('10.5.2.0/24', A, 1);
  same.traffic.published();
  same.check(7, 'assigned again');

  const refused = start();
  refused.traffic.release('10.5.2.0/24');
  refused.traffic.release('10.5.2.0/24');
  refused.count(1, 9);
  refused.check(7, 'refused for a while');
  refused.traffic.assign('10.5.2.0/24', A, 2);
  refused.traffic.published();
  refused.count(2, 1);
  refused.check(8, 'and used again in another row');

  const reopened = start();
  for (let i = 1; i < 4; i++) {
    reopened.traffic.closed(reopened.rows);
    reopened.rows.fill(0);
    reopened.check(7 * i, 'closed');
    reopened.count(1, 7);
    reopened.check(7 * (i + 1), 'opened anew');
  }

  const unpublished = start();
  unpublished.traffic.assign('10.5.4.0/24', B, 2);
  unpublished.traffic.closed(unpublished.rows);
  unpublished.rows.fill(0);
  unpublished.traffic.published();
  unpublished.count(2, 3);
  unpublished.check(3, 'closed before its row was published', '10.5.4.0/24');
  t.end();
});
