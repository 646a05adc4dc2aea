// The archive is what cpio(1) makes and what busybox reads: here against numbers of the format's description.

import t from 'tap';
import { packArchive } from '../../kernels/cpio.js';

/** Entries of an archive in the "newc" format. */
function unpack(archive: Buffer): { path: string; mode: number; data: string }[] {
  const entries: { path: string; mode: number; data: string }[] = [];
  for (let at = 0; ;) {
    const number = (i: number): number =>
      parseInt(archive.toString('latin1', at + 6 + i * 8, at + 14 + i * 8), 16);
    if (archive.toString('latin1', at, at + 6) !== '070701') throw new Error(`no header at ${at}`);
    const [mode, size, nameBytes] = [number(1), number(6), number(11)];
    const path = archive.toString('utf8', at + 110, at + 110 + nameBytes - 1);
    if (path === 'TRAILER!!!') return entries;
    const dataAt = Math.ceil((at + 110 + nameBytes) / 4) * 4;
    entries.push({ path, mode, data: archive.toString('utf8', dataAt, dataAt + size) });
    at = Math.ceil((dataAt + size) / 4) * 4;
  }
}

t.test('packArchive() keeps paths, kinds and bytes of any length, each at a multiple of four', (t) => {
  const texts = ['', 'a', 'ab', 'abc', 'abcd', 'abcde'];
  const entries = texts.map(
    (text, i) => ({ path: `f${'x'.repeat(i)}`, kind: 'file', data: Buffer.from(text) }) as const,
  );
  const archive = packArchive([
    { path: 'bin', kind: 'folder' },
    ...entries,
    { path: 'bin/run', kind: 'program', data: Buffer.from('#!') },
    { path: 'sh', kind: 'link', data: Buffer.from('bin/run') },
  ]);
  t.equal(archive.length % 4, 0);
  t.same(unpack(archive), [
    { path: 'bin', mode: 0o40755, data: '' },
    ...texts.map((data, i) => ({ path: `f${'x'.repeat(i)}`, mode: 0o100644, data })),
    { path: 'bin/run', mode: 0o100755, data: '#!' },
    { path: 'sh', mode: 0o120777, data: 'bin/run' },
  ]);
  t.end();
});
