// The two decisions, as tables: where a packet goes, and whether one is let in.

import t from 'tap';
import { InboundField, OutboundField } from '../../../src/native/arena.js';
import { INBOUND_COUNTERS, OUTBOUND_COUNTERS } from '../../../src/native/counters.js';
import { judgeInbound, newInboundArena, type OwnHost } from '../../../src/dataplane/inbound.js';
import { judgeOutbound, newOutboundArena } from '../../../src/dataplane/outbound.js';
import { RouteReader, RouteTable } from '../../../src/dataplane/route-table.js';
import { SOURCE_CHECKS, type SourceCheck } from '../../../src/config/options.js';
import { formatIpv4, ipv4, parseIpv4 } from '../../../src/net/ipv4.js';
import { parsePrefix } from '../../../src/net/prefix.js';

const word = (address: string): number => parseIpv4(address)! | 0;

const OWN: OwnHost = {
  network: word('10.5.1.0'),
  mask: word('255.255.255.0'),
  publicIp: word('192.0.2.1'),
  ifaceAddress: word('172.20.0.1'),
};

const table = new RouteTable(parsePrefix('10.5.0.0/16')!);
const LEASES: [string, string][] = [
  ['10.5.2.0/24', '172.20.0.2'],
  ['10.5.3.0/24', '172.20.0.3'],
  ['10.5.2.128/25', '172.20.0.4'], // nested in another host's
  ['10.5.20.0/24', '172.20.0.2'], // a second lease of one host
];
for (const [subnet, peer] of LEASES) {
  table.set(parsePrefix(subnet)!, { address: parseIpv4(peer)!, port: 8285, mtuBytes: 1472 });
}
table.publish();
const reader = new RouteReader(table.buffer, 0);

function judgeOne(source: string, destination: string): { verdict: string; peer: string } {
  const arena = newOutboundArena();
  arena[OutboundField.SOURCE] = word(source);
  arena[OutboundField.DESTINATION] = word(destination);
  reader.enter();
  judgeOutbound(arena, 1, reader, OWN);
  reader.leave();
  const verdict = arena[OutboundField.VERDICT];
  return {
    verdict: verdict === 0 ? 'send' : OUTBOUND_COUNTERS[verdict],
    peer: formatIpv4(ipv4(arena[OutboundField.PEER_ADDRESS] >>> 0)),
  };
}

t.test('judgeOutbound()', (t) => {
  const rows: [string, string, string, string][] = [
    ['10.5.1.2', '10.5.2.2', 'send', '172.20.0.2'],
    ['10.5.1.2', '10.5.2.200', 'send', '172.20.0.4'],
    ['10.5.1.2', '10.5.20.1', 'send', '172.20.0.2'],
    ['10.5.1.0', '10.5.3.1', 'send', '172.20.0.3'],
    ['172.20.0.1', '10.5.3.1', 'send', '172.20.0.3'],
    ['192.168.7.7', '10.5.3.1', 'send', '172.20.0.3'],
    ['10.5.1.2', '10.5.77.1', 'drop_no_route', '0.0.0.0'],
    ['10.5.1.2', '10.5.1.9', 'drop_own_subnet', '0.0.0.0'],
    ['10.5.2.2', '10.5.3.1', 'drop_hairpin', '172.20.0.3'],
    ['10.5.2.2', '10.5.77.1', 'drop_hairpin', '0.0.0.0'],
    ['10.5.2.2', '10.5.1.9', 'drop_hairpin', '0.0.0.0'],
  ];
  for (const [source, destination, verdict, peer] of rows) {
    t.same(judgeOne(source, destination), { verdict, peer }, `${source} to ${destination}`);
  }
  t.end();
});

t.test('judgeOutbound() gives neighbours with equal addresses the same answer', (t) => {
  const arena = newOutboundArena();
  for (let i = 0; i < 200; i++) {
    arena[OutboundField.SOURCE + i] = word('10.5.1.2');
    arena[OutboundField.DESTINATION + i] = word(i % 10 < 5 ? '10.5.2.2' : '10.5.3.3');
  }
  reader.enter();
  judgeOutbound(arena, 200, reader, OWN);
  reader.leave();
  for (let i = 0; i < 200; i++) {
    const expected = word(i % 10 < 5 ? '172.20.0.2' : '172.20.0.3');
    if (arena[OutboundField.PEER_ADDRESS + i] !== expected || arena[OutboundField.PEER_MTU + i] !== 1472)
      t.fail(`${i}`);
    if (arena[OutboundField.REPLY_SOURCE + i] !== word(i % 10 < 5 ? '10.5.2.0' : '10.5.3.0'))
      t.fail(`${i} reply`);
  }
  t.end();
});

function judgeRun(
  check: SourceCheck,
  outer: string,
  source: string,
  destination: string,
): [string, number, number] {
  const arena = newInboundArena();
  arena[InboundField.OUTER_SOURCE] = word(outer);
  arena[InboundField.INNER_SOURCE] = word(source);
  arena[InboundField.INNER_DESTINATION] = word(destination);
  reader.enter();
  judgeInbound(arena, 1, reader, OWN, check);
  reader.leave();
  const verdict = arena[InboundField.VERDICT];
  return [
    verdict === 0 ? 'deliver' : INBOUND_COUNTERS[verdict],
    arena[InboundField.AUDIT],
    arena[InboundField.PEER_ID],
  ];
}

t.test('judgeInbound()', (t) => {
  const container = '10.5.1.2';
  // outer, inner source, inner destination, strict, loose
  const rows: [string, string, string, string, string][] = [
    ['172.20.0.2', '10.5.2.2', container, 'deliver', 'deliver'],
    ['172.20.0.2', '10.5.20.9', container, 'deliver', 'deliver'],
    ['172.20.0.2', '10.5.2.0', '10.5.1.0', 'deliver', 'deliver'],
    ['172.20.0.2', '172.20.0.2', container, 'deliver', 'deliver'],
    ['172.20.0.4', '10.5.2.200', container, 'deliver', 'deliver'],
    ['172.20.0.2', '10.5.2.200', container, 'drop_spoofed_source', 'drop_spoofed_source'],
    ['172.20.0.2', '10.5.3.3', container, 'drop_spoofed_source', 'drop_spoofed_source'],
    ['172.20.0.2', '10.5.77.7', container, 'drop_unowned_source', 'deliver'],
    ['172.20.0.2', '8.8.8.8', container, 'drop_unowned_source', 'deliver'],
    ['172.20.0.2', '172.20.0.3', container, 'drop_unowned_source', 'deliver'],
    ['172.20.0.2', container, container, 'drop_own_source', 'drop_own_source'],
    ['172.20.0.2', '172.20.0.1', container, 'drop_own_source', 'drop_own_source'],
    ['172.20.0.2', '192.0.2.1', container, 'drop_own_source', 'drop_own_source'],
    ['172.20.0.9', '10.5.2.2', container, 'drop_unknown_peer', 'drop_unknown_peer'],
    ['172.20.0.1', '10.5.2.2', container, 'drop_own_outer', 'drop_own_outer'],
    ['192.0.2.1', '10.5.2.2', container, 'drop_own_outer', 'drop_own_outer'],
    ['172.20.0.2', '10.5.2.2', '10.5.3.3', 'drop_not_ours', 'drop_not_ours'],
    ['172.20.0.2', '10.5.2.2', '172.20.0.1', 'drop_not_ours', 'drop_not_ours'],
    ['172.20.0.2', '10.5.2.2', '8.8.8.8', 'drop_not_ours', 'drop_not_ours'],
  ];
  for (const [outer, source, destination, strict, loose] of rows) {
    const name = `${source} to ${destination} from host ${outer}`;
    const isOwner = LEASES.some(([, peer]) => peer === outer);
    for (const check of SOURCE_CHECKS) {
      const [verdict, audit, peer] = judgeRun(check, outer, source, destination);
      const expected = { strict, loose, audit: 'deliver', off: 'deliver' }[check];
      t.equal(verdict, expected, `${check}: ${name}`);
      t.equal(audit, check === 'audit' && strict !== 'deliver' ? 1 : 0, `${check} audit: ${name}`);
      if (!isOwner) t.equal(peer, -1, `${check}: ${name} is credited to nobody`);
    }
  }
  t.end();
});

t.test('before the first table stands, what is not found is counted apart, and never afterwards', (t) => {
  const young = new RouteTable(parsePrefix('10.5.0.0/16')!);
  young.setPartial();
  const view = new RouteReader(young.buffer, 0);
  const verdicts = (check: SourceCheck): [string, string, number] => {
    const [out, inward] = [newOutboundArena(), newInboundArena()];
    out[OutboundField.SOURCE] = word('10.5.1.2');
    out[OutboundField.DESTINATION] = word('10.5.77.1');
    inward[InboundField.OUTER_SOURCE] = word('172.20.0.9');
    inward[InboundField.INNER_SOURCE] = word('10.5.77.1');
    inward[InboundField.INNER_DESTINATION] = word('10.5.1.2');
    view.enter();
    judgeOutbound(out, 1, view, OWN);
    judgeInbound(inward, 1, view, OWN, check);
    view.leave();
    const verdict = inward[InboundField.VERDICT];
    return [
      OUTBOUND_COUNTERS[out[OutboundField.VERDICT]],
      verdict === 0 ? 'deliver' : INBOUND_COUNTERS[verdict],
      inward[InboundField.AUDIT],
    ];
  };
  t.same(verdicts('strict'), ['drop_no_table', 'drop_no_table', 0]);
  t.same(verdicts('audit'), ['drop_no_table', 'deliver', 0], 'nothing that strict would refuse for good');
  young.publish();
  t.same(verdicts('strict'), ['drop_no_table', 'drop_no_table', 0], 'a publication alone says nothing');
  young.setComplete();
  young.publish();
  t.same(verdicts('strict'), ['drop_no_route', 'drop_unknown_peer', 0], 'also when there is no lease at all');
  t.same(verdicts('audit'), ['drop_no_route', 'deliver', 1]);
  young.set(parsePrefix('10.5.2.0/24')!, { address: parseIpv4('172.20.0.2')!, port: 8285, mtuBytes: 1472 });
  young.publish();
  t.same(verdicts('strict'), ['drop_no_route', 'drop_unknown_peer', 0]);
  t.end();
});
