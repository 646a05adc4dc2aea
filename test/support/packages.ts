// Debian packages that the labs run: installed when we are root on a machine with apt-get, else named in one message.

import { spawnSync } from 'node:child_process';

/** Program → Debian package. */
const PACKAGES: Readonly<Record<string, string>> = {
  ip: 'iproute2',
  ping: 'iputils-ping',
  tracepath: 'iputils-tracepath',
  iperf3: 'iperf3',
  tcpdump: 'tcpdump',
  nft: 'nftables',
  iptables: 'iptables',
  ethtool: 'ethtool',
  setpriv: 'util-linux',
  socat: 'socat',
  ps: 'procps',
  python3: 'python3',
  etcd: 'etcd-server',
  etcdctl: 'etcd-client',
  conntrack: 'conntrack',
  openssl: 'openssl',
  go: 'golang-go',
  'dpkg-source': 'dpkg-dev',
  flock: 'util-linux',
  perf: 'linux-perf',
  fastd: 'fastd',
  'wireguard-go': 'wireguard-go',
  wg: 'wireguard-tools',
  'qemu-system-x86_64': 'qemu-system-x86',
  busybox: 'busybox-static',
  depmod: 'kmod',
  xz: 'xz-utils',
  systemctl: 'systemd',
  tc: 'iproute2',
  '/usr/lib/cni/bridge': 'containernetworking-plugins',
};

export type Program = keyof typeof PACKAGES;

function isInstalled(program: string): boolean {
  return spawnSync('sh', ['-c', `command -v "$1"`, 'sh', program], { stdio: 'ignore' }).status === 0;
}

function run(command: string, args: string[]): boolean {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  return spawnSync(command, args, { stdio: ['ignore', 'ignore', 'inherit'], env }).status === 0;
}

/** Installs what is missing, or throws an Error that names the packages and the command. */
export function ensurePackages(programs: readonly string[]): void {
  const missing = programs.filter((program) => !isInstalled(program));
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map((program) => PACKAGES[program] ?? program))];
  const command = `apt-get install --no-install-recommends ${packages.join(' ')}`;
  if (process.getuid?.() !== 0 || !isInstalled('apt-get')) {
    throw new Error(`Missing programs: ${missing.join(', ')}. On Debian, as root: ${command}`);
  }
  process.stderr.write(`installing ${packages.join(', ')}\n`);
  const install = ['install', '-y', '-qq', '--no-install-recommends', ...packages];
  // A fresh machine has no package lists, or old ones.
  if (run('apt-get', install) || (run('apt-get', ['update', '-qq']) && run('apt-get', install))) return;
  throw new Error(`Cannot install missing packages; the command was: ${command}`);
}
