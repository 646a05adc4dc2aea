// The rules of HeldNodes that a mirror seldom comes to.

import t from 'tap';
import { HeldNodes, type NodeList } from '../../../../../src/store/kube/nodes/held-nodes.js';
import { type KubeNode, type NodeEvent, readNode } from '../../../../../src/store/kube/nodes/kube-node.js';
import { newMirrorCounters } from '../../../../../src/store/kube/nodes/mirror-counters.js';
import { ip, PREFIX, show } from '../../../../support/node-mirror-bench.js';

function node(name: string, version: number, publicIp: string, uid = `uid-${name}`): KubeNode {
  return readNode(
    { metadata: { name, uid, resourceVersion: String(version), annotations: ip(publicIp) } },
    { prefix: PREFIX },
  );
}

function list(held: HeldNodes, version: number, nodes: readonly KubeNode[], isRewound = false): string[] {
  const rows: NodeList = new Map();
  for (const each of nodes) held.addRow(rows, each);
  const { events, isRewritten } = held.adoptList(rows, String(version), isRewound);
  return [...events.map(showEvent), ...(isRewritten ? ['rewritten'] : [])];
}

function showEvent(event: NodeEvent): string {
  return event.kind === 'put' ? `put ${show(event.node)}` : `${event.kind} ${event.name}`;
}

function holding(maxNodes?: number): HeldNodes {
  const held = new HeldNodes(newMirrorCounters(), maxNodes);
  t.strictSame(list(held, 10, [node('a', 3, '1'), node('b', 5, '2')]), ['put a=1@3', 'put b=2@5']);
  return held;
}

t.test('HeldNodes.adoptList() undoes nothing that was read later than the list', (t) => {
  const held = holding();
  held.repair(node('a', 30, '9'), '3'); // ahead of the watch
  held.repair(node('c', 31, '3'), undefined);
  t.strictSame(list(held, 20, [node('a', 15, '4'), node('b', 5, '2')]), []);
  t.equal(held.position, '20');
  t.equal(held.get('a')?.version, '30');
  t.strictSame(held.applyEvent('MODIFIED', node('a', 25, '5')), [], 'nor does an event');
  t.strictSame(held.applyEvent('MODIFIED', node('a', 32, '6')).map(showEvent), ['put a=6@32']);
  t.end();
});

t.test('HeldNodes.adoptList() tells deletions first, so that there is room', (t) => {
  const held = holding(2);
  t.strictSame(list(held, 20, [node('b', 5, '2'), node('c', 15, '3'), node('d', 16, '4')]), [
    'delete a',
    'put c=3@15',
  ]);
  t.end();
});

t.test('HeldNodes.adoptList() believes a list of another history about everything', (t) => {
  const cases: [name: string, version: number, nodes: KubeNode[], isRewound: boolean, told: string[]][] = [
    ['older', 9, [node('a', 3, '1')], false, ['vanished b', 'rewritten']],
    ['said to be', 50, [node('a', 3, '1')], true, ['vanished b', 'rewritten']],
    ['other content', 50, [node('a', 3, '7')], false, ['vanished b', 'put a=7@3', 'rewritten']],
    [
      'of before our time',
      50,
      [node('c', 4, '7')],
      false,
      ['vanished a', 'vanished b', 'put c=7@4', 'rewritten'],
    ],
    ['the same', 50, [node('a', 40, '1')], false, ['delete b']],
    ['a heartbeat of before', 50, [node('a', 2, '1'), node('b', 5, '2')], false, []],
  ];
  for (const [name, version, nodes, isRewound, told] of cases) {
    t.strictSame(list(holding(), version, nodes, isRewound), told, name);
  }
  t.end();
});

t.test('HeldNodes.addRow() bounds a list without end, and keeps who is held', (t) => {
  const counters = newMirrorCounters();
  const held = new HeldNodes(counters, 3);
  list(held, 10, [node('y', 1, '1'), node('z', 2, '2')]);
  const rows: NodeList = new Map();
  for (let i = 0; i < 100; i++) held.addRow(rows, node(`n${i}`, 11 + i, ''));
  held.addRow(rows, node('y', 1, '1'));
  held.addRow(rows, node('z', 2, '2'));
  t.equal(rows.size, 7);
  t.equal(counters.refused, 95);
  t.strictSame(held.adoptList(rows, '200', false).events.map(showEvent), ['put n0=@11']);
  t.end();
});

t.test('HeldNodes.repair() compares versions that are no numbers by equality', (t) => {
  const held = holding();
  const opaque = (version: string, publicIp: string): KubeNode => ({
    ...node('a', 1, publicIp),
    resourceVersion: version,
  });
  held.applyEvent('MODIFIED', opaque('x1', '4'));
  t.strictSame(held.repair(opaque('x3', '6'), '3'), [], 'an event came meanwhile');
  t.strictSame(held.repair(opaque('x3', '6'), 'x1').map(showEvent), ['put a=6@x3']);
  t.end();
});
