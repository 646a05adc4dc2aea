// BPF instructions as text, decoded from their bytes: struct bpf_insn, include/uapi/linux/bpf.h, little endian.
//
// Knows what the lane's programs use, and throws at anything else, so that nothing new comes in unseen.

/** What stands before an instruction: the name of a label, or an explanation. */
export interface Note {
  readonly instruction: number;
  readonly text: string;
  readonly isLabel: boolean;
}

const SIZES: Readonly<Record<number, string>> = { 0x00: 'u32', 0x08: 'u16', 0x10: 'u8', 0x18: 'u64' };
const OPERATIONS: Readonly<Record<number, string>> = {
  0x00: '+=',
  0x10: '-=',
  0x20: '*=',
  0x30: '/=',
  0x40: '|=',
  0x50: '&=',
  0x60: '<<=',
  0x70: '>>=',
  0xa0: '^=',
  0xb0: '=',
  0xc0: 's>>=',
};
const CONDITIONS: Readonly<Record<number, string>> = {
  0x10: '==',
  0x20: '>',
  0x30: '>=',
  0x50: '!=',
  0x60: 's>',
  0xa0: '<',
  0xb0: '<=',
};
/** The helpers the lane calls: no other is let in. */
const HELPERS: Readonly<Record<number, string>> = {
  1: 'map_lookup_elem',
  5: 'ktime_get_ns',
  9: 'skb_store_bytes',
  23: 'redirect',
  26: 'skb_load_bytes',
  43: 'skb_change_head',
  50: 'skb_adjust_room',
  69: 'fib_lookup',
  152: 'redirect_neigh',
  163: 'check_mtu',
};
const BYTES = 8;

function known(table: Readonly<Record<number, string>>, value: number, what: string): string {
  const name = table[value] as string | undefined;
  if (name === undefined) throw new RangeError(`${what} 0x${value.toString(16)} is not expected`);
  return name;
}

/** "r7 + 4", "r10 - 80". */
function at(register: number, offset: number): string {
  return `r${register} ${offset < 0 ? '-' : '+'} ${Math.abs(offset)}`;
}

/** One instruction, the i-th of a program; `labelOf` names the instruction that a jump goes to. */
function decode(code: DataView, i: number, labelOf: (target: number) => string): string {
  const opcode = code.getUint8(i * BYTES);
  const [to, from] = [code.getUint8(i * BYTES + 1) & 15, code.getUint8(i * BYTES + 1) >> 4];
  const offset = code.getInt16(i * BYTES + 2, true);
  const value = code.getInt32(i * BYTES + 4, true);
  const operand = (opcode & 0x08) !== 0 ? `r${from}` : String(value);
  const address = (register: number): string =>
    `*(${known(SIZES, opcode & 0x18, 'size')} *)(${at(register, offset)})`;
  switch (opcode & 0x07) {
    case 0x00:
      if (opcode !== 0x18 || from !== 1)
        throw new RangeError(`opcode 0x${opcode.toString(16)} is not expected`);
      return `r${to} = map ${value}`;
    case 0x01:
      return `r${to} = ${address(from)}`;
    case 0x02:
      return `${address(to)} = ${value}`;
    case 0x03:
      if ((opcode & 0xe0) === 0xc0 && value === 0) return `lock ${address(to)} += r${from}`;
      if ((opcode & 0xe0) === 0x60) return `${address(to)} = r${from}`;
      throw new RangeError(`opcode 0x${opcode.toString(16)} is not expected`);
    case 0x04:
      if (opcode === 0xdc) return `r${to} = be${value} r${to}`;
      return `w${to} ${known(OPERATIONS, opcode & 0xf0, 'operation')} ${operand.replace('r', 'w')}`;
    case 0x07:
      return `r${to} ${known(OPERATIONS, opcode & 0xf0, 'operation')} ${operand}`;
    case 0x05:
      if (opcode === 0x05) return `goto ${labelOf(i + 1 + offset)}`;
      if (opcode === 0x85) return `call ${known(HELPERS, value, 'helper')}`;
      if (opcode === 0x95) return 'exit';
      return `if r${to} ${known(CONDITIONS, opcode & 0xf0, 'condition')} ${operand} goto ${labelOf(i + 1 + offset)}`;
    default: {
      const condition = known(CONDITIONS, opcode & 0xf0, 'condition');
      return `if w${to} ${condition} ${operand.replace('r', 'w')} goto ${labelOf(i + 1 + offset)}`;
    }
  }
}

/** A line for each instruction, with its notes before it. Throws RangeError at what the lane does not use. */
export function disassemble(code: Uint8Array, notes: readonly Note[]): string {
  const view = new DataView(code.buffer, code.byteOffset, code.byteLength);
  const labels = new Map(notes.filter((note) => note.isLabel).map((note) => [note.instruction, note.text]));
  const labelOf = (target: number): string => {
    const label = labels.get(target);
    if (label === undefined) throw new RangeError(`a jump goes to ${target}, where no label is`);
    return label;
  };
  const lines: string[] = [];
  const count = code.length / BYTES;
  for (let i = 0; i < count; i++) {
    for (const { text, isLabel } of notes.filter((note) => note.instruction === i))
      lines.push(isLabel ? `${text}:` : `      ; ${text}`);
    lines.push(`${String(i).padStart(5)} ${decode(view, i, labelOf)}`);
    if (view.getUint8(i * BYTES) === 0x18) i++; // two wide
  }
  return `${lines.join('\n')}\n`;
}
