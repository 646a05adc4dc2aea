// The Debian package: judged by lintian, unpacked and run. It is made of what is compiled already; `npm run
// test:packages` compiles it twice, compares the two, and installs it.

import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import t from 'tap';
import { ALL_FLAGS } from '../../src/config/flags.js';
import { buildDeb, env, needs, ROOT } from '../packages/build-deb.js';

t.test(
  'the Debian package',
  { skip: needs('dpkg-shlibdeps', 'dpkg-deb', 'lintian'), timeout: 220_000 },
  (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'twill-deb-'));
    t.teardown(() => rmSync(folder, { recursive: true }));
    const compiled = join(folder, 'compiled');
    cpSync(join(ROOT, 'dist'), join(compiled, 'dist'), { recursive: true });
    const addon = join(compiled, 'prebuilds', `linux-${process.arch}`, 'twill.node');
    cpSync(join(ROOT, 'build/Release/twill.node'), addon);
    for (const name of ['twill-cni', 'twill-holder'])
      cpSync(join(ROOT, 'build/Release', name), join(dirname(addon), name));
    const first = buildDeb(join(folder, 'first'), { COMPILED: compiled });
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
    for (const { name } of ALL_FLAGS)
      t.ok(daemon.includes(`\\-\\-${name.replaceAll('-', '\\-')}`), `--${name}`);
    t.match(page('man1/twill.1.gz'), /\.B doctor/);
    t.match(page('man1/mk-docker-opts.1.gz'), /\.B \\-f FILE/);
    for (const program of ['twilld', 'flanneld', 'twill']) {
      const said = execFileSync(join(root, 'usr/bin', program), ['--version'], { encoding: 'utf8', env });
      t.match(said, /^\d+\.\d+\.\d+\n$/, program);
    }
    const cni = execFileSync(join(root, 'usr/lib/cni/twill-cni'), { env: { CNI_COMMAND: 'VERSION' } });
    t.match(JSON.parse(cni.toString()), { cniVersion: '1.1.0' }, 'the CNI plugin');
    const holder = spawnSync(join(root, 'usr/bin/twill-holder'), ['true'], { env: {}, encoding: 'utf8' });
    t.equal(holder.status, 0, holder.stderr);
    t.end();
  },
);
