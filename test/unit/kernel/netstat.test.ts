import t from 'tap';
import { parseNetstat, readNetstat } from '../../../src/kernel/netstat.js';

const TEXT = 'TcpExt: SyncookiesSent IPReversePathFilter\nTcpExt: 7 12\nIpExt: InNoRoutes\nIpExt: 3\n';

t.test('parseNetstat() finds a counter by its group and name', (t) => {
  for (const [group, name, value] of [
    ['TcpExt', 'IPReversePathFilter', 12],
    ['TcpExt', 'SyncookiesSent', 7],
    ['IpExt', 'InNoRoutes', 3],
    ['IpExt', 'IPReversePathFilter', undefined],
    ['TcpExt', 'TcpExt:', undefined],
    ['Other', 'InNoRoutes', undefined],
  ] as const) {
    t.equal(parseNetstat(TEXT, group, name), value, `${group} ${name}`);
  }
  t.equal(parseNetstat('TcpExt: IPReversePathFilter\n', 'TcpExt', 'IPReversePathFilter'), undefined);
  t.end();
});

t.test('readNetstat() reads this kernel’s', (t) => {
  t.type(readNetstat('TcpExt', 'IPReversePathFilter'), 'number');
  t.equal(readNetstat('TcpExt', 'NoSuchCounter'), undefined);
  t.end();
});
