// A guest under qemu: one kernel, the machine's root read-only, and a folder through which jobs go in and results come
// out. It ends by itself, at its bound, or when we end.
//
//   folder/jobs          what guest.sh is to run, a line each
//   folder/environment   shell assignments for it
//   folder/booted        the kernel's release, once the guest has come so far
//   folder/1.out …       what the jobs said, and 1.status … how they ended
//   folder/console.log   what the kernel said

import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Kernel } from './kernel-package.js';
import { buildInitramfs } from './initramfs.js';

const MEMORY_MB = 4096; // the overlay's files among it
const PROCESSORS = 2;
const BOOT_SECONDS = { kvm: 60, tcg: 180 } as const;
/** Most of the console that a message shows. */
const CONSOLE_LINES = 60;

export type Accelerator = keyof typeof BOOT_SECONDS;

/** A test file, and the seconds it may take by KVM. */
export interface Job {
  readonly file: string;
  readonly seconds: number;
}

/** What a job printed, and its exit status: 124 when it took too long, undefined when the guest did not come so far. */
export interface JobResult {
  readonly output: string;
  readonly status: number | undefined;
}

export interface GuestOptions {
  readonly kernel: Kernel;
  readonly accelerator: Accelerator;
  /** The project's root. */
  readonly root: string;
  /** Empty or not there. */
  readonly folder: string;
  readonly jobs: readonly Job[];
  /** For the jobs. */
  readonly environment: Readonly<Record<string, string>>;
  /** Called when a job has ended, in their order. */
  readonly onResult: (job: Job, result: JobResult) => void;
}

/**
 * Emulation, unless QEMU_ACCEL says kvm. A machine may have /dev/kvm and not be able to run these kernels by it, as
 * where it is itself a guest without nested paging.
 */
export function chooseAccelerator(): Accelerator {
  return process.env.QEMU_ACCEL === 'kvm' ? 'kvm' : 'tcg';
}

function qemuArguments({ kernel, accelerator, folder }: GuestOptions, initramfsPath: string): string[] {
  const share = (tag: string, path: string, more: string): string[] => [
    '-fsdev',
    `local,id=${tag},path=${path},security_model=none${more}`,
    '-device',
    `virtio-9p-pci,fsdev=${tag},mount_tag=${tag}`,
  ];
  return [
    ...['-accel', accelerator, '-cpu', 'max', '-smp', String(PROCESSORS), '-m', String(MEMORY_MB)],
    ...['-nodefaults', '-no-reboot', '-display', 'none', '-monitor', 'none'],
    ...['-serial', `file:${join(folder, 'console.log')}`],
    ...['-kernel', kernel.imagePath, '-initrd', initramfsPath],
    ...['-append', 'console=ttyS0 panic=-1 loglevel=4'],
    ...share('root', '/', ',readonly=on,multidevs=remap'),
    ...share('results', folder, ''),
  ];
}

/** Runs all jobs in a guest; resolves when it has ended, rejects with the end of its console when it did not start. */
export async function runGuest(options: GuestOptions): Promise<void> {
  const { folder, jobs, environment, kernel, accelerator, root } = options;
  mkdirSync(folder, { recursive: true });
  const initramfsPath = join(folder, 'initramfs');
  writeFileSync(initramfsPath, buildInitramfs(kernel, root));
  const exports = Object.entries(environment).map(([name, value]) => `export ${name}='${value}'\n`);
  writeFileSync(join(folder, 'environment'), exports.join(''));
  writeFileSync(join(folder, 'jobs'), jobs.map(({ seconds, file }) => `${seconds} ${file}\n`).join(''));

  const args = ['--pdeathsig', 'KILL', 'qemu-system-x86_64', ...qemuArguments(options, initramfsPath)];
  const qemu = spawn('setpriv', args, { stdio: ['ignore', 'inherit', 'inherit'] });
  try {
    await follow(qemu, options, BOOT_SECONDS[accelerator]);
  } finally {
    qemu.kill('SIGKILL');
    rmSync(initramfsPath, { force: true });
  }
}

async function follow(qemu: ChildProcess, options: GuestOptions, bootSeconds: number): Promise<void> {
  const { folder, jobs, onResult } = options;
  const ended = new Promise<void>((resolve) => {
    qemu.once('error', () => resolve()).once('close', () => resolve()); // of what is missing, ensurePackages() told
  });
  const isThere = (name: string) => (): boolean => existsSync(join(folder, name));
  if (!(await appears(isThere('booted'), ended, bootSeconds)))
    throw new Error(`The guest did not start within ${bootSeconds} s; its console:\n${consoleOf(folder)}`);
  for (const [i, job] of jobs.entries()) {
    const [out, status] = ['out', 'status'].map((end) => join(folder, `${i + 1}.${end}`));
    // guest.sh ends the job at its bound, and by force five seconds later.
    const isDone = await appears(() => existsSync(status), ended, job.seconds + 15);
    const output = existsSync(out) ? readFileSync(out, 'utf8') : '';
    if (isDone) {
      onResult(job, { output, status: Number(readFileSync(status, 'utf8')) });
      continue;
    }
    onResult(job, {
      output: `${output}\nThe guest hangs or has ended:\n${consoleOf(folder)}`,
      status: undefined,
    });
    return;
  }
  await appears(() => false, ended, 10);
}

/** Whether it is so within the time, looking ten times a second; false as soon as the guest has ended without. */
async function appears(isSo: () => boolean, ended: Promise<void>, seconds: number): Promise<boolean> {
  const end = { isOver: false };
  void ended.then(() => (end.isOver = true));
  for (let left = seconds * 10; left > 0; left--) {
    if (isSo()) return true;
    if (end.isOver) return isSo();
    await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 100))]);
  }
  return isSo();
}

/** The last of what the kernel said. */
export function consoleOf(folder: string): string {
  const path = join(folder, 'console.log');
  if (!existsSync(path)) return '(nothing)';
  return readFileSync(path, 'utf8').trimEnd().split(/\r?\n/).slice(-CONSOLE_LINES).join('\n');
}
