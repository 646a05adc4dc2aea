import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test as Tap } from 'tap';
import { type ExamineOptions, examine, type Finding } from '../../../../src/cli/doctor/doctor.js';
import { differingSettings } from '../../../../src/cli/doctor/migration.js';
import { holderOf, isProgram, isTwilld, udpSockets } from '../../../../src/cli/processes.js';
import { parseEnvironmentFile, readSettings } from '../../../../src/cli/settings.js';
import { parseFlags } from '../../../../src/config/flag-parser.js';
import { STATUS_VERSION } from '../../../../src/ops/status.js';
import { folderOf } from '../../../support/folder.js';

async function etcdFindings(endpoints: string): Promise<string[]> {
  const parsed = parseFlags([`--etcd-endpoints=${endpoints}`], {});
  if (parsed.kind !== 'run') throw new Error('no flags');
  const findings = await examine('/nonexistent/twilld.sock', parsed.flags);
  return findings.flatMap(({ check, state, text }) => (check === 'etcd' ? [`${state} ${text}`] : []));
}

t.test('examine() reads endpoints as the daemon does, and shows no password of theirs', async (t) => {
  t.strictSame(await etcdFindings('127.0.0.1:1 ,http://127.0.0.1:1/'), [
    'fail http://127.0.0.1:1: ECONNREFUSED',
  ]);
  const secret = await etcdFindings('http://127.0.0.1:1,root:canary@127.0.0.1:1');
  t.match(secret, [/^fail Cannot use etcd endpoint "\[redacted\]", item 2/]);
  t.notMatch(secret[0], /canary/);
  for (const text of ['root%3Acanary%40127.0.0.1:1', 'http://127.0.0.1:1?x=canary', 'Etcd://u:canary@h']) {
    const findings = await etcdFindings(text);
    t.match(findings, [/^fail Cannot use etcd endpoint/], text);
    t.notMatch(findings.join(), /canary/);
  }
});

/** A path of a unix socket is 107 characters at most (unix(7)), which t.testdir() exceeds. */
const dir = mkdtempSync(join(tmpdir(), 'doctor-'));
t.teardown(() => rmSync(dir, { recursive: true }));

async function serve(t: Tap, listen: string | number, body: string): Promise<Server> {
  const server = createServer((_request, response) => response.end(body));
  if (typeof listen === 'string') server.listen(listen);
  else server.listen(listen, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  return server;
}

async function examined(socket: string, options: ExamineOptions = {}): Promise<Finding[]> {
  return await examine(socket, readSettings([], {}, '/nonexistent').flags, options);
}

const of = (findings: readonly Finding[], check: string): Finding[] =>
  findings.filter((finding) => finding.check === check);

t.test('examine() asks the endpoints of the daemon, not those of this shell', async (t) => {
  const etcd = await serve(t, 0, '{"health":"true"}');
  const url = `http://127.0.0.1:${(etcd.address() as AddressInfo).port}`;
  const status = {
    ...{
      statusVersion: STATUS_VERSION,
      version: '1',
      uptimeSeconds: 9,
      ready: true,
      degraded: [],
      peers: [],
      refusedLeases: [],
      alarms: [],
    },
    ...{ subnetFile: '/nonexistent', backend: { type: 'host-gw' } },
    conditions: [
      {
        ...{ code: 'forwarding-off', severity: 'error', scope: 'node', part: 'host', count: 1 },
        ...{ text: 'ip_forward is 0', action: 'sysctl', since: '', seconds: 61 },
      },
    ],
  };
  const socket = join(dir, 'a.sock');
  const unconnected = { kind: 'etcd', endpoints: [url, 'http://127.0.0.1:1'], connectedTo: null };
  await serve(t, socket, JSON.stringify({ ...status, store: unconnected }));
  const findings = await examined(socket);
  t.match(of(findings, 'etcd'), [
    { state: 'ok', text: `${url}: {"health":"true"}` },
    { state: 'warn', text: 'http://127.0.0.1:1: ECONNREFUSED' },
  ]);
  t.match(of(findings, 'daemon'), [
    { state: 'fail', text: 'forwarding-off for 1m 1s: ip_forward is 0', advice: 'sysctl' },
  ]);

  // With certificates that only the daemon knows: its word counts.
  const connectedTo = 'https://127.0.0.1:1';
  const other = join(dir, 'b.sock');
  const connected = { kind: 'etcd', endpoints: [connectedTo], connectedTo };
  await serve(t, other, JSON.stringify({ ...status, store: connected }));
  t.match(of(await examined(other), 'etcd'), [
    { state: 'ok', text: `the daemon is connected to ${connectedTo}` },
  ]);
});

t.test('a daemon that cannot be asked: the advice follows the reason', async (t) => {
  t.match(of(await examined('/nonexistent/x.sock'), 'daemon'), [{ state: 'warn', advice: /^start it/ }]);
  t.match(of(await examined('/nonexistent/x.sock', { isBefore: true }), 'daemon'), [{ state: 'ok' }]);
  if (process.getuid?.() === 0) return; // root may ask every socket
  const socket = join(dir, 'c.sock');
  await serve(t, socket, '{}');
  chmodSync(socket, 0);
  t.match(of(await examined(socket), 'daemon'), [{ state: 'warn', advice: /^run as root/ }]);
});

t.test('who holds a UDP port', async (t) => {
  const socket = createSocket('udp4');
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  t.teardown(() => socket.close());
  const sockets = udpSockets(socket.address().port);
  t.equal(sockets.length, 1);
  t.equal(holderOf(sockets)?.pid, process.pid);
  t.notOk(isTwilld(holderOf(sockets)!));
  t.same(udpSockets(0), []);
  const ran = (...command: string[]) => ({ pid: 1, command });
  t.ok(isTwilld(ran('/usr/bin/node', '/usr/bin/twilld')));
  t.ok(isTwilld(ran('node', '/usr/lib/node_modules/@twill-overlay/twill/dist/main.js')));
  t.ok(isProgram(ran('/opt/bin/flanneld', '--ip-masq'), 'flanneld'));
  t.notOk(isTwilld(ran('/usr/bin/vim', 'a', 'twilld')));
  t.end();
});

t.test('settings: behind "--", then this shell, then the service', (t) => {
  const text = [
    '# FLANNELD_IFACE=no',
    'FLANNELD_ETCD_ENDPOINTS="http://192.0.2.1:2379"',
    " FLANNELD_ETCD_PREFIX = '/a' ",
    'FLANNELD_IFACE=eth7',
  ].join('\n');
  t.same(parseEnvironmentFile(text), {
    FLANNELD_ETCD_ENDPOINTS: 'http://192.0.2.1:2379',
    FLANNELD_ETCD_PREFIX: '/a',
    FLANNELD_IFACE: 'eth7',
  });
  const path = join(folderOf(t), 'twilld');
  writeFileSync(path, text);
  const { flags, fault } = readSettings(['--etcd-prefix=/c'], { FLANNELD_ETCD_PREFIX: '/b' }, path);
  t.match(flags, { etcd: { endpoints: 'http://192.0.2.1:2379', prefix: '/c' } });
  t.equal(fault, undefined);
  writeFileSync(path, 'FLANNELD_IP_MASQ=maybe\n');
  t.match(readSettings([], {}, path).fault, { text: /FLANNELD_IP_MASQ/, isForbidden: false });
  t.equal(readSettings([], {}, join(path, '..', 'none')).fault, undefined);
  t.end();
});

t.test('settings of flanneld that twilld would not have', (t) => {
  const flagsOf = (...args: string[]) => readSettings(args, {}, '/nonexistent').flags;
  const differ = (theirs: string[], ours: string[]): string[] =>
    differingSettings(flagsOf(...theirs), flagsOf(...ours), flagsOf()).map(({ text }) => text);
  const cases: [string[], string[], string[]][] = [
    [['--etcd-endpoints=http://a:1/,b:2'], ['--etcd-endpoints=http://b:2,http://a:1'], []],
    [['--etcd-endpoints=http://a:1'], [], ['has another --etcd-endpoints']],
    [
      ['--etcd-password=canary', '--etcd-username=u'],
      [],
      ['has another --etcd-username', 'has another --etcd-password'],
    ],
    [['--iface-regex=^ens'], [], ['has another --iface-regex: "^ens", twilld ""']],
    [['--etcd-cafile=/ca'], [], ['has another --etcd-cafile: "/ca", twilld ""']],
    [[], ['--ip-masq'], ['has another --ip-masq: "false", twilld "true"']],
    [[], ['--public-ip=192.0.2.9'], ['has another --public-ip: "", twilld "192.0.2.9"']],
    [[], ['--public-ipv6=fd00::9'], ['has another --public-ipv6: "", twilld "fd00::9"']],
    [['--v=5', '--vmodule=a=1'], ['--queues=4', '--healthz-port=9180'], []],
  ];
  for (const [theirs, ours, expected] of cases) t.same(differ(theirs, ours), expected, theirs.join(' '));
  t.end();
});
