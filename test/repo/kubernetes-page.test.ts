// docs/kubernetes.md names the annotations, conditions and Events that the code has.

import { readFileSync } from 'node:fs';
import t from 'tap';
import { type ConditionCode, CONDITIONS, makesUnready } from '../../src/core/conditions.js';
import { ANNOTATIONS } from '../../src/store/kube/annotations.js';
import { eventReason } from '../../src/store/kube/node-events.js';

const page = readFileSync(new URL('../../docs/kubernetes.md', import.meta.url), 'utf8');

const quoted = (text: string): string[] => [...text.matchAll(/`([^`]+)`/g)].map(([, name]) => name);

/** The first column of the table between `<!-- name -->` and `<!-- end -->`. */
function firstColumn(name: string): string[] {
  const table = new RegExp(`<!-- ${name} -->([\\s\\S]*?)<!-- end -->`).exec(page)?.[1] ?? '';
  return table.split('\n').flatMap((row) => quoted(row.split('|')[1] ?? ''));
}

t.test('docs/kubernetes.md has a row for each annotation', (t) => {
  t.same(new Set(firstColumn('annotations')), new Set(Object.values(ANNOTATIONS)));
  t.end();
});

t.test('docs/kubernetes.md names conditions that there are', (t) => {
  const codes = quoted(page).filter((text) => /^(?:node|pod|lease|store)-[a-z-]+$/.test(text));
  const named = codes.filter((code) => !Object.values<string>(ANNOTATIONS).includes(code));
  t.ok(named.length > 5);
  for (const code of named) t.ok(Object.hasOwn(CONDITIONS, code), code);
  t.end();
});

t.test('docs/kubernetes.md names reasons of Events that there are', (t) => {
  const section = /^## Kubernetes Events\n([\s\S]*?)(?=^## )/m.exec(page)?.[1] ?? '';
  const reasons = quoted(section).filter((text) => /^(?:[A-Z][a-z]+){2,}$/.test(text));
  const codes = (Object.keys(CONDITIONS) as ConditionCode[]).filter((code) => makesUnready({ code }));
  const known = new Set([...codes.map(eventReason), eventReason('lease-refused'), 'OverlayReady']);
  t.ok(reasons.length > 3);
  for (const reason of reasons) t.ok(known.has(reason), reason);
  t.end();
});
