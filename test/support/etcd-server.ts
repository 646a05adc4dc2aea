// A real etcd for tests: Debian's binary on free loopback ports with a data directory of its own.
//
// Ended by pid only. A port is found by binding port 0 and letting go; another process may take it before etcd does, so
// a start that fails is repeated on other ports.

import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface EtcdOptions {
  /** Added to the command line. */
  readonly args?: readonly string[];
  /** Scheme of the client URL. @default 'http' */
  readonly scheme?: 'http' | 'https';
  /** Port that the other members of a cluster reach this peer port at. @default the port itself */
  readonly peerPortOf?: (peerPort: number) => Promise<number>;
  /** etcdctl flags needed to reach it. */
  readonly ctlArgs?: readonly string[];
}

/** The environment for a child: without what tap injects into this process. */
export function cleanEnv(): NodeJS.ProcessEnv {
  const env: NodeJS.ProcessEnv = {};
  for (const [name, value] of Object.entries(process.env)) {
    if (name !== 'NODE_OPTIONS' && !name.startsWith('TAP') && !name.startsWith('ETCD')) env[name] = value;
  }
  return { ...env, ETCDCTL_API: '3', GOMAXPROCS: '2' };
}

/** A TCP port of loopback that nobody uses at this moment. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return port;
}

/** One etcd member; `start()` after `kill()` runs it again on the same ports and data. */
export class EtcdServer {
  readonly name: string;
  readonly clientPort: number;
  readonly peerPort: number;
  readonly #options: EtcdOptions;
  readonly #cluster: string;
  readonly #advertisedPeerPort: number;
  dataDir: string;
  #child: ChildProcess | undefined;

  constructor(
    name: string,
    clientPort: number,
    peerPort: number,
    cluster: string,
    options: EtcdOptions,
    advertisedPeerPort = peerPort,
  ) {
    this.#advertisedPeerPort = advertisedPeerPort;
    this.name = name;
    this.clientPort = clientPort;
    this.peerPort = peerPort;
    this.#cluster = cluster;
    this.#options = options;
    this.dataDir = mkdtempSync(join(tmpdir(), `twill-etcd-${process.pid}-`));
  }

  get url(): string {
    return `${this.#options.scheme ?? 'http'}://127.0.0.1:${this.clientPort}`;
  }

  get pid(): number {
    return this.#child!.pid!;
  }

  start(extraArgs: readonly string[] = []): void {
    const peer = `http://127.0.0.1:${this.peerPort}`;
    const advertisedPeer = `http://127.0.0.1:${this.#advertisedPeerPort}`;
    this.#child = spawn(
      'etcd',
      [
        ...['--name', this.name, '--data-dir', this.dataDir, '--log-level', 'error'],
        ...['--listen-client-urls', this.url, '--advertise-client-urls', this.url],
        ...[
          '--listen-peer-urls',
          peer,
          '--initial-advertise-peer-urls',
          advertisedPeer,
          '--initial-cluster',
          this.#cluster,
        ],
        ...['--heartbeat-interval', '100', '--election-timeout', '1000', '--pre-vote'],
        ...(this.#options.args ?? []),
        ...extraArgs,
      ],
      { env: cleanEnv(), stdio: ['ignore', 'ignore', 'pipe'] },
    );
    this.#child.stderr!.resume();
  }

  /** Resolves once the member answers. */
  async ready(): Promise<void> {
    for (let attempt = 0; attempt < 100; attempt++) {
      if (this.#child?.exitCode !== null)
        throw new Error(`etcd ${this.name} exited with ${this.#child?.exitCode}`);
      if ((await this.tryCtl('endpoint', 'health')).code === 0) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`etcd ${this.name} did not become healthy`);
  }

  signal(name: NodeJS.Signals): void {
    this.#child?.kill(name);
  }

  /** SIGKILL, and waits for the end. */
  async kill(): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGCONT');
    child.kill('SIGKILL');
    await ended;
  }

  /** Standard output of an etcdctl command; throws when it fails. */
  async ctl(...args: string[]): Promise<string> {
    const { code, out, err } = await this.tryCtl(...args);
    if (code !== 0) throw new Error(`etcdctl ${args.join(' ')}: ${err}${out}`);
    return out;
  }

  async ctlInput(input: string, ...args: string[]): Promise<string> {
    const { code, out, err } = await this.#runCtl(args, input);
    if (code !== 0) throw new Error(`etcdctl ${args.join(' ')}: ${err}${out}`);
    return out;
  }

  tryCtl(...args: string[]): Promise<{ code: number | null; out: string; err: string }> {
    return this.#runCtl(args, undefined);
  }

  #runCtl(
    args: string[],
    input: string | undefined,
  ): Promise<{ code: number | null; out: string; err: string }> {
    return new Promise((resolve, reject) => {
      const child = spawn(
        'etcdctl',
        ['--endpoints', this.url, '--command-timeout', '5s', ...(this.#options.ctlArgs ?? []), ...args],
        { env: cleanEnv(), stdio: ['pipe', 'pipe', 'pipe'] },
      );
      let out = '';
      let err = '';
      child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
      child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()));
      child.once('error', reject);
      child.once('close', (code) => resolve({ code, out, err }));
      child.stdin.on('error', () => undefined); // it may end without reading; its exit code tells
      child.stdin.end(input ?? '');
    });
  }

  async remove(): Promise<void> {
    await this.kill();
    rmSync(this.dataDir, { recursive: true, force: true });
  }

  /** Kills it and forgets its data; the next start makes an empty store. */
  async wipe(): Promise<void> {
    await this.remove();
    this.dataDir = mkdtempSync(join(tmpdir(), `twill-etcd-${process.pid}-`));
  }

  /** Whether the process runs still (SIGSTOP counts as running). */
  get isRunning(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** State letter of /proc/<pid>/stat, such as T when stopped. */
  get processState(): string {
    return /\) (\w)/.exec(readFileSync(`/proc/${this.pid}/stat`, 'utf8'))?.[1] ?? '?';
  }
}

/** A front of etcd's own before `server`: its address, and what ends it (SIGKILL). */
export async function startFront(
  kind: 'grpc-proxy' | 'gateway',
  server: EtcdServer,
): Promise<{ url: string; close(): Promise<void> }> {
  const port = await freePort();
  const dataDir = mkdtempSync(join(tmpdir(), `twill-front-${process.pid}-`));
  const args = [
    kind,
    'start',
    `--endpoints=127.0.0.1:${server.clientPort}`,
    `--listen-addr=127.0.0.1:${port}`,
  ];
  if (kind === 'grpc-proxy') args.push(`--data-dir=${dataDir}`);
  else args.push('--retry-delay=500ms');
  const child = spawn('etcd', args, { env: cleanEnv(), stdio: 'ignore' });
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const url = `http://127.0.0.1:${port}`;
  const close = async (): Promise<void> => {
    child.kill('SIGKILL');
    await ended;
    rmSync(dataDir, { recursive: true, force: true });
  };
  for (let attempt = 0; (await server.tryCtl('--endpoints', url, 'get', 'x')).code !== 0; attempt++) {
    if (attempt < 100 && child.exitCode === null) continue;
    await close();
    throw new Error(`etcd ${kind} does not answer`);
  }
  return { url, close };
}

/** One ready member. The caller removes it. */
export async function startEtcd(options: EtcdOptions = {}): Promise<EtcdServer> {
  for (let attempt = 0; ; attempt++) {
    const [clientPort, peerPort] = [await freePort(), await freePort()];
    const server = new EtcdServer('m0', clientPort, peerPort, `m0=http://127.0.0.1:${peerPort}`, options);
    server.start();
    try {
      await server.ready();
      return server;
    } catch (error) {
      await server.remove();
      if (attempt === 2) throw error;
    }
  }
}

/** A ready cluster of three. The caller removes each. */
export async function startCluster(options: EtcdOptions = {}): Promise<readonly EtcdServer[]> {
  const ports = await Promise.all(Array.from({ length: 6 }, freePort));
  const advertised: number[] = [];
  for (const port of ports.slice(3)) advertised.push((await options.peerPortOf?.(port)) ?? port);
  const cluster = advertised.map((port, i) => `m${i}=http://127.0.0.1:${port}`).join(',');
  const servers = advertised.map(
    (port, i) => new EtcdServer(`m${i}`, ports[i], ports[i + 3], cluster, options, port),
  );
  for (const server of servers) server.start();
  await Promise.all(servers.map((server) => server.ready()));
  return servers;
}
