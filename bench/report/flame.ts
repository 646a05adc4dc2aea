// Samples of call chains as a flame graph in SVG, by Vega-Lite: a box for each function, as wide as the share of
// samples that it or what it called was in, on top of its caller; programs at the bottom.

import { writeFileSync } from 'node:fs';
import * as vega from 'vega';
import { compile, type TopLevelSpec } from 'vega-lite';

/** A function of a chain: its name, and whether it is the kernel's. */
export interface Frame {
  readonly name: string;
  readonly isKernel: boolean;
}

export interface Sample {
  readonly program: string;
  /** Innermost first. */
  readonly chain: readonly Frame[];
}

/** One box. `from` and `to` are shares of all samples. */
export interface Box {
  readonly name: string;
  readonly kind: 'program' | 'kernel' | 'user';
  readonly depth: number;
  readonly from: number;
  readonly to: number;
}

/** Boxes narrower than this share are left out, with all on top of them. */
const NARROWEST = 0.002;
const WIDTH_PX = 1400;
const ROW_PX = 14;
const CHARACTER_PX = 5.6;

interface Node {
  readonly kind: Box['kind'];
  count: number;
  readonly children: Map<string, Node>;
}

const newNode = (kind: Node['kind']): Node => ({ kind, count: 0, children: new Map() });

function childOf(node: Node, name: string, kind: Node['kind']): Node {
  let child = node.children.get(name);
  if (child === undefined) node.children.set(name, (child = newNode(kind)));
  child.count++;
  return child;
}

/** Lays the samples out; siblings by name, so that two graphs are easy to compare. */
export function boxesOf(samples: Iterable<Sample>): Box[] {
  const root = newNode('program');
  for (const { program, chain } of samples) {
    root.count++;
    let node = childOf(root, program, 'program');
    for (const { name, isKernel } of chain.toReversed()) {
      node = childOf(node, name, isKernel ? 'kernel' : 'user');
    }
  }
  const boxes: Box[] = [];
  const place = (node: Node, depth: number, start: number): void => {
    let from = start;
    for (const [name, child] of [...node.children].sort(([a], [b]) => (a < b ? -1 : 1))) {
      const to = from + child.count / root.count;
      if (to - from >= NARROWEST) {
        boxes.push({ name, kind: child.kind, depth, from, to });
        place(child, depth + 1, from);
      }
      from = to;
    }
  };
  place(root, 0, 0);
  return boxes;
}

/** What fits into the box of it. */
function labelOf({ name, from, to }: Box): string {
  const characters = Math.floor(((to - from) * WIDTH_PX) / CHARACTER_PX) - 1;
  if (characters < 3) return '';
  return name.length <= characters ? name : `${name.slice(0, characters - 1)}…`;
}

/** Writes the graph of `samples` to `path`. */
export async function writeFlameGraph(samples: Iterable<Sample>, title: string, path: string): Promise<void> {
  const boxes = boxesOf(samples);
  const rows = Math.max(...boxes.map(({ depth }) => depth)) + 1;
  const values = boxes.map((box) => ({ ...box, top: box.depth + 1, label: labelOf(box) }));
  const position = (field: string, end: number) => ({
    field,
    type: 'quantitative' as const,
    axis: null,
    scale: { domain: [0, end] },
  });
  const x = position('from', 1);
  const y = position('depth', rows);
  const spec: TopLevelSpec = {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    title,
    width: WIDTH_PX,
    height: rows * ROW_PX,
    data: { values },
    layer: [
      {
        mark: { type: 'rect', stroke: 'white', strokeWidth: 0.5 },
        encoding: {
          x,
          x2: { field: 'to' },
          y,
          y2: { field: 'top' },
          color: {
            field: 'kind',
            type: 'nominal',
            title: null,
            scale: { domain: ['program', 'kernel', 'user'], range: ['#c5ccd3', '#ffc078', '#f08c5a'] },
          },
        },
      },
      {
        mark: { type: 'text', align: 'left', baseline: 'bottom', dx: 2, dy: -2, fontSize: 9 },
        encoding: { x, y, text: { field: 'label' } },
      },
    ],
    config: { background: 'white', font: 'monospace', view: { stroke: null } },
  };
  const view = new vega.View(vega.parse(compile(spec).spec), { renderer: 'none' });
  writeFileSync(path, `${await view.toSVG()}\n`);
  view.finalize();
}
