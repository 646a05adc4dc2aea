import t from 'tap';
import { descriptorsOf, isNameOf, namedDescriptors } from '../../../src/handover/descriptors.js';

const WHOLE = { tun: [3, 4], udp4: [5, 6], udp6: [], turns: [7, 8, 9, 10] };

t.test('named and found again', (t) => {
  const named = namedDescriptors('flannel0', WHOLE);
  t.same(named[0], ['flannel0.tun.0', 3]);
  t.same(descriptorsOf('flannel0', new Map(named)), WHOLE);
  t.same(descriptorsOf('flannel0', new Map([...named].reverse())), WHOLE, 'in any order');
  t.equal(descriptorsOf('flannel1', new Map(named)), undefined, 'of another device');
  t.ok(named.every(([name]) => isNameOf('flannel0', name)));
  t.notOk(named.some(([name]) => isNameOf('flannel', name)));
  t.end();
});

t.test('half a set is none', (t) => {
  for (const gone of ['flannel0.tun.0', 'flannel0.tun.1', 'flannel0.udp4.0', 'flannel0.udp4.1']) {
    const found = new Map(namedDescriptors('flannel0', WHOLE));
    found.delete(gone);
    t.equal(descriptorsOf('flannel0', found), undefined, `without ${gone}`);
  }
  t.equal(descriptorsOf('flannel0', new Map([['flannel0.tun.0', 3]])), undefined, 'without a socket');
  t.end();
});
