import t from 'tap';
import { bashCompletion, flagsMarkdown, usageText } from '../../../src/config/flag-docs.js';
import { parseFlags } from '../../../src/config/flag-parser.js';
import { ALL_FLAGS, IGNORED, valuesByName, variableOf } from '../../../src/config/flags.js';

type Env = Readonly<Record<string, string | undefined>>;

/** Values by the names of their flags. */
function flagsOf(args: readonly string[], env: Env = {}): Record<string, unknown> {
  const parsed = parseFlags(args, env);
  if (parsed.kind !== 'run') throw new Error(`${args.join(' ')}: ${parsed.kind}`);
  return Object.fromEntries(valuesByName(parsed.flags));
}

/** flanneld's flags with its defaults; a flag without a value stands for an empty list. */
const FLANNELD: Readonly<Record<string, string | number | boolean | undefined>> = {
  'etcd-endpoints': 'http://127.0.0.1:4001,http://127.0.0.1:2379',
  'etcd-prefix': '/coreos.com/network',
  'etcd-keyfile': '',
  'etcd-certfile': '',
  'etcd-cafile': '',
  'etcd-username': '',
  'etcd-password': '',
  iface: undefined,
  'iface-regex': undefined,
  'iface-can-reach': '',
  'subnet-file': '/run/flannel/subnet.env',
  'public-ip': '',
  'subnet-lease-renew-margin': 60,
  'ip-masq': false,
  'ip-masq-fully-random-disable': false,
  'healthz-ip': '127.0.0.1', // flanneld's is 0.0.0.0; docs/migrate.md says what that asks for
  'healthz-port': 0,
  'iptables-resync': 5,
  'iptables-forward-rules': true,
  'ip-blackhole-route': false,
  v: 0,
};

void t.test('parseFlags() knows flags of flanneld with their defaults', (t) => {
  const flags = flagsOf([]);
  for (const [name, otherwise] of Object.entries(FLANNELD)) t.strictSame(flags[name], otherwise ?? [], name);
  t.end();
});

void t.test('parseFlags() reads Go’s syntax', (t) => {
  const cases: readonly (readonly [readonly string[], Readonly<Record<string, unknown>>])[] = [
    [['-etcd-prefix=/x'], { 'etcd-prefix': '/x' }],
    [['--etcd-prefix=/x'], { 'etcd-prefix': '/x' }],
    [['-etcd-prefix', '/x'], { 'etcd-prefix': '/x' }],
    [['--etcd-prefix', '/x'], { 'etcd-prefix': '/x' }],
    [['--etcd-prefix='], { 'etcd-prefix': '' }],
    [['--etcd-prefix', ''], { 'etcd-prefix': '' }],
    [['--etcd-password=a=b=c'], { 'etcd-password': 'a=b=c' }],
    [['--etcd-password=a\nb'], { 'etcd-password': 'a\nb' }],
    [['--etcd-prefix', '--ip-masq'], { 'etcd-prefix': '--ip-masq', 'ip-masq': false }],
    [['--iface', 'eth0', '-iface=eth1', '--iface=10.0.0.1'], { iface: ['eth0', 'eth1', '10.0.0.1'] }],
    [['--iface-regex=a,b'], { 'iface-regex': ['a,b'] }],
    [['--ip-masq'], { 'ip-masq': true }],
    [['-ip-masq'], { 'ip-masq': true }],
    [['--ip-masq', '--v=1'], { 'ip-masq': true, v: 1 }],
    ...['1', 't', 'T', 'true', 'TRUE', 'True'].map(
      (value) => [[`--ip-masq=${value}`], { 'ip-masq': true }] as const,
    ),
    ...['0', 'f', 'F', 'false', 'FALSE', 'False'].map(
      (value) => [[`--iptables-forward-rules=${value}`], { 'iptables-forward-rules': false }] as const,
    ),
    [['-v', '10'], { v: 10 }],
    [['-v=+1'], { v: 1 }],
    [['--subnet-lease-renew-margin=1'], { 'subnet-lease-renew-margin': 1 }],
    [['--subnet-lease-renew-margin=1439'], { 'subnet-lease-renew-margin': 1439 }],
    [['--healthz-port', '65535'], { 'healthz-port': 65535 }],
    [['--store=static', '--static-file=/x'], { store: 'static', 'static-file': '/x' }],
    [
      ['--source-check=audit', '--offload=off', '--log-format=json'],
      { 'source-check': 'audit', 'log-format': 'json' },
    ],
    [['--version=false'], {}],
  ];
  for (const [args, expected] of cases) t.match(flagsOf(args), expected, JSON.stringify(args));
  t.end();
});

void t.test('parseFlags() answers --help and --version', (t) => {
  for (const word of ['-h', '--h', '-help', '--help']) {
    t.match(parseFlags([word], {}), { kind: 'help', text: /^Usage: twilld \[OPTION\]\.\.\./ }, word);
  }
  for (const word of ['-version', '--version', '--version=true', '--version=1'])
    t.strictSame(parseFlags([word], {}), { kind: 'version' }, word);
  t.end();
});

void t.test('parseFlags() refuses, naming flag, value and origin', (t) => {
  const cases: readonly (readonly [readonly string[], Env, RegExp])[] = [
    [['--mtu=1400'], {}, /^Unknown flag --mtu: --help lists all$/],
    [['--IP-MASQ'], {}, /^Unknown flag --IP-MASQ/],
    [['-vv'], {}, /^Unknown flag --vv/],
    [['run'], {}, /^Unexpected argument "run": expected a flag$/],
    [['--ip-masq', 'false'], {}, /^Unexpected argument "false"/],
    [[''], {}, /^Unexpected argument ""/],
    [['-'], {}, /^Unexpected argument "-"/],
    [['--'], {}, /^Unexpected argument "--"/],
    [['---v=1'], {}, /^Unexpected argument "---v=1"/],
    [['--=x'], {}, /^Unexpected argument "--=x"/],
    [['--etcd-prefix'], {}, /^Flag --etcd-prefix needs a value: text$/],
    [['-v'], {}, /^Flag --v needs a value: an integer from 0 to/],
    [['--v=1', '--v=2'], {}, /^Flag --v is given more than once$/],
    [['--ip-masq=yes'], {}, /^--ip-masq is "yes": expected true or false$/],
    [['--ip-masq='], {}, /^--ip-masq is "": expected true or false$/],
    [['--version=maybe'], {}, /^--version is "maybe": expected true or false$/],
    [
      ['--subnet-lease-renew-margin=0'],
      {},
      /^--subnet-lease-renew-margin is "0": expected an integer from 1 to 1439$/,
    ],
    [['--subnet-lease-renew-margin=1440'], {}, /from 1 to 1439/],
    [['--healthz-port=65536'], {}, /^--healthz-port is "65536"/],
    [['--healthz-port=-1'], {}, /^--healthz-port is "-1"/],
    [['--iptables-resync=0'], {}, /^--iptables-resync is "0"/],
    ...['', 'abc', '1.5', '1e3', '0x10', ' 1', '1 ', '99999999999'].map(
      (value) => [[`--v=${value}`], {}, /^--v is ".*": expected an integer from 0 to 2147483647$/] as const,
    ),
    [['--queues=0'], {}, /^--queues is "0": expected an integer from 1 to 256$/],
    [['--queues=257'], {}, /^--queues is "257"/],
    [['--store=consul'], {}, /^--store is "consul": expected one of etcd, kube, static$/],
    [
      ['--source-check=Strict'],
      {},
      /^--source-check is "Strict": expected one of strict, loose, audit, off$/,
    ],
    [[], { FLANNELD_IPTABLES_RESYNC: 'abc' }, /^FLANNELD_IPTABLES_RESYNC is "abc": expected an integer/],
    [[], { FLANNELD_IP_MASQ: 'yes' }, /^FLANNELD_IP_MASQ is "yes": expected true or false$/],
    [[], { FLANNELD_STORE: 'x' }, /^FLANNELD_STORE is "x"/],
  ];
  for (const [args, env, message] of cases)
    t.throws(() => parseFlags(args, env), { code: 'E_USAGE', message }, JSON.stringify([args, env]));
  t.end();
});

void t.test('parseFlags() shows no part of a password', (t) => {
  const cases: readonly (readonly string[])[] = [
    ['root:canary@h:2379'],
    ['http://h?x=canary'],
    ['--etcd-password', 'a', 'canary'],
    ['--etcd-password=a', 'canary', 'b'],
    ['-etcd-username', 'a', 'b', 'canary'],
    ['--etcd-endpoints', 'http://root:a', 'canary', 'b@h:2379'],
    ['FLANNELD_ETCD_PASSWORD=canary'],
    ['etcd-password=canary'],
    ['---etcd-password=canary'],
    ['--etcd-pasword=canary'],
    ['--etcd-password:canary'],
    ['--root:canary@h'],
  ];
  for (const args of cases)
    t.throws(() => parseFlags(args, {}), { message: /^(?!.*canary)/s }, args.join(' '));
  t.throws(() => parseFlags(['--etcd-password=canary', '--ip-masq', 'false'], {}), /argument "false"/);
  t.end();
});

void t.test('parseFlags() takes FLANNELD_* where no flag is given', (t) => {
  const cases: readonly (readonly [readonly string[], Env, Readonly<Record<string, unknown>>])[] = [
    [[], { FLANNELD_ETCD_PREFIX: '/e' }, { 'etcd-prefix': '/e' }],
    [['--etcd-prefix=/a'], { FLANNELD_ETCD_PREFIX: '/e' }, { 'etcd-prefix': '/a' }],
    [['--etcd-prefix='], { FLANNELD_ETCD_PREFIX: '/e' }, { 'etcd-prefix': '' }],
    [[], { FLANNELD_ETCD_PREFIX: '' }, { 'etcd-prefix': '/coreos.com/network' }],
    [[], { FLANNELD_ETCD_PREFIX: undefined }, { 'etcd-prefix': '/coreos.com/network' }],
    [[], { FLANNEL_ETCD_PREFIX: '/e' }, { 'etcd-prefix': '/coreos.com/network' }],
    [[], { FLANNELD_IP_MASQ: 'true' }, { 'ip-masq': true }],
    [['--ip-masq=false'], { FLANNELD_IP_MASQ: 'true' }, { 'ip-masq': false }],
    [['--v=1'], { FLANNELD_V: 'bad' }, { v: 1 }],
    [[], { FLANNELD_V: '3', FLANNELD_VMODULE: 'a=1', FLANNELD_LOG_BACKTRACE_AT: 'b:2' }, { v: 3 }],
    [[], { FLANNELD_IFACE: 'eth0,eth1' }, { iface: ['eth0,eth1'] }],
    [['--iface=x'], { FLANNELD_IFACE: 'eth0' }, { iface: ['x'] }],
    [[], { FLANNELD_VERSION: 'true', FLANNELD_HELP: 'true' }, {}],
  ];
  for (const [args, env, expected] of cases)
    t.match(flagsOf(args, env), expected, JSON.stringify([args, env]));
  t.end();
});

void t.test('every flag has its own name and variable, and is in help, table and completion', (t) => {
  const names = ALL_FLAGS.map((flag) => flag.name);
  t.equal(new Set(names).size, ALL_FLAGS.length);
  t.equal(new Set(names.map(variableOf)).size, ALL_FLAGS.length);
  for (const name of names) {
    t.match(usageText(), new RegExp(`^  --${name}( |$)`, 'm'), name);
    t.ok(flagsMarkdown().includes(`| \`--${name}\` |`), name);
    t.match(bashCompletion(), new RegExp(`--${name}\\b`), name);
  }
  t.equal(variableOf('etcd-cafile'), 'FLANNELD_ETCD_CAFILE');
  t.end();
});

void t.test('a flag that is spelt otherwise is unknown', (t) => {
  t.throws(() => parseFlags(['--log-backtrace-at=x:1'], {}), /^Unknown flag --log-backtrace-at/);
  t.end();
});

void t.test('flags of glog are taken, with a warning where they would change something', (t) => {
  const warningsOf = (args: readonly string[], env: Env = {}): readonly string[] => {
    const parsed = parseFlags(args, env);
    return parsed.kind === 'run' ? parsed.warnings : [parsed.kind];
  };
  t.same(warningsOf([]), []);
  t.same(warningsOf(['--logtostderr', '-alsologtostderr=true', '--vmodule=']), []);
  t.same(warningsOf(['--logtostderr=false']), [
    '--logtostderr is ignored: the log always goes to standard error',
  ]);
  t.same(warningsOf(['-vmodule', 'a=1', '--log_backtrace_at=x.go:7']), [
    '--vmodule is ignored: --v holds for the whole program',
    '--log_backtrace_at is ignored: the log has no backtraces',
  ]);
  t.match(warningsOf([], { FLANNELD_VMODULE: 'a=1' }), [/^FLANNELD_VMODULE is ignored/]);
  t.throws(
    () => parseFlags(['--logtostderr=maybe'], {}),
    /^--logtostderr is "maybe": expected true or false$/,
  );
  for (const name of Object.keys(IGNORED)) t.ok(flagsMarkdown().includes(`| \`--${name}\` |`), name);
  t.end();
});
