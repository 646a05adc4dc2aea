// What a container's raw and packet sockets see of what another container sent: packets of a protocol without ports in
// their order, and datagrams no larger than they were, unless --merge-udp was asked for.
//
//   container a (10.5.1.2) ─ twilld ═══ UDP 8285 ═══ twilld ─ container b (10.5.2.2)

import t, { type Test } from 'tap';
import { type Host, Lab, labUnavailable, waitFor } from '../support/lab.js';
import { countIn, metricsOf, startCluster, statusOf } from '../support/twill-hosts.js';

const skip = labUnavailable();

const PACKETS = 400;
const DATAGRAMS = 40;
const DATAGRAM_BYTES = 1000;

// Prints the length of every packet of the protocol that a raw socket and a packet socket get, and the number in it.
const READER = `
import json, select, socket, sys
protocol, count = int(sys.argv[1]), int(sys.argv[2])
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol)
packet = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
for s in (raw, packet): s.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)
def checksum(data):
    if len(data) % 2: data += b'\\0'
    total = sum(int.from_bytes(data[i:i + 2], 'big') for i in range(0, len(data), 2))
    while total > 0xffff: total = (total & 0xffff) + (total >> 16)
    return total
def describe(data):
    pseudo = data[12:20] + bytes([0, protocol]) + (len(data) - 20).to_bytes(2, 'big')
    return [len(data), int.from_bytes(data[28:32], 'big'), checksum(pseudo + data[20:]) == 0xffff]
seen = {raw: [], packet: []}
print('reading', flush=True)
def size(s): return sum(max(1, (d[0] - 28) // ${DATAGRAM_BYTES}) for d in seen[s])
while min(size(raw), size(packet)) < count:
    ready = select.select([raw, packet], [], [], 10)[0]
    if not ready: break
    for s in ready:
        data, address = s.recvfrom(70000)
        if data[9] != protocol: continue
        if s is packet and address[2] != socket.PACKET_HOST: continue
        seen[s].append(describe(data))
print('seen ' + json.dumps([seen[raw], seen[packet]]), flush=True)
`;

// Two lengths in turn, so that neighbours leave in different trains; the first four bytes, which are no ports, and the
// number differ from packet to packet.
const SENDER = `
import socket, sys
protocol, to = int(sys.argv[1]), sys.argv[2]
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol)
for i in range(${PACKETS}):
    s.sendto((i * 7919).to_bytes(4, 'big') + bytes(4) + i.to_bytes(4, 'big') + bytes(100 if i % 2 else 700), (to, 0))
`;

// One superpacket of UDP_SEGMENT (103).
const SUPERPACKET_SENDER = `
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(17, 103, ${DATAGRAM_BYTES})
s.sendto(b''.join(i.to_bytes(4, 'big') * ${DATAGRAM_BYTES / 4} for i in range(${DATAGRAMS})), (sys.argv[1], 4000))
`;

type Seen = [length: number, number: number, isChecksumRight: boolean][];

async function exchange(
  lab: Lab,
  [a, b]: readonly Host[],
  protocol: number,
  count: number,
  sender: readonly string[],
): Promise<{ raw: Seen; packet: Seen }> {
  const reader = await lab.spawnUntil(
    b.containerNs,
    'python3',
    ['-c', READER, String(protocol), String(count)],
    /reading/,
  );
  await lab.run(a.containerNs, 'python3', ['-c', ...sender, b.containerIp]);
  await waitFor(() => /seen .*\n/.test(reader.log()), 'the reader to have seen all', 30_000);
  const [raw, packet] = JSON.parse(/seen (.*)/.exec(reader.log())![1]) as [Seen, Seen];
  return { raw, packet };
}

const numbers = (count: number) => Array.from({ length: count }, (_, i) => i);

function checkDatagrams(t: Test, seen: { raw: Seen; packet: Seen }): void {
  for (const [who, datagrams] of Object.entries(seen)) {
    t.same(
      datagrams,
      numbers(DATAGRAMS).map((number) => [28 + DATAGRAM_BYTES, number, true]),
      `${who} socket: each datagram as it was sent, in order, its checksum complete`,
    );
  }
}

t.test('two hosts with what is on by default', { skip }, async (t) => {
  const lab = Lab.open('flow-');
  t.teardown(() => lab.close());
  const { hosts, daemons } = await startCluster(lab, 2);

  for (const [name, protocol] of Object.entries({ IPIP: 4, GRE: 47, ESP: 50, OSPF: 89 })) {
    await t.test(`${name} arrives in the order in which it was sent`, async (t) => {
      const { raw } = await exchange(lab, hosts, protocol, PACKETS, [SENDER, String(protocol)]);
      t.same(
        raw.map(([, number]) => number),
        numbers(PACKETS),
      );
    });
  }

  await t.test('raw and packet sockets see UDP datagrams as they were sent', async (t) => {
    checkDatagrams(t, await exchange(lab, hosts, 17, DATAGRAMS, [SUPERPACKET_SENDER]));
  });

  await t.test('what is switched off is said in the log and in /status', async (t) => {
    t.match(daemons[0].log(), /data path open.*mergeUdp=off/);
    t.equal(countIn(await metricsOf(lab, hosts[0]), 'merging{protocol="udp"}'), 0);
    t.match((await statusOf(lab, hosts[0])).backend, { offloads: { mergeUdp: 'off', udpGro: true } });
  });
});

t.test('two hosts with --merge-udp=auto and the other switches off', { skip }, async (t) => {
  const lab = Lab.open('flow-on-');
  t.teardown(() => lab.close());
  const off = ['--udp-segment=off', '--udp-gro=off', '--tun-tso=off', '--tun-uso=off', '--merge-tcp=off'];
  const { hosts } = await startCluster(lab, 2, [...off, '--merge-udp=auto']);
  const { offloads } = (await statusOf(lab, hosts[0])).backend as unknown as {
    offloads: Record<string, unknown>;
  };
  const { tso4, uso, udpSegments, udpGro, mergeTcp, mergeUdp } = offloads;
  t.same(
    { tso4, uso, udpSegments, udpGro, mergeTcp },
    { tso4: 'off', uso: 'off', udpSegments: 'off', udpGro: 'off', mergeTcp: 'off' },
  );
  const seen = await exchange(lab, hosts, 17, DATAGRAMS, [SUPERPACKET_SENDER]);
  if (mergeUdp === true)
    t.ok(
      seen.packet.some(([length]) => length > 28 + DATAGRAM_BYTES),
      'this test tells the two apart',
    );
  else t.equal(seen.packet.length, DATAGRAMS, 'the kernel takes no UDP superpackets');
  const { stdout } = await lab.run(hosts[0].containerNs, 'ping', ['-c', '1', hosts[1].containerIp]);
  t.match(stdout, /1 received/);
});
