import t from 'tap';
import { LanePaths } from '../../../../src/backend/udp/lane-paths.js';
import { RouteTable } from '../../../../src/dataplane/route-table.js';
import { ipv4 } from '../../../../src/net/ipv4.js';
import { parsePrefix } from '../../../../src/net/prefix.js';

const peerOf = (row: number) => ({ address: ipv4(0xc0000200 + row), port: 8285, mtuBytes: 1472 });

function tableOf(rows: number): RouteTable {
  const table = new RouteTable(parsePrefix('10.0.0.0/8')!);
  for (let row = 0; row < rows; row++)
    table.set({ address: ipv4(0x0a000000 + row * 256), length: 24 }, peerOf(row));
  table.publish();
  return table;
}

t.test('all proven peers are asked for in turn, so many at a time', (t) => {
  const asked: number[][] = [];
  const lane = {
    provenRows: (end: number, first = 0) => {
      asked.push([first, end]);
      return (row: number) => row % 2 === 0;
    },
  };
  const paths = new LanePaths(tableOf(300), lane);
  t.equal(paths.take().length, 128);
  t.strictSame(paths.take().at(0), peerOf(256));
  t.strictSame(paths.take().at(0), peerOf(0));
  t.strictSame(asked, [
    [0, 256],
    [256, 300],
    [0, 256],
  ]);
  t.end();
});

t.test('nobody is asked for without a lane, nor of a table without rows', (t) => {
  t.strictSame(new LanePaths(tableOf(3), { provenRows: () => undefined }).take(), []);
  t.strictSame(new LanePaths(tableOf(0), { provenRows: () => () => true }).take(), []);
  t.end();
});
