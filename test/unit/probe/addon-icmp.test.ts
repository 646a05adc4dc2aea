import { constants } from 'node:os';
import t from 'tap';
import { ipv4 } from '../../../src/net/ipv4.js';
import { type IcmpAddon, openAddonIcmp } from '../../../src/probe/addon-icmp.js';
import { buildEcho, type Received } from '../../../src/probe/icmp-echo.js';

const PEER = ipv4(0xc0000202);
const TOKEN = Buffer.from('12345678');

/** The reply of PEER to an echo, as a raw socket gives it. */
function replyOf(sequence: number): Buffer {
  const icmp = buildEcho({ id: 7, sequence, token: TOKEN }, 64);
  icmp[0] = 0;
  icmp.writeUInt16BE(icmp.readUInt16BE(2) + 0x0800, 2); // the checksum without the 8 of an echo request
  const header = Buffer.alloc(20);
  header[0] = 0x45;
  header[9] = 1;
  header.writeUInt32BE(PEER, 12);
  return Buffer.concat([header, icmp]);
}

class FakeSocket {
  static answer = 0;
  static opened: FakeSocket | undefined;
  sent = 0;
  isClosed = false;

  constructor(
    readonly buffer: ArrayBuffer,
    readonly ends: Uint32Array,
    readonly onBatch: (count: number) => void,
  ) {
    FakeSocket.opened = this;
  }

  open(): number {
    return FakeSocket.answer;
  }

  send(): number {
    this.sent++;
    return FakeSocket.answer;
  }

  close(): void {
    this.isClosed = true;
  }

  receive(packets: readonly Buffer[]): void {
    let end = 0;
    packets.forEach((packet, i) => {
      new Uint8Array(this.buffer).set(packet, end);
      this.ends[i] = end += packet.length;
    });
    this.onBatch(packets.length);
  }
}

const ADDON: IcmpAddon = { IcmpSocket: FakeSocket };

t.beforeEach(() => {
  FakeSocket.answer = 0;
});

t.test('openAddonIcmp() reads every packet of a batch and skips what is no answer', (t) => {
  const received: Received[] = [];
  const sender = openAddonIcmp(ADDON, (one) => received.push(one));
  const socket = FakeSocket.opened!;
  socket.receive([replyOf(1), Buffer.from('no packet'), replyOf(2)]);
  socket.receive([replyOf(3)]);
  socket.onBatch(-constants.errno.ENETDOWN);
  t.match(
    received,
    [1, 2, 3].map((sequence) => ({ kind: 'reply', from: PEER, bytes: 64, echo: { id: 7, sequence } })),
  );
  t.equal(received.length, 3);
  sender.close();
  t.ok(socket.isClosed);
  t.end();
});

t.test('what the kernel says of a packet', (t) => {
  const sender = openAddonIcmp(ADDON, () => undefined);
  const { EMSGSIZE, EHOSTUNREACH, EPERM, ENOBUFS, EAGAIN } = constants.errno;
  const cases: [number, string][] = [
    [0, 'nothing'],
    [EMSGSIZE, 'too long'],
    [EHOSTUNREACH, 'refused: EHOSTUNREACH'],
    [EPERM, 'refused: EPERM'],
    [ENOBUFS, 'nothing'],
    [EAGAIN, 'nothing'],
  ];
  for (const [errno, expected] of cases) {
    FakeSocket.answer = -errno;
    let said = 'nothing';
    const packet = buildEcho({ id: 1, sequence: 1, token: TOKEN }, 64);
    sender.send(
      PEER,
      packet,
      () => (said = 'too long'),
      (reason) => (said = `refused: ${reason}`),
    );
    t.equal(said, expected);
  }
  t.end();
});

t.test('openAddonIcmp() names the capability that is missing', (t) => {
  FakeSocket.answer = -constants.errno.EPERM;
  t.throws(
    () => openAddonIcmp(ADDON, () => undefined),
    /no raw ICMP socket \(EPERM\): CAP_NET_RAW is needed/,
  );
  t.end();
});
