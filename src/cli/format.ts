// Text for people: tables, numbers with units, durations. Pure.

/** Rows in columns, the first row as heading; numbers to the right. Nothing in it can speak to a terminal. */
export function formatColumns(rows: readonly (readonly string[])[]): string {
  const clean = rows.map((row) => row.map(printable));
  const widths = clean[0].map((_, column) => Math.max(...clean.map((row) => row[column].length)));
  const isNumber = clean[0].map((_, column) =>
    clean
      .slice(1)
      .every((row) => /^[\d.,–-]/.test(row[column]) && !row[column].includes('/') && !isAddress(row[column])),
  );
  return clean
    .map((row) =>
      row
        .map((cell, i) => (isNumber[i] ? cell.padStart(widths[i]) : cell.padEnd(widths[i])))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

function isAddress(text: string): boolean {
  return /^\d+\.\d+\.\d+\.\d+$/.test(text);
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
