// The lane's filling, attaching and following of the table, on an addon that is a fake.

import t from 'tap';
import { Lane, type LaneOptions, PROVEN_MS, RECORDS_A_TURN } from '../../../src/dataplane/lane.js';
import { RouteTable } from '../../../src/dataplane/route-table.js';
import { LANE_RECORD_WORDS, LANE_TOTALS } from '../../../src/native/counters.js';
import { native } from '../../../src/native/native.js';
import { ipv4 } from '../../../src/net/ipv4.js';
import { parsePrefix } from '../../../src/net/prefix.js';

const EPERM = 1;
const ENOMEM = 12;
const NETWORK = parsePrefix('10.0.0.0/8')!;
const MODES = ['off', 'sparse', 'all', 'alone'];

/** In place of the addon's functions. Keeps what it is told in words; `refusals` are -errno by the name of the call. */
class FakeAddon {
  readonly calls: string[] = [];
  readonly refusals = new Map<string, number>();
  readonly agesMs: number[] = [];
  records = 0;
  tcx = true;

  readonly #native = {
    probeLane: () => ({ tcx: this.tcx }),
    openLane: (_engine: number, { mode }: { mode: number }) => {
      const errno = this.refusals.get('openLane');
      this.calls.push(`open ${MODES[mode]}`);
      if (errno !== undefined) return { errno, operation: 'BPF_PROG_LOAD' };
      return { pinned: true, encapInstructions: 1, decapInstructions: 1 };
    },
    attachLane: () => this.#take('attachLane', 'attach'),
    setLaneMode: (_engine: number, mode: number) => this.#take('setLaneMode', `mode ${MODES[mode]}`),
    updateLane: (_engine: number, records: Int32Array) => {
      const count = records.length / LANE_RECORD_WORDS;
      const result = this.#take('updateLane', `update ${count}`);
      if (result === 0) this.records += count;
      return result;
    },
    readLaneTotals: (_engine: number, values: Float64Array) => {
      values.forEach((_value, i) => (values[i] = i));
      return 0;
    },
    readLaneHeard: (_engine: number, agesMs: Float64Array) => {
      agesMs.set(this.agesMs);
      return 0;
    },
  };

  constructor() {
    Object.assign(native, this.#native);
  }

  take(): string[] {
    return this.calls.splice(0);
  }

  #take(name: string, words: string): number {
    const refusal = this.refusals.get(name) ?? 0;
    this.calls.push(refusal === 0 ? words : `${words} refused`);
    return refusal;
  }
}

function tableOf(leases: number): RouteTable {
  const table = new RouteTable(NETWORK);
  addLeases(table, 0, leases);
  return table;
}

function addLeases(table: RouteTable, from: number, to: number): void {
  for (let i = from; i < to; i++) {
    const peer = { address: ipv4(0xac140000 + i), port: 8285, mtuBytes: 1472 };
    table.set({ address: ipv4(NETWORK.address + 256 * i), length: 24 }, peer);
  }
  table.publish();
}

function openLane(table: RouteTable): Lane {
  const opened = Lane.open(optionsOf(table));
  if (!(opened instanceof Lane)) throw new Error(opened.why);
  return opened;
}

const optionsOf = (table: RouteTable): LaneOptions => ({
  engine: 1,
  uplinkIndex: 2,
  ownSubnet: parsePrefix('10.255.1.0/24')!,
  listenAddress: ipv4(0xc0000201),
  publicIp: ipv4(0xc0000201),
  port: 8285,
  mode: 'sparse',
  pinFolder: '/sys/fs/bpf/twill/1-flannel0',
  table,
});

/** Resolves when the turns that the lane asked for are over. */
async function caughtUp(lane: Lane): Promise<void> {
  while (lane.isBehind) await new Promise((resolve) => setImmediate(resolve));
}

t.test('it is attached when it has the whole table, some thousand leases in a turn', async (t) => {
  const addon = new FakeAddon();
  const table = tableOf(2 * RECORDS_A_TURN + 10);
  const lane = openLane(table);
  t.strictSame(addon.take(), ['open sparse', `update ${RECORDS_A_TURN}`]);
  t.equal(lane.mode, 'off');
  addLeases(table, 20_000, 20_005);
  t.strictSame(addon.take(), [], 'what is published meanwhile waits for its turn');
  await caughtUp(lane);
  t.strictSame(addon.take(), [`update ${RECORDS_A_TURN}`, 'update 10', 'update 5', 'attach']);
  t.equal(lane.mode, 'sparse');
  t.ok(lane.isPinned);
  table.delete(parsePrefix('10.0.1.0/24')!);
  table.publish();
  t.strictSame(addon.take(), ['update 1'], 'and then each publication is there at once');
  lane.close();
  addLeases(table, 30_000, 30_001);
  t.strictSame(addon.take(), []);
});

t.test('a pinned lane takes everything while there are no workers, unless it takes nothing', (t) => {
  const addon = new FakeAddon();
  const lane = openLane(tableOf(1));
  lane.setMode('off');
  addon.take();
  lane.takeOver();
  t.strictSame(addon.take(), []);
  lane.setMode('sparse');
  lane.takeOver();
  t.strictSame(addon.take(), ['mode sparse', 'mode alone']);
  lane.close();
  t.end();
});

t.test('with half a table it does not take over', (t) => {
  const addon = new FakeAddon();
  const table = tableOf(0);
  table.setPartial();
  const lane = openLane(table);
  addLeases(table, 0, 3);
  t.strictSame(addon.take(), ['open sparse', 'update 3']);
  t.match(lane.fault, /waits for the leases/);
  table.setComplete();
  table.publish();
  t.strictSame(addon.take(), ['attach']);
  t.equal(lane.fault, undefined);
  lane.close();
  t.end();
});

t.test('a map that cannot be written: nothing is given to it until it is what the table is', (t) => {
  const addon = new FakeAddon();
  const table = tableOf(1);
  const lane = openLane(table);
  addon.take();
  addon.refusals.set('updateLane', -ENOMEM);
  addLeases(table, 1, 3);
  t.strictSame(addon.take(), ['update 2 refused', 'mode off']);
  t.equal(lane.fault, 'its copy of the table cannot be written: ENOMEM');
  t.equal(lane.mode, 'off');
  addLeases(table, 3, 4);
  lane.setMode('all');
  lane.retry();
  t.strictSame(addon.take(), ['update 2 refused', 'mode off']);
  addon.refusals.clear();
  lane.retry();
  t.strictSame(addon.take(), ['update 2', 'update 1', 'mode all']);
  t.equal(lane.mode, 'all');
  t.equal(addon.records, 4);
  lane.retry();
  t.strictSame(addon.take(), []);
  lane.close();
  t.end();
});

t.test('what the kernel refuses is said with what it needs', (t) => {
  const addon = new FakeAddon();
  addon.refusals.set('openLane', EPERM);
  t.strictSame(Lane.open(optionsOf(tableOf(0))), {
    why: 'BPF_PROG_LOAD: EPERM: needs CAP_BPF and CAP_NET_ADMIN',
  });
  addon.tcx = false;
  t.match(Lane.open(optionsOf(tableOf(0))), { why: /Linux 6\.6/ });
  t.end();
});

t.test('peers whose lane was heard of late are proven; totals have their names', (t) => {
  const addon = new FakeAddon();
  const lane = openLane(tableOf(4));
  addon.agesMs.push(-1, 0, PROVEN_MS - 1, PROVEN_MS);
  const isProven = lane.provenRows(4);
  t.strictSame([0, 1, 2, 3].map(isProven), [false, true, true, false]);
  t.equal(lane.totals().out_packets, LANE_TOTALS.indexOf('out_packets'));
  t.equal(lane.totals().in_bytes, LANE_TOTALS.indexOf('in_bytes'));
  lane.close();
  t.end();
});
