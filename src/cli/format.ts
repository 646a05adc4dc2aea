// Text for people: tables, numbers with units, durations. Pure.

/** Rows in columns, the first row as heading; numbers to the right. Nothing in it can speak to a terminal. */
export function formatColumns(rows: readonly (readonly string[])[]): string {
  return linesOf(rows.map((row) => row.map(printable))).join('\n');
}

/**
 * As formatColumns(), in `width` columns: headings in `expendable` give way, the first named first, and what is still
 * too long is cut at the end.
 */
export function fitColumns(
  rows: readonly (readonly string[])[],
  expendable: readonly string[],
  width: number,
): string {
  let left = rows.map((row) => row.map(printable));
  let lines = linesOf(left);
  for (const heading of expendable) {
    if (lines.every(({ length }) => length <= width)) break;
    const column = left[0].indexOf(heading);
    if (column < 0) continue;
    left = left.map((row) => row.filter((_cell, i) => i !== column));
    lines = linesOf(left);
  }
  return lines.map((line) => cut(line, width)).join('\n');
}

/** `text` in lines of `width` columns; a word is never cut. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of printable(text).split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line];
}

function cut(line: string, width: number): string {
  return line.length <= width ? line : `${line.slice(0, Math.max(0, width - 1))}…`;
}

function linesOf(rows: readonly (readonly string[])[]): string[] {
  // Not Math.max(...): ten thousand peers would be as many arguments.
  const widths = rows[0].map((_, column) =>
    rows.reduce((widest, row) => Math.max(widest, row[column].length), 0),
  );
  const isNumber = rows[0].map((_, column) =>
    rows
      .slice(1)
      .every((row) => /^[\d.,–-]/.test(row[column]) && !row[column].includes('/') && !isAddress(row[column])),
  );
  return rows.map((row) =>
    row
      .map((cell, i) => (isNumber[i] ? cell.padStart(widths[i]) : cell.padEnd(widths[i])))
      .join('  ')
      .trimEnd(),
  );
}

/** An IPv4 or IPv6 address, or both: "172.20.0.1 and fd00::1". */
function isAddress(text: string): boolean {
  return /^\d+\.\d+\.\d+\.\d+( and |$)|^[\da-f]*:[\da-f:.]+$/.test(text);
}

/** Names and reasons come from a store that others write to. */
export function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, '·');
}

const UNITS = ['', 'k', 'M', 'G', 'T'];

/** 1234567 → "1.23 M"; below 1000 as it is. */
export function formatNumber(value: number): string {
  let unit = 0;
  let scaled = value;
  while (scaled >= 999.5 && unit < UNITS.length - 1) {
    scaled /= 1000;
    unit++;
  }
  if (unit === 0) return Number.isInteger(scaled) ? String(scaled) : scaled.toFixed(1);
  return `${scaled.toFixed(scaled < 10 ? 2 : scaled < 100 ? 1 : 0)} ${UNITS[unit]}`;
}

/** Seconds → "3d 4h", "4h 12m", "12m 5s", "5s". */
export function formatDuration(seconds: number): string {
  const parts: [number, string][] = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'm'],
    [Math.floor(seconds) % 60, 's'],
  ];
  const first = parts.findIndex(([value]) => value > 0);
  if (first < 0) return '0s';
  return parts
    .slice(first, first + 2)
    .map(([value, unit]) => `${value}${unit}`)
    .join(' ');
}

const BARS = '▁▂▃▄▅▆▇█';

/** Values as bars, the highest of them at full height. */
export function sparkline(values: readonly number[]): string {
  const highest = values.reduce((high, value) => Math.max(high, value), 0);
  return values
    .map(
      (value) =>
        BARS[highest === 0 ? 0 : Math.min(BARS.length - 1, Math.floor((value / highest) * BARS.length))],
    )
    .join('');
}

/** Columns of a terminal nobody has told us the width of. */
const DEFAULT_WIDTH = 80;
export const screenWidth = (): number => process.stdout.columns || DEFAULT_WIDTH;
