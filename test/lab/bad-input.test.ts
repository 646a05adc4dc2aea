// What a wrong start says: one clear line and a non-zero exit.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Lab, labUnavailable } from '../support/lab.js';
import { daemonArguments, startDaemon, tableOf, writeTable } from '../support/twill-hosts.js';

const skip = labUnavailable();

t.test('a wrong start ends with a reason', { skip }, async (t) => {
  const lab = Lab.open('in-');
  t.teardown(() => lab.close());
  const host = lab.addHost(1);
  const good = join(lab.dir, 'good.json');
  writeTable(good, tableOf([host]));

  const check = async (
    t: Tap,
    args: readonly string[],
    code: number,
    message: RegExp,
    command: string[] = [],
  ): Promise<void> => {
    const [program, ...rest] = [...command, process.execPath, ...args];
    const result = await lab.run(host.ns, program, rest, { mustSucceed: false, timeoutMs: 20_000 });
    t.equal(result.code, code);
    t.match(result.stderr, message);
    t.notMatch(result.stderr, /\n\s+at /, 'no stack trace');
  };
  type Tap = typeof t;

  const tables: [string, unknown, RegExp][] = [
    ['no config', { leases: [] }, /config is missing: expected a JSON object/],
    ['no network', { config: {}, leases: [] }, /Network is missing: expected an IPv4 network/],
    ['IPv6 network', { config: { Network: 'fc00::/64' }, leases: [] }, /Network is "fc00::\/64"/],
    ['network too small', { config: { Network: '10.5.0.0/30' }, leases: [] }, /at most a \/28/],
    ['no leases', { config: { Network: '10.5.0.0/16' } }, /leases is missing: expected an array/],
    [
      'lease outside',
      { config: { Network: '10.5.0.0/16' }, leases: [{ subnet: '10.6.1.0/24', publicIP: '172.20.0.1' }] },
      /10\.6\.1\.0\/24 is not inside the Network/,
    ],
    [
      'overlap',
      {
        config: { Network: '10.5.0.0/16' },
        leases: [
          { subnet: '10.5.1.0/24', publicIP: '172.20.0.1' },
          { subnet: '10.5.1.128/25', publicIP: '172.20.0.2' },
        ],
      },
      /10\.5\.1\.0\/24 and 10\.5\.1\.128\/25 overlap/,
    ],
    [
      'host bits',
      { config: { Network: '10.5.0.0/16' }, leases: [{ subnet: '10.5.1.1/24', publicIP: '172.20.0.1' }] },
      /subnet is "10\.5\.1\.1\/24": expected a network/,
    ],
    [
      'own lease missing',
      { config: { Network: '10.5.0.0/16' }, leases: [{ subnet: '10.5.1.0/24', publicIP: '172.20.0.7' }] },
      /no lease has our public IP 172\.20\.0\.1/,
    ],
    [
      'unknown backend',
      { config: { Network: '10.5.0.0/16', Backend: { Type: 'carrier-pigeon' } }, leases: [] },
      /Unknown backend type "carrier-pigeon": expected one of/,
    ],
    [
      'bad port',
      { config: { Network: '10.5.0.0/16', Backend: { Type: 'udp', Port: 70000 } }, leases: [] },
      /Port is 70000: expected an integer from 1 to 65535/,
    ],
  ];
  for (const [what, table, message] of tables) {
    await t.test(`static file: ${what}`, async (t) => {
      const file = join(lab.dir, 'bad.json');
      writeFileSync(file, JSON.stringify(table));
      await check(t, daemonArguments(host, file), 1, message);
    });
  }

  await t.test('static file: unreadable, half-written', async (t) => {
    await check(
      t,
      daemonArguments(host, join(lab.dir, 'none.json')),
      1,
      /Cannot read static file .*none\.json: ENOENT/,
    );
    const half = join(lab.dir, 'half.json');
    writeFileSync(half, '{"config":{"Network":');
    await check(t, daemonArguments(host, half), 1, /half\.json: not valid JSON/);
  });

  await t.test('flags: unknown, repeated, bad value, bad variable', async (t) => {
    const args = daemonArguments(host, good);
    await check(t, [...args, '--frobnicate'], 2, /Unknown flag --frobnicate/);
    await check(t, [...args, '--store=static'], 2, /--store is given more than once/);
    await check(t, [...args, '--queues=0'], 2, /--queues is "0": expected an integer from 1 to 256/);
    await check(t, [...args, '--source-check=maybe'], 2, /expected one of strict, loose, audit, off/);
    await check(t, [...args, 'extra'], 2, /Unexpected argument "extra"/);
    await check(t, args, 2, /FLANNELD_IP_MASQ is "perhaps": expected true or false/, [
      'env',
      'FLANNELD_IP_MASQ=perhaps',
    ]);
  });

  await t.test('interface that does not exist', async (t) => {
    const args = daemonArguments(host, good).map((arg) => (arg === '--iface=eth0' ? '--iface=eth7' : arg));
    await check(t, args, 1, /--iface=eth7: no such interface; interfaces here: lo/);
  });

  await t.test('no CAP_NET_ADMIN', async (t) => {
    const drop = ['setpriv', '--bounding-set=-net_admin', '--inh-caps=-net_admin'];
    await check(
      t,
      daemonArguments(host, good),
      1,
      /Cannot open TUN device "flannel0": TUNSETIFF: EPERM: needs CAP_NET_ADMIN/,
      drop,
    );
  });

  await t.test('no /dev/net/tun', async (t) => {
    const hide = ['unshare', '--mount', 'sh', '-c', 'mount -t tmpfs none /dev/net && exec "$@"', 'sh'];
    await check(t, daemonArguments(host, good), 1, /Cannot open \/dev\/net\/tun: ENOENT/, hide);
  });

  await t.test('port in use', async (t) => {
    const squat = `require('node:dgram').createSocket('udp4').bind(8285, '172.20.0.1', () => console.log('bound'))`;
    const squatter = await lab.spawnUntil(host.ns, process.execPath, ['-e', squat], /bound/);
    await check(
      t,
      daemonArguments(host, good),
      1,
      /UDP 172\.20\.0\.1:8285 is in use by another process: end it/,
    );
    await lab.end(squatter);
  });

  await t.test('a device of that name that is no TUN', async (t) => {
    lab.ip(host.ns, 'link add flannel0 type bridge');
    const daemon = await startDaemon(lab, host, good);
    t.match(daemon.log(), /data path open on flannel1/, 'the next name is taken');
    t.equal(await lab.end(daemon), 0);
    t.match(lab.ip(host.ns, '-d link show flannel0'), /bridge/);
    for (const name of ['flannel0', 'flannel1']) lab.ip(host.ns, `link delete ${name}`);
  });

  await t.test('another daemon is running', async (t) => {
    const running = await startDaemon(lab, host, good);
    const other = daemonArguments(host, good).map((arg) =>
      arg.startsWith('--healthz-port') ? '--healthz-port=9999' : arg,
    );
    await check(t, other, 1, /Another daemon \(pid \d+, .*\) has the subnet file/);
    const third = other.map((arg) =>
      arg.startsWith('--subnet-file') ? `--subnet-file=${host.dir}/third.env` : arg,
    );
    await check(t, third, 1, /Another daemon \(pid \d+, .*\) has the network 10\.5\.0\.0\/16/);
    const fourth = third.map((arg) => (arg.startsWith('--healthz-port') ? '--healthz-port=9180' : arg));
    await check(t, fourth, 1, /Cannot listen on 127\.0\.0\.1:9180 for health checks: EADDRINUSE/);
    t.equal(await lab.end(running), 0);
  });
});
