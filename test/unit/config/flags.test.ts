import t from 'tap';
import { usageText } from '../../../src/config/flag-docs.js';
import { parseFlags } from '../../../src/config/flag-parser.js';
import { ALL_FLAGS, type Flags, valuesByName, variableOf } from '../../../src/config/flags.js';
import { OFFLOAD_FEATURES, offloadSwitches } from '../../../src/config/options.js';

type Env = Readonly<Record<string, string | undefined>>;

function valuesOf(args: readonly string[], env: Env = {}): Flags {
  const parsed = parseFlags(args, env);
  if (parsed.kind !== 'run') throw new Error(parsed.kind);
  return parsed.flags;
}

/** Values by the names of their flags. */
function flagsOf(args: readonly string[], env: Env = {}): Record<string, unknown> {
  return Object.fromEntries(valuesByName(valuesOf(args, env)));
}

t.test('parseFlags() reads Go’s spellings', (t) => {
  const rows: [string[], string, unknown][] = [
    [['-etcd-prefix=/x'], 'etcd-prefix', '/x'],
    [['--etcd-prefix=/x'], 'etcd-prefix', '/x'],
    [['-etcd-prefix', '/x'], 'etcd-prefix', '/x'],
    [['--etcd-prefix', '-x'], 'etcd-prefix', '-x'],
    [['--etcd-prefix='], 'etcd-prefix', ''],
    [['--etcd-prefix=a=b'], 'etcd-prefix', 'a=b'],
    [['-ip-masq'], 'ip-masq', true],
    [['--ip-masq=false'], 'ip-masq', false],
    [['--ip-masq=T'], 'ip-masq', true],
    [['--ip-masq=0'], 'ip-masq', false],
    [['-v=10'], 'v', 10],
    [['-v', '2'], 'v', 2],
    [['--iface=eth0', '--iface', 'eth1'], 'iface', ['eth0', 'eth1']],
    [['--queues=4'], 'queues', 4],
    [['--source-check=audit'], 'source-check', 'audit'],
  ];
  for (const [args, key, value] of rows) t.same(flagsOf(args)[key], value, args.join(' '));
  t.end();
});

t.test('parseFlags() has flannel’s defaults', (t) => {
  t.match(flagsOf([]), {
    'etcd-endpoints': 'http://127.0.0.1:4001,http://127.0.0.1:2379',
    'etcd-prefix': '/coreos.com/network',
    'subnet-file': '/run/flannel/subnet.env',
    'subnet-lease-renew-margin': 60,
    'ip-masq': false,
    'healthz-ip': '127.0.0.1',
    'healthz-port': 0,
    'iptables-resync': 5,
    'iptables-forward-rules': true,
    store: 'etcd',
    'source-check': 'strict',
    offload: 'auto',
    'udp-segment': 'auto',
    'udp-gro': 'auto',
    'tun-tso': 'auto',
    'tun-uso': 'auto',
    'merge-tcp': 'auto',
    'merge-udp': 'off',
    'tun-queue-bound': 'auto',
  });
  t.end();
});

t.test('offloadSwitches() wants what no flag has switched off', (t) => {
  const switchesOf = (args: string[], env: Record<string, string> = {}) =>
    offloadSwitches(valuesOf(args, env).offloads);
  const usual = {
    udpSegment: true,
    udpGro: true,
    tunTso: true,
    tunUso: true,
    mergeTcp: true,
    mergeUdp: false,
    tunQueueBound: true,
  };
  const none = Object.fromEntries(OFFLOAD_FEATURES.map((feature) => [feature, false]));
  t.strictSame(switchesOf([]), usual);
  t.strictSame(switchesOf(['--offload=off']), none);
  t.strictSame(switchesOf(['--offload=off', '--merge-udp=auto']), none, '--offload=off is all of them');
  t.strictSame(switchesOf(['--merge-udp=auto']), { ...usual, mergeUdp: true });
  for (const feature of OFFLOAD_FEATURES) {
    const name = feature.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    t.strictSame(switchesOf([`--${name}=off`]), { ...usual, [feature]: false }, name);
    const variable = `FLANNELD_${name.toUpperCase().replaceAll('-', '_')}`;
    t.strictSame(switchesOf([], { [variable]: 'off' }), { ...usual, [feature]: false }, variable);
  }
  t.end();
});

t.test('parseFlags() names flag, value and what was expected', (t) => {
  const rows: [string[], RegExp][] = [
    [['--nope'], /Unknown flag --nope/],
    [['extra'], /Unexpected argument "extra"/],
    [['-'], /Unexpected argument "-"/],
    [['--'], /Unexpected argument "--"/],
    [['--etcd-prefix'], /--etcd-prefix needs a value/],
    [['--etcd-prefix=a', '-etcd-prefix=b'], /--etcd-prefix is given more than once/],
    [['--ip-masq=maybe'], /--ip-masq is "maybe": expected true or false/],
    [['--healthz-port=65536'], /--healthz-port is "65536": expected an integer from 0 to 65535/],
    [['--healthz-port=1e3'], /expected an integer/],
    [['--subnet-lease-renew-margin=0'], /from 1 to 1439/],
    [['--store=consul'], /--store is "consul": expected one of etcd, kube, static/],
  ];
  for (const [args, message] of rows)
    t.throws(() => parseFlags(args, {}), { code: 'E_USAGE', message }, args.join(' '));
  t.end();
});

t.test('FLANNELD_* stands in for a flag that is not given', (t) => {
  t.equal(flagsOf([], { FLANNELD_ETCD_PREFIX: '/env' })['etcd-prefix'], '/env');
  t.equal(flagsOf(['--etcd-prefix=/arg'], { FLANNELD_ETCD_PREFIX: '/env' })['etcd-prefix'], '/arg');
  t.equal(flagsOf([], { FLANNELD_ETCD_PREFIX: '' })['etcd-prefix'], '/coreos.com/network');
  t.same(flagsOf([], { FLANNELD_IFACE: 'eth0,eth1' })['iface'], ['eth0,eth1'], 'one element, as flannel');
  t.throws(() => flagsOf([], { FLANNELD_IPTABLES_RESYNC: 'abc' }), /FLANNELD_IPTABLES_RESYNC is "abc"/);
  t.equal(parseFlags([], { FLANNELD_VERSION: 'true' }).kind, 'run');
  t.end();
});

t.test('help and version', (t) => {
  for (const arg of ['-h', '-help', '--help']) t.equal(parseFlags([arg], {}).kind, 'help');
  t.equal(parseFlags(['--version'], {}).kind, 'version');
  for (const { name } of ALL_FLAGS) {
    t.ok(usageText().includes(`--${name}`), name);
    t.match(variableOf(name), /^FLANNELD_[A-Z0-9_]+$/);
  }
  t.end();
});
