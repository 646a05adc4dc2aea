// A real systemd, the first process of a host of a lab: pid, mount and cgroup namespaces of its own, and no unit but
// those that a test gives it. What it and its services write to /run/lab is in the folder of the host.

import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Host, type Lab, type Task, waitFor } from './lab.js';

/** Where Debian has it; the programs that talk with it are in the path. */
export const SYSTEMD = '/lib/systemd/systemd';

/** $1 names the cgroup, $2 the folder with units and files. */
const START = `
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/lab /run/systemd/system
mount --bind "$2" /run/lab
cp -r "$2"/units/. /run/systemd/system/
umount -R /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir "/sys/fs/cgroup/$1"
echo $$ >"/sys/fs/cgroup/$1/cgroup.procs"
exec unshare --cgroup --pid --fork --kill-child --mount sh -ec '
  mount -t proc proc /proc
  umount /sys/fs/cgroup
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  export container=lab SYSTEMD_UNIT_PATH=/run/systemd/system
  exec ${SYSTEMD} --system --unit=lab.target --log-target=console --show-status=0'`;

/** $1 names the cgroup. */
const CLEAR = `
mount --make-rprivate /
mount -t cgroup2 cgroup2 /sys/fs/cgroup
find "/sys/fs/cgroup/$1" -depth -type d -exec rmdir {} +`;

const TARGET = `[Unit]
DefaultDependencies=no
`;

/** Why there can be none here; false when there can. Needs root. */
export function systemdUnavailable(): string | false {
  const words = ['--mount', 'mount', '-t', 'cgroup2', 'cgroup2', '/sys/fs/cgroup'];
  const { status, stderr } = spawnSync('unshare', words, { encoding: 'utf8' });
  return status === 0 ? false : `no cgroup2 can be mounted: ${stderr.trim()}`;
}

export class Systemd {
  readonly #lab: Lab;
  readonly #task: Task;
  readonly #host: Host;

  private constructor(lab: Lab, host: Host, task: Task) {
    this.#lab = lab;
    this.#host = host;
    this.#task = task;
  }

  /** `units` are texts by file name. The test closes it before its lab. */
  static async open(lab: Lab, host: Host, units: Readonly<Record<string, string>>): Promise<Systemd> {
    for (const [name, text] of Object.entries({ ...units, 'lab.target': TARGET })) {
      const path = join(host.dir, 'units', name);
      mkdirSync(join(path, '..'), { recursive: true });
      writeFileSync(path, text);
    }
    const words = ['--mount', 'sh', '-c', START, 'sh', host.ns, host.dir];
    const systemd = new Systemd(lab, host, lab.spawn(host.ns, 'unshare', words));
    await waitFor(
      async () => (await systemd.run('is-active', 'lab.target')).stdout === 'active\n',
      'systemd',
    );
    return systemd;
  }

  /** systemctl. */
  async run(...args: readonly string[]): Promise<{ readonly code: number; readonly stdout: string }> {
    const pid = childrenOf(this.#task.child.pid!)[0];
    if (pid === undefined) return { code: -1, stdout: '' };
    const words = ['-t', String(pid), '-m', '-p', 'systemctl', ...args];
    return await this.#lab.run(this.#host.ns, 'nsenter', words, { mustSucceed: false });
  }

  /** A property of a unit. */
  async show(unit: string, property: string): Promise<string> {
    return (await this.run('show', unit, `--property=${property}`, '--value')).stdout.trim();
  }

  /** The main process of a service as the machine numbers it. */
  mainPid(sign: string): number {
    const [first] = childrenOf(this.#task.child.pid!);
    const found = childrenOf(first).filter((pid) => commandOf(pid).includes(sign));
    if (found.length !== 1) throw new Error(`${found.length} processes of ${sign}`);
    return found[0];
  }

  /** Ends it and all that it runs, and removes its cgroups. */
  async close(): Promise<void> {
    this.#task.child.kill('SIGKILL');
    await this.#task.exited;
    const words = ['--mount', 'sh', '-c', CLEAR, 'sh', this.#host.ns];
    const clear = () => this.#lab.run(this.#host.ns, 'unshare', words, { mustSucceed: false });
    await waitFor(async () => (await clear()).code === 0, 'its cgroups to be free');
  }
}

function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
  } catch {
    return []; // it has ended
  }
}

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
  } catch {
    return '';
  }
}
