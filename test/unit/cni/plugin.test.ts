// The program as a runtime runs it, with delegates that record what they were asked.

import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { SUBNET_FILE } from '../../../src/core/defaults.js';
import { cniSandbox } from '../../support/cni-plugin.js';
import { PROJECT_ROOT } from '../../support/lab.js';

t.test('ADD keeps what DEL undoes', (t) => {
  const { dir, run, calls, config, got } = cniSandbox(t);
  const added = run('ADD');
  t.match(added, { code: 0, answer: { cniVersion: '1.1.0', ips: [] } }, "the delegate's result is ours");
  const file = join(dir, 'data/made/pod-1');
  t.equal(statSync(file).mode & 0o777, 0o600);
  t.equal(statSync(join(dir, 'data/made')).mode & 0o777, 0o700);
  t.same(JSON.parse(readFileSync(file, 'utf8')), got('ADD'));
  writeFileSync(join(dir, 'subnet.env'), 'gone');
  t.match(run('DEL', { ...config, delegate: { bridge: 'other' } }), { code: 0, answer: undefined });
  t.same(got('DEL'), got('ADD'), 'with what ADD kept, not with what is said now');
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
  const { dir, run, calls } = cniSandbox(t);
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
  const { dir, run, config } = cniSandbox(t);
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
  const { dir, run, config, calls, got } = cniSandbox(t);
  t.match(run('CHECK'), { code: 1, answer: { code: 3 } }, 'nothing is known of the container');
  run('ADD');
  t.match(run('CHECK', { ...config, prevResult: { ips: [1] } }), { code: 0 });
  t.match(got('CHECK'), { prevResult: { ips: [1] } });
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
  const { dir, run, config, calls } = cniSandbox(t);
  writeFileSync(join(dir, 'bin/version'), '{"supportedVersions":["1.0.0"]}');
  t.match(run('STATUS'), { code: 0 });
  t.match(run('GC', { ...config, 'cni.dev/valid-attachments': [] }), { code: 0 });
  t.same(calls(), []);
  t.end();
});

t.test('what is kept replaces what is there, and a link is not written through', (t) => {
  const { dir, run } = cniSandbox(t);
  const made = join(dir, 'data/made');
  mkdirSync(made);
  writeFileSync(join(dir, 'precious'), 'p');
  for (const name of ['pod-1', 'pod-1~']) symlinkSync(join(dir, 'precious'), join(made, name));
  t.match(run('ADD'), { code: 0 });
  t.equal(readFileSync(join(dir, 'precious'), 'utf8'), 'p');
  t.same(readdirSync(made), ['pod-1']);
  t.ok(lstatSync(join(made, 'pod-1')).isFile());
  t.match(run('ADD'), { code: 0 }, 'the same again');
  t.end();
});

t.test('a host whose daemon never ran: what flannel says, DEL all the same, STATUS not available', (t) => {
  const { run, config, calls } = cniSandbox(t);
  run('ADD');
  const without = { ...config, subnetFile: '/none/subnet.env' };
  const msg =
    /^failed to load flannel 'subnet\.env' file: open \/none\/subnet\.env: no such file or directory/;
  t.match(run('ADD', without), { code: 1, answer: { cniVersion: '1.1.0', code: 5, msg } });
  t.match(run('STATUS', without), { code: 1, answer: { cniVersion: '1.1.0', code: 50, msg } });
  t.match(run('DEL', without), { code: 0, answer: undefined });
  t.same(calls(), ['ADD eth0', 'DEL eth0']);
  const source = readFileSync(join(PROJECT_ROOT, 'addon/cni/request.cc'), 'utf8');
  t.ok(source.includes(`"${SUBNET_FILE}"`), 'it looks where the daemon writes');
  t.end();
});

t.test('a delegate may answer before it has read its stdin', (t) => {
  const { dir, run, config, calls } = cniSandbox(t);
  // More than a pipe holds, so that it is still being written when the delegate ends.
  const large = { ...config, delegate: { note: 'x'.repeat(1 << 20) } };
  t.match(run('STATUS', large), { code: 0 });
  t.same(calls(), ['STATUS eth0'], 'VERSION was understood');
  writeFileSync(join(dir, 'bin/bridge'), '#!/bin/sh\necho "{}"\n');
  t.match(run('ADD', large), { code: 0, answer: {} });
  t.end();
});

t.test('a delegate that says too much, is killed, or cannot be run', (t) => {
  const { dir, run } = cniSandbox(t);
  const cases: [string, RegExp][] = [
    ['#!/bin/sh\nyes\n', /bridge: it said more than \d+ bytes$/],
    ['#!/bin/sh\nkill -9 $$\n', /bridge: ended by signal 9$/],
    ['#!/none/interpreter\n', /bridge: cannot run it: no such file or directory$/],
  ];
  for (const [script, msg] of cases) {
    writeFileSync(join(dir, 'bin/bridge'), script);
    t.match(run('ADD'), { code: 1, answer: { code: 999, msg } });
  }
  t.end();
});

t.test('what is not ours to change reaches the delegate as it came', (t) => {
  const { dir, run, config } = cniSandbox(t);
  const given = String.raw`{"id":12345678901234567890,"rate":1.50,"text":"\u00e9\ud83d\ude00\/","list":[null,true]}`;
  const text = JSON.stringify({ ...config, delegate: 'HERE' }).replace('"HERE"', given);
  t.match(run('ADD', text), { code: 0 });
  const got = readFileSync(join(dir, 'bin/stdin-ADD'), 'utf8');
  t.ok(got.startsWith(given.slice(0, -1)), got);
  t.end();
});

t.test('VERSION', (t) => {
  const { run } = cniSandbox(t);
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
  const { run, config, dir } = cniSandbox(t);
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
    ['ADD', '{"name":"\\x"}', {}, 6, /unknown escape at byte 11/],
    ['ADD', '['.repeat(100_000), {}, 6, /nested too deeply/],
    ['ADD', `{"name":"${'x'.repeat(9 << 20)}"}`, {}, 5, /file too large/],
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
