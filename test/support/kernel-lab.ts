// Network namespaces for the labs of the kernel modes. Three hosts, two on one link and one behind a router, each with
// a container; every name carries the pid of the test.
//
//   c1 ─ h1 (192.0.2.1) ─┐                     c2 ─ h2 (192.0.2.2) ─┐
//                        └────── br0 in r (192.0.2.254) ────────────┘
//                                     r (198.51.100.254) ─ h3 (198.51.100.3) ─ c3
//
// Host N owns 10.5.N.0/24; its container has 10.5.N.2, the host end of the veth 10.5.N.1. A lab is of IPv4 unless it is
// told otherwise: what is to hold in every family is described once, and run in each of NETWORKS. In IPv6 the hosts are
// fd00:99::1, fd00:99::2 and fd00:98::3, and host N owns fd00:5:0:N::/64, with containers and veths as in IPv4.

import type { PeerDetail } from '../../src/ops/status.js';
import type { ModeStatus } from '../../src/ops/status.js';
import { execFile, spawn } from 'node:child_process';
import type { ChildProcess, SpawnOptions } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { FamilyName } from '../../src/net/dual.js';
import { patient } from './lab.js';

/** Why labs do not run here; false when they do. */
export const LAB_SKIP: string | false = process.getuid?.() === 0 ? false : 'needs root';

/** Environment without what tap puts into it for its own children. */
export function childEnvironment(): NodeJS.ProcessEnv {
  const entries = Object.entries(process.env).filter(
    ([name]) => name !== 'NODE_OPTIONS' && !name.startsWith('TAP'),
  );
  return Object.fromEntries(entries);
}

/** Runs a command and resolves with its stdout; rejects with its stderr in the message. */
export function run(file: string, args: readonly string[], input?: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { env: childEnvironment(), timeout: patient(60_000), maxBuffer: 64 << 20 };
    const child = execFile(file, [...args], options, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(`${file} ${args.join(' ')}: ${stderr.trim() || error.message}`));
    });
    child.stdin?.on('error', () => undefined); // the tool may have ended before it read its input
    child.stdin?.end(input);
  });
}

/** Polls until `condition` gives a value other than false and undefined. Rejects after `timeoutMs` with `what`. */
export async function waitFor<T>(
  what: string,
  condition: () => Promise<T | false | undefined>,
  timeoutMs = 5_000,
): Promise<T> {
  const end = performance.now() + patient(timeoutMs);
  let last = '';
  for (;;) {
    try {
      const value = await condition();
      if (value !== false && value !== undefined) return value;
    } catch (error) {
      last = (error as Error).message;
    }
    if (performance.now() > end) throw new Error(`not within ${timeoutMs} ms: ${what} ${last}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** What a lab's network carries; see leases.ts for texts of both families. */
export interface LabNetwork {
  readonly name: 'v4' | 'v6' | 'dual';
  /** With "&" between two. */
  readonly network: string;
  readonly families: readonly FamilyName[];
}

/** The three networks that a lab can have. */
export const NETWORKS: readonly LabNetwork[] = [
  { name: 'v4', network: '10.5.0.0/16', families: ['v4'] },
  { name: 'v6', network: 'fd00:5::/48', families: ['v6'] },
  { name: 'dual', network: '10.5.0.0/16&fd00:5::/48', families: ['v4', 'v6'] },
];

const ADDRESSES = {
  v4: {
    bits: 24,
    underlay: ['', '192.0.2.1', '192.0.2.2', '198.51.100.3'],
    routers: ['192.0.2.254', '198.51.100.254'],
    pods: (host: number) => `10.5.${host}.`,
    subnet: (host: number) => `10.5.${host}.0/24`,
    everywhere: 'default',
  },
  v6: {
    bits: 64,
    underlay: ['', 'fd00:99::1', 'fd00:99::2', 'fd00:98::3'],
    routers: ['fd00:99::254', 'fd00:98::254'],
    pods: (host: number) => `fd00:5:0:${host}::`,
    subnet: (host: number) => `fd00:5:0:${host}::/64`,
    everywhere: '::/0',
  },
} as const;

/** Address of the container of a host. */
export function podAddress(host: number, family: FamilyName): string {
  return `${ADDRESSES[family].pods(host)}2`;
}

/** Address of a host on the underlay. */
export function hostAddress(host: number, family: FamilyName): string {
  return ADDRESSES[family].underlay[host];
}

export class KernelLab {
  readonly network: LabNetwork;
  readonly #prefix = `tw-${process.pid}-`;
  readonly #namespaces: string[] = [];
  readonly #children = new Set<ChildProcess>();

  /** @param network @default that of IPv4 */
  constructor(network = NETWORKS[0]) {
    this.network = network;
  }

  /** Full name of a namespace of this lab. */
  name(namespace: string): string {
    return this.#prefix + namespace;
  }

  /** Runs a command inside a namespace. */
  async exec(namespace: string, command: readonly string[], input?: string): Promise<string> {
    return await run('ip', ['netns', 'exec', this.name(namespace), ...command], input);
  }

  /** exec() of words split at spaces. */
  async sh(namespace: string, words: string): Promise<string> {
    return await this.exec(namespace, words.split(' '));
  }

  /** Like sh(), with the JSON it prints. */
  async json<T>(namespace: string, words: string): Promise<T> {
    const text = await this.sh(namespace, words);
    return JSON.parse(text.trim() === '' ? '[]' : text) as T;
  }

  /** Starts a command inside a namespace; ended by close() at the latest. */
  start(namespace: string, command: readonly string[], options: SpawnOptions = {}): ChildProcess {
    const args = ['netns', 'exec', this.name(namespace), ...command];
    const child = spawn('ip', args, {
      env: childEnvironment(),
      stdio: ['pipe', 'pipe', 'inherit'],
      ...options,
    });
    this.#children.add(child);
    child.once('exit', () => this.#children.delete(child));
    return child;
  }

  /** tcpdump on an interface, listening when this resolves; `text()` is what it has printed so far. */
  async capture(namespace: string, device: string, filter: string): Promise<{ text(): string; end(): void }> {
    const command = [
      'tcpdump',
      '-nn',
      '-l',
      '--immediate-mode',
      '-T',
      'vxlan',
      '-i',
      device,
      ...filter.split(' '),
    ];
    const child = this.start(namespace, command, { stdio: ['ignore', 'pipe', 'pipe'] });
    let printed = '';
    child.stdout!.on('data', (chunk: Buffer) => (printed += chunk.toString()));
    await new Promise<void>((resolve, reject) => {
      child.stderr!.on('data', (chunk: Buffer) => {
        if (chunk.includes('listening on')) resolve();
      });
      child.once('exit', () => reject(new Error('tcpdump ended early')));
    });
    return { text: () => printed, end: () => void child.kill() };
  }

  async addNamespace(namespace: string): Promise<void> {
    const name = this.name(namespace);
    this.#namespaces.push(name);
    await run('ip', ['netns', 'add', name]);
    await this.exec(namespace, ['ip', '-batch', '-'], 'link set lo up\n');
    const settings = ['net.ipv4.ip_forward=1', 'net.ipv6.conf.default.accept_dad=0'];
    if (this.network.families.includes('v6')) settings.push('net.ipv6.conf.all.forwarding=1');
    await this.exec(namespace, ['sysctl', '-qw', ...settings]);
  }

  /** Builds the picture in the file head. */
  async build(): Promise<this> {
    for (const namespace of ['r', 'h1', 'h2', 'h3', 'c1', 'c2', 'c3']) await this.addNamespace(namespace);
    await this.sh('r', 'ip link add br0 type bridge');
    await this.sh('r', 'ip link set br0 up');
    for (const host of [1, 2, 3]) {
      await run('ip', ['-batch', '-'], this.#wiring(host));
      if (host < 3) await this.sh('r', `ip link set p${host} master br0`);
      const [router, own, container] = this.#addressing(host);
      await this.sh('r', `ip link set p${host} up`);
      await this.exec('r', ['ip', '-batch', '-'], router);
      await this.exec(`h${host}`, ['ip', '-batch', '-'], own);
      await this.exec(`c${host}`, ['ip', '-batch', '-'], container);
    }
    for (const family of this.network.families)
      await waitFor('underlay', async () => await this.ping('h1', hostAddress(3, family)));
    return this;
  }

  /** Lines for the router, the host and its container. Routes of IPv6 need a link that is up, and so come last. */
  #addressing(host: number): [string, string, string] {
    const lines: [string[], string[], string[]] = [
      [],
      ['link set eth0 up', 'link set vk up'],
      ['link set eth0 up'],
    ];
    const [router, own, container] = lines;
    for (const family of this.network.families) {
      const { bits, underlay, routers, pods, everywhere } = ADDRESSES[family];
      const gateway = routers[host < 3 ? 0 : 1];
      if (host !== 2) router.push(`addr add ${gateway}/${bits} dev ${host === 1 ? 'br0' : 'p3'}`);
      own.push(`addr add ${underlay[host]}/${bits} dev eth0`, `addr add ${pods(host)}1/${bits} dev vk`);
      own.push(`route add ${everywhere} via ${gateway}`);
      container.push(
        `addr add ${pods(host)}2/${bits} dev eth0`,
        `route add ${everywhere} via ${pods(host)}1`,
      );
    }
    return lines.map((part) => part.join('\n') + '\n') as [string, string, string];
  }

  /** Whether one echo comes back within a second. */
  async ping(namespace: string, address: string): Promise<boolean> {
    try {
      await this.exec(namespace, ['ping', '-n', '-q', '-c1', '-W1', address]);
      return true;
    } catch {
      return false;
    }
  }

  /** Sends 4 MiB of random bytes by TCP; whether they arrived unchanged. */
  async transfer(from: string, to: string, address: string): Promise<boolean> {
    const sent = randomBytes(4 << 20);
    const folder = await mkdtemp(join(tmpdir(), 'twill-lab-'));
    try {
      await writeFile(join(folder, 'sent'), sent);
      const [tcp, target] = address.includes(':') ? ['TCP6', `[${address}]`] : ['TCP4', address];
      const receiver = this.start(to, [
        'socat',
        '-u',
        `${tcp}-LISTEN:9000,reuseaddr`,
        `CREATE:${folder}/got`,
      ]);
      const done = new Promise((resolve) => receiver.once('exit', resolve));
      await waitFor('listener', async () => (await this.sh(to, 'ss -Hltn')).includes(':9000'));
      await this.exec(from, ['socat', '-u', `OPEN:${folder}/sent`, `${tcp}:${target}:9000`]);
      await done;
      const hash = (data: Buffer) => createHash('sha256').update(data).digest('hex');
      return hash(await readFile(join(folder, 'got'))) === hash(sent);
    } finally {
      await rm(folder, { recursive: true });
    }
  }

  /** Ends what still runs and removes every namespace. */
  async close(): Promise<void> {
    for (const child of this.#children) child.kill('SIGKILL');
    for (const name of this.#namespaces.splice(0)) await run('ip', ['netns', 'del', name]);
  }

  #wiring(host: number): string {
    const [router, own, container] = [this.name('r'), this.name(`h${host}`), this.name(`c${host}`)];
    return (
      `link add name p${host} netns ${router} type veth peer name eth0 netns ${own}\n` +
      `link add name vk netns ${own} type veth peer name eth0 netns ${container}\n`
    );
  }
}

/** A lease as test/support/backend-driver.ts takes it. */
export interface LeaseText {
  readonly subnet: string;
  readonly publicIp: string;
  readonly backendType: string;
  readonly backendData?: unknown;
  readonly backendV6Data?: unknown;
  readonly createRevision?: number;
}

export interface DriverState {
  readonly degraded: readonly string[];
  readonly counters: readonly {
    readonly name: string;
    readonly values: readonly { readonly labels: Record<string, string>; readonly value: number }[];
  }[];
  readonly status: ModeStatus;
  readonly peers: readonly PeerDetail[];
}

const DRIVER = fileURLToPath(new URL('./backend-driver.ts', import.meta.url));

/** A backend in its own process inside a namespace. Calls are answered in order. */
export class Driver {
  readonly #child: ChildProcess;
  readonly #waiting: ((line: string) => void)[] = [];
  readonly exited: Promise<void>;

  /** `path` goes before PATH: programs there are found first. `wrapper` is a command that runs the driver. */
  constructor(lab: KernelLab, namespace: string, path = '', wrapper: readonly string[] = []) {
    this.#child = lab.start(namespace, [...wrapper, process.execPath, '--import', 'tsx', DRIVER], {
      env: { ...childEnvironment(), PATH: `${path}:${process.env['PATH']}` },
    });
    createInterface({ input: this.#child.stdout! }).on('line', (line) => this.#waiting.shift()?.(line));
    this.exited = new Promise((resolve) => this.#child.once('exit', () => resolve()));
  }

  /** Sends a command and resolves with its result; rejects with "CODE: message" when the driver met an error. */
  async call<T = Record<string, unknown>>(op: string, fields: Record<string, unknown> = {}): Promise<T> {
    const line = await new Promise<string>((resolve, reject) => {
      this.#waiting.push(resolve);
      void this.exited.then(() => reject(new Error(`driver ended during ${op}`)));
      this.#child.stdin!.write(JSON.stringify({ op, ...fields }) + '\n');
    });
    const answer = JSON.parse(line) as { result: T; error?: string; code?: string };
    if (answer.error !== undefined) throw new Error(`${answer.code ?? ''}: ${answer.error}`);
    return answer.result;
  }

  /** Ends the process at once, as a crash or an OOM kill would. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.exited;
  }

  /** Closes the backend and ends the process. */
  async close(): Promise<void> {
    await this.call('close');
    this.#child.stdin!.end();
    await this.exited;
  }
}

export const NETWORK = '10.5.0.0/16';

/** A host with an opened backend, and what its lease says. */
export interface LabNode {
  readonly host: string;
  readonly driver: Driver;
  readonly lease: LeaseText;
}

/** Starts the backend of host `number`; its container gets the MTU the backend asks for. */
export async function startLabNode(
  lab: KernelLab,
  number: number,
  backend: Record<string, unknown>,
  fields: Record<string, unknown> = {},
): Promise<LabNode> {
  const host = `h${number}`;
  const driver = new Driver(lab, host);
  await driver.call('new', { backend, network: lab.network.network, iface: 'eth0', ...fields });
  const data = await driver.call('publish');
  const { families } = lab.network;
  const subnet = families.map((family) => ADDRESSES[family].subnet(number)).join('&');
  const publicIp = families.map((family) => hostAddress(number, family)).join('&');
  const { mtuBytes } = await driver.call<{ mtuBytes: number }>('start', { subnet });
  await lab.sh(host, `ip link set vk mtu ${mtuBytes}`);
  await lab.sh(`c${number}`, `ip link set eth0 mtu ${mtuBytes}`);
  return { host, driver, lease: { subnet, publicIp, ...data } as LeaseText };
}

/** The same in the vxlan mode. */
export function startVxlanNode(
  lab: KernelLab,
  number: number,
  backend: Record<string, unknown> = {},
  fields: Record<string, unknown> = {},
): Promise<LabNode> {
  return startLabNode(lab, number, { Type: 'vxlan', ...backend }, fields);
}

/** Tells every node about all the others. */
export async function introduce(nodes: readonly LabNode[]): Promise<void> {
  for (const node of nodes) {
    await node.driver.call('apply', {
      added: nodes.filter((other) => other !== node).map((other) => other.lease),
    });
  }
}

/** Runs `body` in a lab of its own. */
export async function withLab(body: (lab: KernelLab) => Promise<void>, network?: LabNetwork): Promise<void> {
  const lab = new KernelLab(network);
  try {
    await lab.build();
    await body(lab);
  } finally {
    await lab.close();
  }
}
