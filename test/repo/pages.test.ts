// The pages name what there is: files, headings, tests, words of the code.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';

const ROOT = new URL('../../', import.meta.url).pathname;

const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
const isThere = (path: string): boolean => existsSync(join(ROOT, path));

const adrs = readdirSync(join(ROOT, 'docs/adr')).sort();
const pages = ['docs', 'docs/install/kubernetes'].flatMap((folder) =>
  readdirSync(join(ROOT, folder))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `${folder}/${name}`),
);
const all = ['README.md', 'test/README.md', ...pages, ...adrs.map((name) => `docs/adr/${name}`)];

/** Texts between backticks. */
function quoted(text: string): string[] {
  return [...text.replace(/^```[\s\S]*?^```/gm, '').matchAll(/`([^`\n]+)`/g)].map(([, quote]) => quote);
}

/** The anchors of a page, as GitHub makes them of headings. */
function anchorsOf(path: string): Set<string> {
  const headings = [...read(path).matchAll(/^#+ (.+)$/gm)].map(([, heading]) => heading);
  return new Set(
    headings.map((heading) =>
      heading
        .toLowerCase()
        .replace(/[^\p{L}\p{N} _-]/gu, '')
        .replaceAll(' ', '-'),
    ),
  );
}

t.test('files that the pages name are there', (t) => {
  // Decisions name what there was when they were made.
  for (const page of all.filter((path) => !path.startsWith('docs/adr/'))) {
    const paths = quoted(read(page)).filter((text) => /^(?:src|addon|test|bench|docs)\/[\w./-]*$/.test(text));
    t.same(
      paths.filter((path) => !isThere(path)),
      [],
      page,
    );
  }
  t.end();
});

t.test('links lead somewhere', (t) => {
  for (const page of all) {
    const links = [...read(page).matchAll(/\]\(([^)\s]+)\)/g)].map(([, link]) => link);
    const wrong = links.filter((link) => {
      if (/^[a-z]+:/.test(link)) return false;
      const [path, anchor] = link.split('#');
      const target = path === '' ? page : join(dirname(page), path);
      return !isThere(target) || (anchor !== undefined && !anchorsOf(target).has(anchor));
    });
    t.same(wrong, [], page);
  }
  t.end();
});

t.test('README.md leads to each page', (t) => {
  const readme = read('README.md');
  t.same(
    pages.filter((page) => !readme.includes(`](${page})`)),
    [],
  );
  t.end();
});

t.test('decisions are numbered without a gap', (t) => {
  for (const [i, name] of adrs.entries()) {
    t.ok(name.startsWith(`${String(i + 1).padStart(4, '0')}-`), name);
    t.match(read(`docs/adr/${name}`), new RegExp(`^# ${i + 1}\\. `), name);
  }
  t.end();
});

t.test('each bug has a symptom, a cause and a test that is there', (t) => {
  const [, bugs] = read('test/README.md').split('## Bugs and the tests that keep them away');
  const rows = bugs.split('\n').filter((line) => line.startsWith('|') && !/^\| (symptom|---)/.test(line));
  t.ok(rows.length > 100, `${rows.length} rows`);
  const isTest = (name: string): boolean =>
    isThere(`test/${name}`) && /(?:\.test\.ts|_test\.cc|\.test\.yml)$/.test(name);
  for (const row of rows) {
    const cells = row
      .replace(/\\\|/g, '')
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim());
    t.equal(cells.filter((cell) => cell !== '').length, 3, row);
    const tests = quoted(cells.at(-1)!).filter((text) => /^[a-z]+\/\S+$/.test(text));
    t.ok(tests.length > 0, `names a test: ${row}`);
    t.same(
      tests.filter((name) => !isTest(name)),
      [],
      row,
    );
  }
  t.end();
});

t.test('the words of the glossary are words of the code', (t) => {
  const code = ['src', 'addon']
    .flatMap((folder) =>
      readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
        .filter((name) => /\.(?:ts|cc|h)$/.test(name))
        .map((name) => read(`${folder}/${name}`)),
    )
    .join('\n')
    // Names fall apart into words.
    .replace(/([a-z0-9])([A-Z])/g, '$1 $2')
    .replaceAll('_', ' ')
    .toLowerCase();
  const rows = [...read('docs/glossary.md').matchAll(/^\| ([^|]+) \|/gm)].map(([, words]) => words.trim());
  const words = rows.filter((word) => !/^(?:word|-+)$/.test(word)).flatMap((word) => word.split(', '));
  t.ok(words.length > 50, `${words.length} words`);
  t.same(
    words.filter((word) => !new RegExp(`\\b${word.toLowerCase()}`).test(code)),
    [],
  );
  t.equal(new Set(words).size, words.length, 'each word once');
  t.end();
});

t.test('default paths and ports are written once', (t) => {
  const sources = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.ts'),
  );
  for (const value of [
    '8285',
    '8472',
    '/run/flannel/subnet.env',
    '/coreos.com/network',
    '/run/twill/twilld.sock',
  ]) {
    const places = sources.filter((name) => {
      const code = read(`src/${name}`).replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, '');
      return new RegExp(`(?<![\\w.])${value}(?![\\w])`).test(code);
    });
    t.equal(places.length, 1, `${value}: ${places.join(', ')}`);
  }
  t.end();
});

t.test('comments name files that are there', (t) => {
  const folders = ['src', 'addon', 'test', 'bench', 'docs'];
  const known = new Set(
    folders.flatMap((folder) =>
      readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' }).flatMap((name) => {
        // By the end of its path, of any length.
        const parts = [folder, ...name.split('/')];
        return parts.map((_part, i) => parts.slice(i).join('/'));
      }),
    ),
  );
  const wrong: string[] = [];
  for (const folder of ['src', 'addon', 'bench', 'test/support']) {
    for (const name of readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })) {
      if (!/\.(?:ts|cc|h)$/.test(name)) continue;
      const comments = read(`${folder}/${name}`).match(/\/\*[\s\S]*?\*\/|(?<![:'"`])\/\/.*/g) ?? [];
      for (const [path] of comments
        .join('\n')
        .matchAll(/(?<![\w/.<>-])[a-z][\w/-]*\.(?:test\.ts|ts|cc|md)\b/g)) {
        if (!known.has(path)) wrong.push(`${folder}/${name}: ${path}`);
      }
    }
  }
  t.same(wrong, []);
  t.end();
});
