// The picture of a run for somebody who knows neither tunnels nor this program: what containers get, a panel for each
// question in plain words, a bar for each way with its value. One file for light pages, one for dark ones; both are
// text that the results determine, so that a test can tell whether they are up to date.

import { findRow, medianOf, type Results } from './results.js';
import { ENGINE } from './targets.js';
import { shownNumber } from './words.js';

export interface Theme {
  readonly text: string;
  readonly muted: string;
  readonly ours: string;
  readonly engine: string;
  readonly other: string;
}

/** No background of their own: the page shows through. */
export const THEMES: Readonly<Record<'light' | 'dark', Theme>> = {
  light: { text: '#1f2328', muted: '#59636e', ours: '#d9480f', engine: '#f2a67f', other: '#afb8c1' },
  dark: { text: '#e6edf3', muted: '#9198a1', ours: '#ff8a4c', engine: '#9c5531', other: '#57606a' },
};

interface Panel {
  readonly suite: string;
  readonly metric: string;
  readonly title: string;
  readonly unit: string;
  readonly isLessBetter?: true;
}

const PANELS: readonly Panel[] = [
  { suite: 'peers', metric: 'TCP 1 stream, Cubic', title: 'One download', unit: 'Gbit/s' },
  {
    suite: 'peers',
    metric: 'round trip idle p50',
    title: 'Answer to a small request',
    unit: 'microseconds',
    isLessBetter: true,
  },
  { suite: 'peers', metric: 'TCP 4 streams, Cubic', title: 'Four downloads at once', unit: 'Gbit/s' },
  {
    suite: 'peers',
    metric: 'round trip beside bulk p99, Cubic',
    title: 'The same beside a download: 99 of 100 within',
    unit: 'microseconds',
    isLessBetter: true,
  },
  {
    suite: 'uplink',
    metric: 'TCP 4 streams, Cubic',
    title: 'Four downloads, network card without tunnel offload',
    unit: 'Gbit/s',
  },
  { suite: 'peers', metric: 'connections', title: 'New connections', unit: 'a second' },
];

/** The ways that are shown, and in whose words. A real flanneld where there was one, what stands for it elsewhere. */
const WAYS = [
  { peer: 'twill', name: 'twill' },
  { peer: ENGINE, name: 'twill, older kernels' },
  { peer: 'kernel vxlan', name: 'the kernel’s VXLAN' },
  { peer: 'flanneld udp', name: 'flanneld, udp' },
  { peer: 'plain packet loop', name: 'a plain tunnel' },
] as const;

const WIDTH = 860;
const COLUMNS = 2;
const GAP = 40;
const NAME_WIDTH = 130;
const VALUE_WIDTH = 56;
const ROW = 20;
const BAR = 13;
const PANEL_HEAD = 40;
const HEAD = 62;
const PANEL_WIDTH = (WIDTH - GAP) / COLUMNS;
const PANEL_HEIGHT = PANEL_HEAD + WAYS.length * ROW + 12;

const round = (value: number): string => value.toFixed(1).replace(/\.0$/, '');
const escaped = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');

function text(x: number, y: number, words: string, fill: string, more = ''): string {
  return `<text x="${round(x)}" y="${round(y)}" fill="${fill}"${more}>${escaped(words)}</text>`;
}

/** Medians of a panel, of the ways that were measured. */
function barsOf(results: Results, { suite, metric }: Panel): { peer: string; name: string; value: number }[] {
  return WAYS.map(({ peer, name }) => ({
    peer,
    name,
    value: medianOf(findRow(results, suite, peer, metric)),
  })).filter(({ value }) => !Number.isNaN(value));
}

function drawPanel(results: Results, panel: Panel, theme: Theme, x: number, y: number): string[] {
  const bars = barsOf(results, panel);
  const most = Math.max(...bars.map(({ value }) => value));
  const room = PANEL_WIDTH - NAME_WIDTH - VALUE_WIDTH;
  const hint = `${panel.unit}, ${panel.isLessBetter === true ? 'shorter' : 'longer'} is better`;
  const parts = [
    text(x, y + 14, panel.title, theme.text, ' font-weight="600"'),
    text(x, y + 30, hint, theme.muted, ' font-size="11"'),
  ];
  for (const [i, { peer, name, value }] of bars.entries()) {
    const top = y + PANEL_HEAD + i * ROW;
    const length = Math.max(1, (value / most) * room);
    const isOurs = peer === 'twill';
    const fill = isOurs ? theme.ours : peer === ENGINE ? theme.engine : theme.other;
    const weight = isOurs ? ' font-weight="600"' : '';
    const left = x + NAME_WIDTH;
    parts.push(
      text(left - 8, top + BAR - 2, name, theme.text, ` text-anchor="end"${weight}`),
      `<rect x="${round(left)}" y="${round(top)}" width="${round(length)}" height="${BAR}" rx="2" fill="${fill}"/>`,
      text(left + length + 6, top + BAR - 2, shownNumber(value), isOurs ? theme.ours : theme.text, weight),
    );
  }
  return parts;
}

/** The picture as SVG. */
export function drawChart(results: Results, theme: Theme): string {
  const { machine, suites } = results;
  const panels = PANELS.filter((panel) => barsOf(results, panel).length > 0);
  const rounds = suites.find(({ suite }) => suite === 'peers')?.rounds ?? 0;
  const height = HEAD + Math.ceil(panels.length / COLUMNS) * PANEL_HEIGHT;
  const subtitle = `two hosts on one machine with ${machine.cores} cores, medians of ${rounds} rounds, TCP with Cubic`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}"` +
      ' font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" font-size="12.5">',
    text(0, 20, 'What containers on two hosts get', theme.text, ' font-size="18" font-weight="700"'),
    text(0, 40, subtitle, theme.muted),
    ...panels.flatMap((panel, i) =>
      drawPanel(
        results,
        panel,
        theme,
        (i % COLUMNS) * (PANEL_WIDTH + GAP),
        HEAD + Math.floor(i / COLUMNS) * PANEL_HEIGHT,
      ),
    ),
    '</svg>',
    '',
  ].join('\n');
}

/** What the picture shows, for those who do not see it. */
export function describeChart(results: Results): string {
  const first = PANELS[0];
  const bars = barsOf(results, first).map(({ name, value }) => `${name} ${shownNumber(value)}`);
  return `${first.title}, ${first.unit}: ${bars.join(', ')}`;
}
