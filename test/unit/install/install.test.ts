// What is installed: the npm tarball in an empty folder, the unit, the recipes, alerts and the dashboard.

import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { INBOUND_COUNTERS, OUTBOUND_COUNTERS } from '../../../src/native/counters.js';
import { folderOf } from '../../support/folder.js';

const ROOT = new URL('../../..', import.meta.url).pathname;
const INSTALL = join(ROOT, 'docs/install');
const run = promisify(execFile);

const env = (extra: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv => ({
  ...process.env,
  NODE_OPTIONS: '',
  ...extra,
});
const isThere = (program: string): boolean =>
  spawnSync('sh', ['-c', 'command -v "$1"', 'sh', program], { stdio: 'ignore' }).status === 0;
const needs = (program: string): string | false => (isThere(program) ? false : `needs ${program}`);

t.test('npm pack, then install in an empty folder', { timeout: 110_000 }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'twill-pack-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const source = join(folder, 'source');
  const { files } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { files: string[] };
  for (const name of [...files, 'package.json', 'README.md'].filter((name) => name !== 'prebuilds')) {
    cpSync(join(ROOT, name), join(source, name), { recursive: true });
  }
  // As prebuildify lays it out; made by the build that is tested here.
  const prebuilds = join(source, 'prebuilds', `${process.platform}-${process.arch}`);
  mkdirSync(prebuilds, { recursive: true });
  for (const name of ['twill.node', 'twill-cni'])
    cpSync(join(ROOT, 'build/Release', name), join(prebuilds, name));
  const packed = await run('npm', ['pack', '--ignore-scripts', '--pack-destination', folder], {
    cwd: source,
    env: env(),
  });
  const tarball = join(folder, packed.stdout.trim().split('\n').pop()!);

  const target = join(folder, 'target');
  mkdirSync(target);
  writeFileSync(join(target, 'package.json'), '{"private":true}');
  const args = ['install', '--no-audit', '--no-fund', '--omit=optional', '--prefer-offline', tarball];
  await run('npm', args, { cwd: target, env: env() });
  t.notOk(
    readdirSync(join(target, 'node_modules/@twill-overlay/twill')).includes('build'),
    'nothing was compiled',
  );
  const bin = (name: string, args: string[], extra: NodeJS.ProcessEnv = {}): string =>
    execFileSync('env', ['-u', 'NODE_OPTIONS', join(target, 'node_modules/.bin', name), ...args], {
      encoding: 'utf8',
      env: env(extra),
      input: '{}',
    });
  const version = `${(JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string }).version}\n`;
  for (const name of ['twilld', 'flanneld', 'twill']) t.equal(bin(name, ['--version']), version, name);
  t.match(JSON.parse(bin('twill-cni', [], { CNI_COMMAND: 'VERSION' })), { cniVersion: '1.1.0' });
  const plugin = bin('twill-cni', ['--path']).trim();
  t.match(plugin, /\/prebuilds\/.*\/twill-cni$/, 'the one file that a node gets');
  const alone = join(folder, 'flannel');
  cpSync(plugin, alone);
  t.match(JSON.parse(execFileSync(alone, { encoding: 'utf8', env: { CNI_COMMAND: 'VERSION' } })), {
    cniVersion: '1.1.0',
  });
  const out = join(folder, 'docker');
  bin('mk-docker-opts', ['-f', join(folder, 'none.env'), '-d', out]);
  t.match(readFileSync(out, 'utf8'), /^DOCKER_/m);
  const root = `require('node:path').dirname(require.resolve('@twill-overlay/twill/package.json'))`;
  const load = `require('node-gyp-build')(${root}).layout.outboundCapacity`;
  const loaded = spawnSync('env', ['-u', 'NODE_OPTIONS', process.execPath, '-p', load], {
    cwd: target,
    encoding: 'utf8',
    env: env({ PREBUILDS_ONLY: '1' }),
  });
  t.match(loaded.stdout, /^\d+$/m, loaded.stderr);

  await t.test(
    'a project that imports it is type-checked, declarations of the package included',
    async (t) => {
      cpSync(join(ROOT, 'docs/examples'), join(target, 'src'), { recursive: true });
      const compilerOptions = {
        target: 'ES2022',
        module: 'NodeNext',
        lib: ['ES2023'],
        typeRoots: [join(ROOT, 'node_modules/@types')],
        types: ['node'],
        strict: true,
        exactOptionalPropertyTypes: true,
        outDir: 'out',
      };
      writeFileSync(join(target, 'package.json'), '{"private":true,"type":"module"}');
      writeFileSync(join(target, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['src'] }));
      const check = await run(process.execPath, [join(ROOT, 'node_modules/typescript/bin/tsc')], {
        cwd: target,
        env: env(),
      }).catch((error: { stdout: string }) => error);
      t.equal(check.stdout, '');
      const source = `import { parsePrefix, RouteTable } from '@twill-overlay/twill/dataplane';
      const table = new RouteTable(parsePrefix('10.5.0.0/16'));
      console.log(table.size, table.publish());`;
      const imported = spawnSync(
        'env',
        ['-u', 'NODE_OPTIONS', process.execPath, '--input-type=module', '-e', source],
        {
          cwd: target,
          encoding: 'utf8',
        },
      );
      t.equal(imported.stdout, '0 true\n', imported.stderr);
      const inside = spawnSync(process.execPath, ['-e', `require('@twill-overlay/twill/dist/daemon.js')`], {
        cwd: target,
        encoding: 'utf8',
        env: env(),
      });
      t.match(inside.stderr, /ERR_PACKAGE_PATH_NOT_EXPORTED/, 'nothing else can be imported');
    },
  );
});

t.test('the unit may load the program that bounds the queue', (t) => {
  const unit = readFileSync(join(INSTALL, 'twilld.service'), 'utf8');
  for (const set of ['CapabilityBoundingSet', 'AmbientCapabilities'])
    t.match(unit, new RegExp(`^${set}=.*\\bCAP_BPF\\b`, 'm'));
  t.match(unit, /^SystemCallFilter=.*\bbpf\b/m);
  t.end();
});

t.test('the unit leaves /sys/fs/bpf writable, for the pins of the kernel lane', (t) => {
  const unit = readFileSync(join(INSTALL, 'twilld.service'), 'utf8');
  // ProtectSystem=strict spares /dev, /proc and /sys (systemd.exec(5)); these would not.
  t.notMatch(unit, /^(?:ProtectKernelTunables|PrivateBPF)=(?!no$)/m);
  t.notMatch(unit, /^(?:ReadOnly|Inaccessible)Paths=/m);
  t.end();
});

t.test('the unit waits and tries for as long as it is right to', (t) => {
  const unit = readFileSync(join(INSTALL, 'twilld.service'), 'utf8');
  const [head, service] = unit.split('[Service]');
  t.match(head, /^StartLimitIntervalSec=0$/m);
  for (const line of [
    'TimeoutStartSec=infinity',
    'Restart=always',
    'RestartPreventExitStatus=2 4',
    'SuccessExitStatus=4',
  ])
    t.ok(service.split('\n').includes(line), line);
  t.end();
});

t.test('systemd-analyze takes the unit', { skip: needs('systemd-analyze') }, (t) => {
  const folder = folderOf(t);
  const unit = readFileSync(join(INSTALL, 'twilld.service'), 'utf8');
  writeFileSync(join(folder, 'twilld.service'), unit.replace('/usr/bin/twilld', '/bin/true'));
  const { status, stderr } = spawnSync('systemd-analyze', ['verify', join(folder, 'twilld.service')], {
    encoding: 'utf8',
  });
  t.equal(status, 0, stderr);
  t.notMatch(stderr, /twilld/, 'without a word');
  t.end();
});

t.test('systemd-analyze finds little exposed', { skip: needs('systemd-analyze') }, (t) => {
  const folder = folderOf(t);
  writeFileSync(join(folder, 'twilld.service'), readFileSync(join(INSTALL, 'twilld.service')));
  const args = ['security', '--offline=true', '--no-pager', '--threshold=30', join(folder, 'twilld.service')];
  const { status, stdout } = spawnSync('systemd-analyze', args, { encoding: 'utf8' });
  t.equal(status, 0, stdout);
  t.match(stdout, /Overall exposure level for twilld\.service: [0-2]\.\d|: 3\.0/);
  t.end();
});

t.test('promtool takes the alerts, and they fire when they should', { skip: needs('promtool') }, (t) => {
  const rules = spawnSync('promtool', ['check', 'rules', join(INSTALL, 'alert-rules.yml')], {
    encoding: 'utf8',
  });
  t.equal(rules.status, 0, rules.stderr);
  const test = join(ROOT, 'test/unit/install/alert-rules.test.yml');
  const fired = spawnSync('promtool', ['test', 'rules', test], { encoding: 'utf8' });
  t.equal(fired.status, 0, fired.stdout + fired.stderr);
  t.end();
});

t.test('alerts and dashboard name metrics that there are', (t) => {
  const sources = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => readFileSync(join(ROOT, 'src', name), 'utf8'))
    .join('\n');
  const dataplane = [...OUTBOUND_COUNTERS, ...INBOUND_COUNTERS].map((name) => `dataplane_${name}_total`);
  const dashboard = readFileSync(join(INSTALL, 'grafana-dashboard.json'), 'utf8');
  t.ok((JSON.parse(dashboard) as { panels: unknown[] }).panels.length > 8);
  const text = dashboard + readFileSync(join(INSTALL, 'alert-rules.yml'), 'utf8');
  const used = new Set([...text.matchAll(/\btwill_([a-z0-9_]+)/g)].map(([, name]) => name));
  t.ok(used.size > 8);
  for (const name of used) {
    t.ok(dataplane.includes(name) || (sources.includes(`'${name}'`) && name !== ''), `twill_${name}`);
  }
  const reasons = [...text.matchAll(/reason=~?\\?"([a-z_|]+)/g)].flatMap(([, list]) => list.split('|'));
  for (const reason of reasons) {
    t.ok(
      [...OUTBOUND_COUNTERS, ...INBOUND_COUNTERS].some((name) => name === `drop_${reason}`),
      reason,
    );
  }
  t.end();
});

t.test('the recipes parse', (t) => {
  const recipes = readdirSync(INSTALL).filter((name) => name.endsWith('.sh'));
  t.ok(recipes.length > 3);
  for (const name of recipes) execFileSync('bash', ['-n', join(INSTALL, name)]);
  t.match(
    readFileSync(join(INSTALL, 'build-image.sh'), 'utf8'),
    /node-deb\.sh/,
    'a Debian without Node.js 20',
  );
  t.end();
});
