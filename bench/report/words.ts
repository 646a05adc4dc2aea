// How tables and pictures write what was measured.

/** Three digits, or all before the point with commas; "–" for what was not measured. */
export function shownNumber(value: number): string {
  if (Number.isNaN(value)) return '–';
  if (value >= 1000) return Math.round(value).toLocaleString('en-US');
  if (value >= 100) return value.toFixed(0);
  return value.toFixed(value >= 10 ? 1 : 2);
}

/** A table in Markdown: numbers to the right, the first column to the left. */
export function markdownTable(heading: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const rule = heading.map((_, i) => (i === 0 ? '---' : '--:'));
  return [line(heading), line(rule), ...rows.map(line)].join('\n');
}
