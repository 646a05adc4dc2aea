// Echoes over ICMPv6, and probers whose peers have addresses of both families.

import t from 'tap';
import { wordsOf } from '../../../src/net/address-words.js';
import { ipv4 } from '../../../src/net/ipv4.js';
import { type Ipv6, parseIpv6 } from '../../../src/net/ipv6.js';
import { type Address, formatAddress } from '../../../src/net/prefix.js';
import { type IcmpAddon, openAddonIcmp } from '../../../src/probe/addon-icmp.js';
import { buildEcho6, buildEchoTo, parseIcmp6, type Received } from '../../../src/probe/icmp-echo.js';
import { PathProber } from '../../../src/probe/path-prober.js';
import { openRawIcmp } from '../../../src/probe/raw-icmp.js';

const PEER = parseIpv6('fd00:99::2')!;
const ECHO = { id: 77, sequence: 5, token: Buffer.from('token678') };

function bytesOf(address: Ipv6): Buffer {
  const bytes = Buffer.alloc(16);
  wordsOf(address).forEach((word, i) => bytes.writeInt32BE(word, 4 * i));
  return bytes;
}

function replyTo(request: Buffer, from = PEER): Buffer {
  const reply = Buffer.from(request);
  reply[0] = 129;
  return Buffer.concat([bytesOf(from), reply]);
}

/** An error of a router about a request to PEER. */
function errorAbout(request: Buffer, type: number, mtuBytes = 0, protocol = 58): Buffer {
  const header = Buffer.alloc(8);
  header[0] = type;
  header.writeUInt32BE(mtuBytes, 4);
  const quoted = Buffer.alloc(40);
  quoted[0] = 0x60;
  quoted[6] = protocol;
  bytesOf(PEER).copy(quoted, 24);
  return Buffer.concat([bytesOf(parseIpv6('fd00:99::ff')!), header, quoted, request]);
}

t.test('buildEcho6() and parseIcmp6()', (t) => {
  const request = buildEchoTo(PEER, ECHO, 1500);
  t.strictSame(request, buildEcho6(ECHO, 1500));
  t.equal(request.length, 1460, 'the header of IPv6 is the kernel’s');
  t.throws(() => buildEcho6(ECHO, 63), RangeError);
  t.strictSame(parseIcmp6(replyTo(request)), { kind: 'reply', from: PEER, echo: ECHO, bytes: 1500 });
  const quoted = { destination: PEER, id: 77, sequence: 5 };
  t.strictSame(parseIcmp6(errorAbout(request, 2, 1400)), { kind: 'too-big', ...quoted, mtuBytes: 1400 });
  t.strictSame(parseIcmp6(errorAbout(request, 1)), { kind: 'unreachable', ...quoted });
  const others: [string, Buffer][] = [
    ['a request', Buffer.concat([bytesOf(PEER), request])],
    ['time exceeded', errorAbout(request, 3)],
    ['an error about UDP', errorAbout(request, 2, 1400, 17)],
    ['an error about a reply', errorAbout(replyTo(request).subarray(16), 2, 1400)],
  ];
  for (const [what, packet] of others) t.equal(parseIcmp6(packet), undefined, what);
  for (const whole of [
    replyTo(buildEcho6(ECHO, 64)).subarray(0, 32),
    errorAbout(request, 2, 1400).subarray(0, 72),
  ])
    for (let length = 0; length < whole.length; length++)
      t.equal(parseIcmp6(whole.subarray(0, length)), undefined, `${length} bytes`);
  t.end();
});

t.test('PathProber asks peers of both families, none of IPv6 for less than 1280 bytes', (t) => {
  const found: string[] = [];
  let nowMs = 0;
  /** What gets through on the way to each. */
  const widths = new Map<Address, number>([
    [PEER, 1380],
    [ipv4(0xc0000202), 1380],
    [parseIpv6('fd00:99::3')!, 1000],
  ]);
  const prober: PathProber = new PathProber({
    sender: {
      send: (to, packet) => {
        const bytes = packet.length + (typeof to === 'number' ? 20 : 40);
        if (bytes > widths.get(to)!) return;
        const echo = {
          id: packet.readUInt16BE(4),
          sequence: packet.readUInt16BE(6),
          token: packet.subarray(8, 16),
        };
        prober.receive({ kind: 'reply', from: to, echo, bytes });
      },
      close: () => undefined,
    },
    fullBytes: () => 1500,
    onPathMtu: (peer, mtuBytes) => found.push(`${formatAddress(peer)} ${mtuBytes}`),
    now: () => nowMs,
    random: () => 0.5,
    randomBytes: (count) => Buffer.alloc(count, 7),
  });
  prober.setPeers(widths.keys());
  for (; nowMs < 120_000; nowMs += 100) prober.tick();
  t.strictSame([...new Set(found)].sort(), ['192.0.2.2 1380', 'fd00:99::2 1379']);
  t.match(prober.report(PEER), { mtuBytes: 1379, loss: 0 });
  t.strictSame(prober.report(parseIpv6('fd00:99::3')!)?.mtuBytes, undefined, 'no link of IPv6 is so narrow');
  t.equal(prober.hostAnswer(PEER), 'answers');
  prober.changePeers([PEER], []);
  t.equal(prober.report(PEER), undefined);
  t.equal(prober.peerCount, 2);
  prober.close();
  t.end();
});

/** Sockets of the addon; what was sent, by whether it was over ICMPv6. */
function fakeAddon(answer = 0) {
  const opened: { wide: boolean; isClosed: boolean; sent: unknown[]; receive: (packet: Buffer) => void }[] =
    [];
  const IcmpSocket: IcmpAddon['IcmpSocket'] = class {
    readonly #one;
    constructor(buffer: ArrayBuffer, ends: Uint32Array, onBatch: (count: number) => void, wide = false) {
      const receive = (packet: Buffer): void => {
        new Uint8Array(buffer).set(packet);
        ends[0] = packet.length;
        onBatch(1);
      };
      this.#one = { wide, isClosed: false, sent: [] as unknown[], receive };
      opened.push(this.#one);
    }
    open(): number {
      return this.#one.wide ? answer : 0;
    }
    send(to: number | readonly number[]): number {
      this.#one.sent.push(to);
      return 0;
    }
    close(): void {
      this.#one.isClosed = true;
    }
  };
  return { opened, addon: { IcmpSocket } };
}

t.test('openAddonIcmp() gives the words of an address, and reads what comes with a source', (t) => {
  const { opened, addon } = fakeAddon();
  const received: Received[] = [];
  const sender = openAddonIcmp(addon, (one) => received.push(one), 'v6');
  sender.send(PEER, buildEcho6(ECHO, 64), () => t.fail());
  t.match(opened, [{ wide: true, sent: [wordsOf(PEER)] }]);
  opened[0].receive(replyTo(buildEcho6(ECHO, 64)));
  t.match(received, [{ kind: 'reply', from: PEER, bytes: 64 }]);
  sender.close();
  t.throws(() => openAddonIcmp(fakeAddon(-1).addon, () => undefined, 'v6'), /no raw ICMPv6 socket \(EPERM\)/);
  t.end();
});

t.test('openRawIcmp() opens what the network has', async (t) => {
  const { opened, addon } = fakeAddon();
  const { sender, by } = await openRawIcmp(
    () => undefined,
    () => Promise.resolve(addon),
    ['v6'],
  );
  t.equal(by, 'addon');
  t.strictSame(
    opened.map(({ wide }) => wide),
    [true],
  );
  sender.send(PEER, Buffer.alloc(24), () => t.fail());
  t.equal(opened[0].sent.length, 1);
  sender.close();
  t.ok(opened[0].isClosed);
});
