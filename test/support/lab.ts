// A lab: hosts on a switch, each with a container behind it, in network namespaces of our own.
//
//        sw: br0 ───────┬──────────────────┬─────
//                       │ eth0             │ eth0           172.20.0.<i>/24, MTU 1500
//                  host 1                host 2  …
//                       │ cni0             │ cni0           10.5.<i>.1/24
//                  container 1         container 2  …       10.5.<i>.2/24, MTU 1472
//
// Namespaces are named tw-<pid>-<what>, so that labs run side by side and a crashed run can be swept up by the next.
// Every process a lab starts dies with it: by pid on close(), and by its parent-death signal when we are killed.

import { type ChildProcess, execFile, execFileSync, spawn, type SpawnOptions } from 'node:child_process';
import { mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export const PROJECT_ROOT = fileURLToPath(new URL('../..', import.meta.url));
export const DAEMON = join(PROJECT_ROOT, 'dist', 'main.js');

/** Programs a lab cannot do without. */
export const LAB_PROGRAMS = ['ip', 'ping', 'iperf3', 'setpriv'] as const;

const PREFIX = 'tw-';

/** How many times longer than on a machine of our own things may take, where a lab runs in an emulated one. */
const SLOWNESS = Number(process.env.LAB_SLOWNESS ?? 1);

/** Whether it is such a machine. */
export const IS_SLOW = SLOWNESS > 1;

/** A bound in milliseconds, as long as this machine needs it. */
export function patient(timeoutMs: number): number {
  return timeoutMs * SLOWNESS;
}

export interface Output {
  readonly stdout: string;
  readonly stderr: string;
  /** Exit code; 128 + signal when killed by one. */
  readonly code: number;
}

export interface RunOptions {
  readonly timeoutMs?: number;
  readonly input?: string | Buffer;
  /** @default true */
  readonly mustSucceed?: boolean;
  readonly env?: Readonly<Record<string, string>>;
}

/** A process in a namespace, with what it wrote so far. */
export interface Task {
  readonly child: ChildProcess;
  /** File that holds its stdout and stderr. */
  readonly logPath: string;
  log(): string;
  readonly exited: Promise<number>;
}

export interface HostOptions {
  /** @default 1500 */
  readonly mtuBytes?: number;
  /**
   * Subnet of the container; undefined leaves it without an address until connectContainer(). @default
   * 10.5.<index>.0/24
   */
  readonly subnet?: string | undefined;
}

export interface Host {
  readonly index: number;
  readonly ns: string;
  readonly containerNs: string;
  readonly underlayIp: string;
  readonly containerIp: string;
  readonly subnet: string;
  /** Directory for this host's files. */
  readonly dir: string;
}

/** Environment for children: what a test runner put into ours would change how they start. */
export function cleanEnvironment(extra: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  const env: NodeJS.ProcessEnv = {};
  for (const [name, value] of Object.entries(process.env)) {
    if (!/^(TAP|NODE_OPTIONS|NODE_V8|FLANNELD_|_TAP)/.test(name)) env[name] = value;
  }
  return { ...env, ...extra };
}

/**
 * Arguments of setpriv that run a command in a namespace and end it when we end. NODE_OPTIONS goes last of all, because
 * a test runner's patched spawn puts its own back into any environment.
 */
function inNamespace(ns: string, command: string, args: readonly string[]): string[] {
  return ['--pdeathsig', 'KILL', 'ip', 'netns', 'exec', ns, 'env', '-u', 'NODE_OPTIONS', command, ...args];
}

/** Why a lab cannot run here, or false: for the `skip` of a test. */
export function labUnavailable(): string | false {
  return process.getuid?.() === 0 ? false : 'needs root';
}

/** What a GET gave. */
export interface Answer {
  readonly status: number;
  readonly body: string;
}

// A number and a URL a line in, the number and what came of it a line out. Each request has a connection of its own: a
// daemon that was started again must not be asked through one to its predecessor.
const GETTER = `
require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
  const [id, url] = JSON.parse(line);
  const tell = (answer) => console.log(JSON.stringify({ id, ...answer }));
  const fail = (error) => tell({ error: error.message });
  const request = require('node:http').get(url, { agent: false, timeout: 60_000 }, (response) => {
    let body = '';
    response.setEncoding('utf8').on('error', fail).on('data', (chunk) => (body += chunk));
    response.on('end', () => tell({ status: response.statusCode, body }));
  });
  request.on('error', fail).on('timeout', () => request.destroy(new Error('no answer')));
});`;

/**
 * Sends GETs from inside a namespace. One process for all of them: a new one for each look costs a core while we poll.
 */
class Getter {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (answer: Answer | Error) => void>();
  #count = 0;

  constructor(ns: string) {
    this.#child = spawn('setpriv', inNamespace(ns, process.execPath, ['-e', GETTER]), {
      env: cleanEnvironment(),
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#child.stdin!.on('error', () => undefined); // told by "exit", too
    createInterface({ input: this.#child.stdout! }).on('line', (line) => {
      const { id, error, ...answer } = JSON.parse(line) as Answer & { id: number; error?: string };
      this.#settle(id, error === undefined ? answer : new Error(error));
    });
    this.#child.once('exit', () => {
      for (const id of this.#waiting.keys()) this.#settle(id, new Error('the one who asks has ended'));
    });
  }

  get hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  get(url: string): Promise<Answer> {
    const id = ++this.#count;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, (answer) => {
        if (answer instanceof Error) reject(new Error(`GET ${url}: ${answer.message}`));
        else resolve(answer);
      });
      this.#child.stdin!.write(`${JSON.stringify([id, url])}\n`);
    });
  }

  end(): void {
    this.#child.kill('SIGKILL');
  }

  #settle(id: number, answer: Answer | Error): void {
    this.#waiting.get(id)?.(answer);
    this.#waiting.delete(id);
  }
}

const OFFLOADS = ['tso', 'gso', 'gro', 'tx-udp-segmentation'];

export class Lab {
  readonly dir: string;
  readonly #name: string;
  readonly #namespaces: string[] = [];
  readonly #tasks = new Set<Task>();
  readonly #getters = new Map<string, Getter>();
  readonly #onExit = (): void => this.#closeNow();
  #count = 0;

  private constructor(name: string) {
    this.#name = name;
    this.dir = mkdtempSync(join(tmpdir(), `${PREFIX}${process.pid}-`));
  }

  /** An empty lab with its switch; sweeps up what dead runs have left. */
  static open(name = ''): Lab {
    sweep();
    const lab = new Lab(`${PREFIX}${process.pid}-${name}`);
    const sw = lab.addNamespace('sw');
    lab.ip(sw, 'link add br0 type bridge');
    lab.ip(sw, 'link set br0 up');
    process.once('exit', lab.#onExit);
    return lab;
  }

  get switchNs(): string {
    return `${this.#name}sw`;
  }

  addNamespace(what: string): string {
    const ns = `${this.#name}${what}`;
    execFileSync('ip', ['netns', 'add', ns]);
    this.#namespaces.push(ns);
    this.ip(ns, 'link set lo up');
    return ns;
  }

  /** A host with a container, on the switch. `index` (1 to 250) gives its addresses. */
  addHost(index: number, options: HostOptions = {}): Host {
    const { mtuBytes = 1500, subnet = `10.5.${index}.0/24` } = options;
    const ns = this.addNamespace(`h${index}`);
    this.#plugIn(ns, index, mtuBytes);
    execFileSync('ip', ['netns', 'exec', ns, 'sysctl', '-qw', 'net.ipv4.ip_forward=1']);
    const containerNs = this.addNamespace(`c${index}`);
    const inner = mtuBytes - 28;
    this.ip(ns, `link add cni0 mtu ${inner} type veth peer name eth0 mtu ${inner} netns ${containerNs}`);
    this.ip(ns, 'link set cni0 up');
    this.ip(containerNs, 'link set eth0 up');
    const host = {
      index,
      ns,
      containerNs,
      underlayIp: `172.20.0.${index}`,
      dir: mkdtempSync(join(this.dir, `h${index}-`)),
    };
    if ('subnet' in options && options.subnet === undefined) return { ...host, containerIp: '', subnet: '' };
    return this.connectContainer({ ...host, containerIp: '', subnet }, subnet);
  }

  /** Gives the host's bridge port and the container their addresses, as a container runtime does from subnet.env. */
  connectContainer(host: Host, subnet: string): Host {
    const base = subnet.replace(/\.0\/24$/, '');
    this.ip(host.ns, `address add ${base}.1/24 dev cni0`);
    this.ip(host.containerNs, `address add ${base}.2/24 dev eth0`);
    this.ip(host.containerNs, `route add default via ${base}.1`);
    return { ...host, subnet, containerIp: `${base}.2` };
  }

  /** A namespace on the switch with the address 172.20.0.<index>, without a container. */
  addServer(what: string, index: number): string {
    const ns = this.addNamespace(what);
    this.#plugIn(ns, index, 1500);
    return ns;
  }

  /** Compiles a C++ program of one file, `source` from the project's root, into `dir`; the path of the program. */
  compile(source: string): string {
    const program = join(this.dir, basename(source, '.cc'));
    const flags = [`-I${join(PROJECT_ROOT, 'addon')}`, '-O2', '-std=c++17', '-Wall', '-Wextra', '-Werror'];
    execFileSync('g++', [...flags, '-o', program, join(PROJECT_ROOT, source)]);
    return program;
  }

  /** Makes every Ethernet device so far split and send real packets, as a network card without offloads does. */
  turnOffloadsOff(): void {
    const settings = OFFLOADS.flatMap((feature) => [feature, 'off']);
    for (const ns of this.#namespaces) {
      for (const { ifname, link_type } of JSON.parse(this.ip(ns, '-j link show')) as Record<
        string,
        string
      >[]) {
        if (link_type !== 'ether' || ifname === 'br0' || ifname.startsWith('flannel')) continue;
        execFileSync('ip', ['netns', 'exec', ns, 'ethtool', '-K', ifname, ...settings], { stdio: 'ignore' });
      }
    }
  }

  #plugIn(ns: string, index: number, mtuBytes: number): void {
    this.ip(
      this.switchNs,
      `link add p${index} mtu ${mtuBytes} type veth peer name eth0 mtu ${mtuBytes} netns ${ns}`,
    );
    this.ip(this.switchNs, `link set p${index} master br0 up`);
    this.ip(ns, `address add 172.20.0.${index}/24 dev eth0`);
    this.ip(ns, 'link set eth0 up');
  }

  /** Runs `ip <words>` in a namespace and returns its output. */
  ip(ns: string, words: string): string {
    return execFileSync('ip', ['-n', ns, ...words.split(' ')], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  }

  /** Runs a program in a namespace to its end. */
  run(ns: string, command: string, args: readonly string[], options: RunOptions = {}): Promise<Output> {
    const { timeoutMs = 60_000, input, mustSucceed = true, env = {} } = options;
    return new Promise((resolve, reject) => {
      const child = execFile(
        'setpriv',
        inNamespace(ns, command, args),
        {
          timeout: patient(timeoutMs),
          killSignal: 'SIGKILL',
          maxBuffer: 256 << 20,
          env: cleanEnvironment({ ...this.#environment(ns), ...env }),
        },
        (error, stdout, stderr) => {
          const code = error === null ? 0 : typeof error.code === 'number' ? error.code : 137;
          if (code !== 0 && mustSucceed) {
            reject(new Error(`${command} ${args.join(' ')} in ${ns}: exit ${code}\n${stdout}${stderr}`));
          } else {
            resolve({ stdout, stderr, code });
          }
        },
      );
      child.stdin?.end(input);
    });
  }

  /** Starts a program in a namespace; it ends with the lab at the latest. */
  spawn(ns: string, command: string, args: readonly string[], options: SpawnOptions = {}): Task {
    const logPath = join(this.dir, `${++this.#count}-${command.split('/').pop()}.log`);
    const out = openSync(logPath, 'w');
    const child = spawn('setpriv', inNamespace(ns, command, args), {
      env: cleanEnvironment(this.#environment(ns)),
      ...options,
      stdio: ['ignore', out, out],
    });
    const task: Task = {
      child,
      logPath,
      log: () => readFileSync(logPath, 'utf8'),
      exited: new Promise((resolve) =>
        child.once('exit', (code, signal) => {
          this.#tasks.delete(task);
          resolve(code ?? (signal === null ? -1 : 128));
        }),
      ),
    };
    this.#tasks.add(task);
    return task;
  }

  /** Starts a program and resolves once its output matches; rejects when it ends before, or after `timeoutMs`. */
  async spawnUntil(
    ns: string,
    command: string,
    args: readonly string[],
    sign: RegExp,
    timeoutMs = 30_000,
  ): Promise<Task> {
    const task = this.spawn(ns, command, args);
    await waitFor(
      () => sign.test(task.log()) || task.child.exitCode !== null,
      `${command} to say ${sign}`,
      timeoutMs,
    ).catch((error: Error) => {
      throw new Error(`${error.message}\n${task.log()}`);
    });
    if (!sign.test(task.log())) throw new Error(`${command} ended early:\n${task.log()}`);
    return task;
  }

  /** Hosts of a lab share a file system, which real hosts do not: each has a control socket of its own. */
  #environment(ns: string): Readonly<Record<string, string>> {
    return { FLANNELD_CONTROL_SOCKET: join(this.dir, `${ns}.sock`) };
  }

  /** What a GET to an address inside a namespace gives; rejects when there is no answer. */
  async get(ns: string, url: string): Promise<Answer> {
    let getter = this.#getters.get(ns);
    if (getter === undefined || getter.hasEnded) {
      getter = new Getter(ns);
      this.#getters.set(ns, getter);
    }
    return await getter.get(url);
  }

  /** Ends a task by a signal and waits for its exit code. */
  async end(task: Task, signal: NodeJS.Signals = 'SIGTERM', timeoutMs = 10_000): Promise<number> {
    task.child.kill(signal);
    const timer = setTimeout(() => task.child.kill('SIGKILL'), patient(timeoutMs));
    const code = await task.exited;
    clearTimeout(timer);
    return code;
  }

  /** Ends all processes and removes all namespaces and files. Idempotent. */
  async close(): Promise<void> {
    const ends = [...this.#tasks].map((task) => task.exited);
    for (const task of this.#tasks) task.child.kill('SIGKILL');
    await Promise.all(ends);
    process.removeListener('exit', this.#onExit);
    this.#closeNow();
  }

  #closeNow(): void {
    for (const task of this.#tasks) task.child.kill('SIGKILL');
    for (const getter of this.#getters.values()) getter.end();
    this.#getters.clear();
    for (const ns of this.#namespaces.splice(0).reverse()) removeNamespace(ns);
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** Waits until `isDone`, looking every 20 ms; rejects naming `what` after `timeoutMs`. */
export async function waitFor(
  isDone: () => boolean | Promise<boolean>,
  what: string,
  timeoutMs = 20_000,
): Promise<void> {
  const deadline = Date.now() + patient(timeoutMs);
  for (;;) {
    const isLast = Date.now() > deadline; // before the look: we may have been kept from looking for seconds
    if (await isDone()) return;
    if (isLast) throw new Error(`waited ${timeoutMs} ms in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Removes namespaces and directories of runs whose process is gone. */
function sweep(): void {
  for (const ns of listDirectory('/run/netns')) {
    if (isOrphan(ns)) removeNamespace(ns);
  }
  for (const name of listDirectory(tmpdir())) {
    if (isOrphan(name)) removeFolder(join(tmpdir(), name));
  }
}

function removeNamespace(ns: string): void {
  // A TUN that outlives its daemon lives on with the namespace; so would processes we did not start.
  try {
    execFileSync('ip', ['netns', 'delete', ns], { stdio: 'ignore' });
  } catch {
    process.stderr.write(`could not remove namespace ${ns}\n`);
  }
}

/** Another run may sweep it at the same time, and what outlived its lab may write into it. */
function removeFolder(path: string): void {
  try {
    rmSync(path, { recursive: true, force: true });
  } catch (error) {
    process.stderr.write(`could not remove ${path}: ${(error as Error).message}\n`);
  }
}

function isOrphan(name: string): boolean {
  const match = new RegExp(`^${PREFIX}(\\d+)-`).exec(name);
  if (match === null) return false;
  try {
    process.kill(Number(match[1]), 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
}

function listDirectory(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return []; // no namespace was ever made on this machine
  }
}
