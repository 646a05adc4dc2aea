import t from 'tap';
import { Nesting } from '../../../src/lease/nesting.js';
import { parsePrefix } from '../../../src/net/prefix.js';
import { leaseOf } from '../../support/leases.js';

const peer = (subnet: string, publicIp: string) => leaseOf({ subnet, publicIp });
const pairs = (nesting: Nesting): string[] =>
  nesting.alarms().map((text) => text.replace(/^lease (\S+) of \S+ lies inside (\S+) .*$/, '$1 in $2'));

t.test('Nesting finds the nearest shorter subnet of another host, and follows what comes and goes', (t) => {
  const nesting = new Nesting('v4');
  nesting.put(peer('10.5.21.0/24', '172.20.0.4'));
  nesting.put(peer('10.5.16.0/20', '172.20.0.2'));
  t.same(pairs(nesting), ['10.5.21.0/24 in 10.5.16.0/20']);
  nesting.put(peer('10.5.20.0/22', '172.20.0.3'));
  t.same(pairs(nesting).sort(), ['10.5.20.0/22 in 10.5.16.0/20', '10.5.21.0/24 in 10.5.20.0/22']);
  nesting.put(peer('10.5.20.0/22', '172.20.0.4'));
  t.same(pairs(nesting), ['10.5.20.0/22 in 10.5.16.0/20'], 'one host may nest its own');
  nesting.delete(parsePrefix('10.5.20.0/22')!);
  t.same(pairs(nesting), ['10.5.21.0/24 in 10.5.16.0/20']);
  nesting.delete(parsePrefix('10.5.0.0/16')!);
  nesting.delete(parsePrefix('10.5.16.0/20')!);
  t.same(pairs(nesting), []);
  t.equal(nesting.at(parsePrefix('10.5.21.0/24')!)?.id, '10.5.21.0-24');
  t.equal(nesting.at(parsePrefix('10.5.16.0/20')!), undefined);
  t.end();
});

t.test('Nesting of a shorter subnet over many longer ones, and of one over few', (t) => {
  for (const count of [300, 3]) {
    const nesting = new Nesting('v4');
    for (let i = 0; i < count; i++) nesting.put(peer(`10.5.${i >> 2}.${(i & 3) * 64}/26`, '172.20.0.3'));
    nesting.put(peer('10.5.0.0/24', '172.20.0.2'));
    t.equal(pairs(nesting).length, Math.min(count, 4));
    nesting.delete(parsePrefix('10.5.0.0/24')!);
    t.equal(pairs(nesting).length, 0);
  }
  t.end();
});
