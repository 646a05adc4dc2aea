// The Debian package: built twice, equal byte for byte, judged by lintian, unpacked and run.

import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import t from 'tap';
import { FLAGS } from '../../src/config/flags.js';

const ROOT = new URL('../..', import.meta.url).pathname;
const env = { ...process.env, NODE_OPTIONS: '' };
const missing = ['dpkg-shlibdeps', 'dpkg-deb', 'lintian'].find(
  (program) => spawnSync('sh', ['-c', 'command -v "$1"', 'sh', program], { stdio: 'ignore' }).status !== 0,
);

t.test(
  'the Debian package',
  { skip: missing === undefined ? false : `needs ${missing}`, timeout: 220_000 },
  (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'twill-deb-'));
    t.teardown(() => rmSync(folder, { recursive: true }));
    const build = (name: string): string => {
      mkdirSync(join(folder, name));
      const args = [join(ROOT, 'docs/install/build-deb.sh'), join(folder, name)];
      return execFileSync('bash', args, {
        encoding: 'utf8',
        env,
        stdio: ['ignore', 'pipe', 'ignore'],
      }).trim();
    };
    const [first, second] = [build('first'), build('second')];
    t.ok(readFileSync(first).equals(readFileSync(second)), 'two builds are equal');
    const { stdout } = spawnSync('lintian', ['--fail-on=none', first], { encoding: 'utf8', env });
    t.same(
      stdout.split('\n').filter((line) => line.startsWith('E:')),
      [],
      'lintian',
    );
    t.match(execFileSync('dpkg-deb', ['-f', first, 'Depends'], { encoding: 'utf8' }), /libc6 \(>= 2\.\d+\)/);

    const root = join(folder, 'root');
    execFileSync('dpkg-deb', ['-x', first, root]);
    const page = (path: string): string =>
      gunzipSync(readFileSync(join(root, 'usr/share/man', path))).toString();
    const daemon = page('man8/twilld.8.gz');
    for (const { name } of FLAGS) t.ok(daemon.includes(`\\-\\-${name.replaceAll('-', '\\-')}`), `--${name}`);
    t.match(page('man1/twill.1.gz'), /\.B doctor/);
    t.match(page('man1/mk-docker-opts.1.gz'), /\.B \\-f FILE/);
    for (const program of ['twilld', 'flanneld', 'twill']) {
      const said = execFileSync(join(root, 'usr/bin', program), ['--version'], { encoding: 'utf8', env });
      t.match(said, /^\d+\.\d+\.\d+\n$/, program);
    }
    t.end();
  },
);
