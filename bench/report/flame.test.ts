import t from 'tap';
import { boxesOf, type Sample } from './flame.js';

const kernel = (name: string) => ({ name, isKernel: true });
const user = (name: string) => ({ name, isKernel: false });

t.test('boxes lie on their callers, as wide as their share of the samples', (t) => {
  const samples: Sample[] = [
    { program: 'node', chain: [kernel('copy'), kernel('send'), user('main')] },
    { program: 'node', chain: [kernel('send'), user('main')] },
    { program: 'node', chain: [user('main')] },
    { program: 'idle', chain: [] },
  ];
  t.strictSame(boxesOf(samples), [
    { name: 'idle', kind: 'program', depth: 0, from: 0, to: 0.25 },
    { name: 'node', kind: 'program', depth: 0, from: 0.25, to: 1 },
    { name: 'main', kind: 'user', depth: 1, from: 0.25, to: 1 },
    { name: 'send', kind: 'kernel', depth: 2, from: 0.25, to: 0.75 },
    { name: 'copy', kind: 'kernel', depth: 3, from: 0.25, to: 0.5 },
  ]);
  t.end();
});

t.test('a box too narrow to be seen is left out, with all on top of it', (t) => {
  const samples: Sample[] = Array.from({ length: 999 }, () => ({ program: 'node', chain: [user('main')] }));
  samples.push({ program: 'perf', chain: [user('rare')] });
  t.strictSame(
    boxesOf(samples).map(({ name }) => name),
    ['node', 'main'],
  );
  t.end();
});
