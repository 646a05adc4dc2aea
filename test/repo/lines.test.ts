// No line of C++ or of a script is longer than what fits beside another file; for TypeScript ESLint looks (max-len).

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';

const ROOT = new URL('../../', import.meta.url).pathname;
const COLUMNS = 120;

t.test(`no line of C++ or of a script has more than ${COLUMNS} columns`, (t) => {
  const files = ['addon', 'bench', 'docs', 'test'].flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
      .map((name) => join(folder, name))
      .filter((name) => /\.(?:cc|h|sh)$/.test(name)),
  );
  t.ok(files.length > 50, `${files.length} files`);
  const long = files.flatMap((file) =>
    readFileSync(join(ROOT, file), 'utf8')
      .split('\n')
      .flatMap((line, i) => ([...line].length > COLUMNS ? [`${file}:${i + 1}`] : [])),
  );
  t.same(long, []);
  t.end();
});
