// The program as a runtime runs it, with delegates that record what they were asked.

import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';

const MAIN = new URL('../../../dist/cni/main.js', import.meta.url).pathname;

/** A delegate that writes what it got, and answers as told by files beside it. */
const DELEGATE = `#!/bin/sh
here=$(dirname "$0")
if [ "$CNI_COMMAND" = VERSION ]; then cat "$here/version"; exit 0; fi
echo "$CNI_COMMAND $CNI_IFNAME" >> "$here/calls"
cat > "$here/stdin-$CNI_COMMAND"
if [ -e "$here/fails" ]; then cat "$here/fails"; exit 1; fi
if [ "$CNI_COMMAND" = ADD ]; then echo '{"cniVersion":"1.1.0","ips":[]}'; fi
`;

interface Sandbox {
  readonly dir: string;
  readonly config: Record<string, unknown>;
  readonly calls: () => string[];
  readonly run: (
    command: string,
    config?: object | string,
    env?: Record<string, string>,
  ) => { code: number | null; answer: Record<string, unknown> | undefined; stdout: string };
}

function sandbox(t: Test): Sandbox {
  const dir = t.testdir({ bin: {}, data: {} });
  writeFileSync(join(dir, 'bin/bridge'), DELEGATE);
  chmodSync(join(dir, 'bin/bridge'), 0o755);
  writeFileSync(join(dir, 'bin/version'), '{"supportedVersions":["1.0.0","1.1.0"]}');
  const subnetFile = join(dir, 'subnet.env');
  writeFileSync(
    subnetFile,
    'FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.17.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n',
  );
  const config = {
    cniVersion: '1.1.0',
    name: 'cbr0',
    type: 'flannel',
    subnetFile,
    dataDir: join(dir, 'data/made'),
  };
  return {
    dir,
    config,
    calls: () => {
      const path = join(dir, 'bin/calls');
      return existsSync(path) ? readFileSync(path, 'utf8').trim().split('\n') : [];
    },
    run: (command, given = config, env = {}) => {
      const { status, stdout } = spawnSync('env', ['-u', 'NODE_OPTIONS', process.execPath, MAIN], {
        input: typeof given === 'string' ? given : JSON.stringify(given),
        encoding: 'utf8',
        env: {
          PATH: process.env['PATH'],
          CNI_COMMAND: command,
          CNI_CONTAINERID: 'pod-1',
          CNI_NETNS: '/run/netns/none',
          CNI_IFNAME: 'eth0',
          CNI_PATH: `/nowhere:${join(dir, 'bin')}`,
          ...env,
        },
      });
      const answer = stdout === '' ? undefined : (JSON.parse(stdout) as Record<string, unknown>);
      return { code: status, answer, stdout };
    },
  };
}

t.test('ADD keeps what DEL undoes', (t) => {
  const { dir, run, calls, config } = sandbox(t);
  const added = run('ADD');
  t.match(added, { code: 0, answer: { cniVersion: '1.1.0', ips: [] } }, "the delegate's result is ours");
  const file = join(dir, 'data/made/pod-1');
  t.equal(statSync(file).mode & 0o777, 0o600);
  t.equal(statSync(join(dir, 'data/made')).mode & 0o777, 0o700);
  t.same(
    JSON.parse(readFileSync(file, 'utf8')),
    JSON.parse(readFileSync(join(dir, 'bin/stdin-ADD'), 'utf8')),
  );
  writeFileSync(join(dir, 'subnet.env'), 'gone');
  t.match(run('DEL', { ...config, delegate: { bridge: 'other' } }), { code: 0, answer: undefined });
  t.same(
    JSON.parse(readFileSync(join(dir, 'bin/stdin-DEL'), 'utf8')),
    JSON.parse(readFileSync(join(dir, 'bin/stdin-ADD'), 'utf8')),
    'with what ADD kept, not with what is said now',
  );
  t.same(readdirSync(join(dir, 'data/made')), []);
  writeFileSync(`${file}~`, '{"cniVersion"');
  writeFileSync(join(dir, 'data/made/pod-2~'), '');
  t.match(run('DEL'), { code: 0 }, 'again is success');
  t.same(
    readdirSync(join(dir, 'data/made')),
    ['pod-2~'],
    'what a killed ADD left is gone, not that of others',
  );
  t.same(calls(), ['ADD eth0', 'DEL eth0'], 'and asks nobody');
  t.end();
});

t.test('a delegate that fails: its error is passed on, and DEL can be tried again', (t) => {
  const { dir, run, calls } = sandbox(t);
  run('ADD');
  writeFileSync(join(dir, 'bin/fails'), '{"cniVersion":"1.0.0","code":11,"msg":"busy","details":"later"}');
  const failed = run('DEL');
  t.match(failed, { code: 1, answer: { cniVersion: '1.1.0', code: 11, details: 'later' } });
  t.match(failed.answer?.['msg'], /failed to delegate del: .*bridge: busy/);
  t.ok(existsSync(join(dir, 'data/made/pod-1')), 'still kept');
  writeFileSync(join(dir, 'bin/fails'), 'no JSON');
  t.match(run('ADD'), { code: 1, answer: { code: 999, msg: /exit code 1/ } });
  t.equal(calls().length, 3);
  t.end();
});

t.test('two attachments of a container are kept apart', (t) => {
  const { dir, run, config } = sandbox(t);
  run('ADD');
  run('ADD', { ...config, name: 'second' }, { CNI_IFNAME: 'net1' });
  t.same(readdirSync(join(dir, 'data/made')).sort(), ['pod-1', 'pod-1:net1']);
  run('DEL', { ...config, name: 'second' }, { CNI_IFNAME: 'net1' });
  t.same(readdirSync(join(dir, 'data/made')), ['pod-1']);
  run('DEL', { ...config, name: 'second' }, { CNI_IFNAME: 'net1' });
  t.same(readdirSync(join(dir, 'data/made')), ['pod-1'], "the other network's attachment stays");
  t.end();
});

t.test('CHECK, STATUS and GC reach the delegate', (t) => {
  const { dir, run, config, calls } = sandbox(t);
  t.match(run('CHECK'), { code: 1, answer: { code: 3 } }, 'nothing is known of the container');
  run('ADD');
  t.match(run('CHECK', { ...config, prevResult: { ips: [1] } }), { code: 0 });
  t.match(JSON.parse(readFileSync(join(dir, 'bin/stdin-CHECK'), 'utf8')), { prevResult: { ips: [1] } });
  t.match(run('STATUS'), { code: 0 });
  const attachments = [{ containerID: 'pod-1', ifname: 'eth0' }];
  t.match(run('GC', { ...config, 'cni.dev/valid-attachments': attachments }), { code: 0 });
  t.ok(existsSync(join(dir, 'data/made/pod-1')), 'a valid attachment stays');
  const renamed = [{ containerID: 'pod-1', ifname: 'net7' }];
  t.match(run('GC', { ...config, 'cni.dev/valid-attachments': renamed }), { code: 0 });
  t.ok(existsSync(join(dir, 'data/made/pod-1')), 'so does one whose interface its name does not say');
  t.match(run('GC', { ...config, 'cni.dev/valid-attachments': [] }), { code: 0 });
  t.notOk(existsSync(join(dir, 'data/made/pod-1')));
  t.same(
    calls().map((line) => line.split(' ')[0]),
    ['ADD', 'CHECK', 'STATUS', 'GC', 'GC', 'GC'],
  );
  for (const [command, version] of [
    ['CHECK', '0.3.1'],
    ['STATUS', '1.0.0'],
    ['GC', '1.0.0'],
  ]) {
    t.match(run(command, { ...config, cniVersion: version }), { code: 1, answer: { code: 1 } });
  }
  t.end();
});

t.test('an older delegate is not asked what it does not know', (t) => {
  const { dir, run, config, calls } = sandbox(t);
  writeFileSync(join(dir, 'bin/version'), '{"supportedVersions":["1.0.0"]}');
  t.match(run('STATUS'), { code: 0 });
  t.match(run('GC', { ...config, 'cni.dev/valid-attachments': [] }), { code: 0 });
  t.same(calls(), []);
  t.end();
});

t.test('STATUS without a daemon: not available', (t) => {
  const { run, config } = sandbox(t);
  t.match(run('STATUS', { ...config, subnetFile: '/none/subnet.env' }), {
    code: 1,
    answer: { code: 50, msg: /failed to load flannel 'subnet.env' file/ },
  });
  t.end();
});

t.test('VERSION', (t) => {
  const { run } = sandbox(t);
  t.match(run('VERSION', ''), {
    code: 0,
    answer: {
      cniVersion: '1.1.0',
      supportedVersions: ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'],
    },
  });
  t.end();
});

t.test('bad input: code and text', (t) => {
  const { run, config, dir } = sandbox(t);
  mkdirSync(join(dir, 'data/made'));
  const cases: [string, object | string, Record<string, string>, number, RegExp][] = [
    ['FLY', config, {}, 4, /CNI_COMMAND is "FLY"/],
    [
      'ADD',
      config,
      { CNI_CONTAINERID: '', CNI_NETNS: '' },
      4,
      /required env variables \[CNI_CONTAINERID,CNI_NETNS\] missing/,
    ],
    ['ADD', config, { CNI_CONTAINERID: '../../etc/passwd' }, 4, /CNI_CONTAINERID is "..\/..\/etc\/passwd"/],
    ['ADD', config, { CNI_IFNAME: 'a/b' }, 4, /CNI_IFNAME/],
    ['ADD', config, { CNI_IFNAME: 'sixteen-letters-' }, 4, /CNI_IFNAME/],
    ['ADD', '{', {}, 6, /no JSON/],
    ['ADD', '[]', {}, 6, /expected a JSON object/],
    ['ADD', { ...config, name: undefined }, {}, 7, /missing network name/],
    ['ADD', { ...config, name: 'a b' }, {}, 7, /network name is "a b"/],
    ['ADD', { ...config, cniVersion: '2.0.0' }, {}, 1, /cniVersion is "2.0.0"/],
    ['ADD', { ...config, delegate: 7 }, {}, 7, /"delegate" is 7/],
    ['ADD', { ...config, delegate: { type: '../x' } }, {}, 7, /delegate type is "..\/x"/],
    ['ADD', { ...config, delegate: { type: 'absent' } }, {}, 5, /failed to find plugin "absent" in path/],
    ['ADD', { ...config, dataDir: '/proc/none' }, {}, 5, /cannot keep \/proc\/none\/pod-1/],
    ['ADD', config, { CNI_NETNS: '/proc/self/ns/net' }, 8, /should not be the same/],
    ['GC', { ...config, 'cni.dev/valid-attachments': 7 }, {}, 7, /valid-attachments/],
  ];
  for (const [command, given, env, code, text] of cases) {
    const { code: exit, answer } = run(command, given, env);
    t.equal(exit, 1);
    t.match(answer, { code, msg: text });
  }
  t.end();
});
