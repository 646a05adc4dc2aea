// The three servers of a cluster: their files, command lines and processes.

import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../etcd-server.js';
import { type Task, waitFor } from '../lab.js';
import { ISSUER, kubeconfig, type KeyFiles, makeAccountKey } from './accounts.js';
import type { KubeBinaries } from './binaries.js';
import type { Place } from './place.js';
import { type Pair, Pki } from './pki.js';

export interface ServerSettings {
  readonly binaries: KubeBinaries;
  readonly place: Place;
  readonly clusterCidr: string;
  readonly apiServerArgs: readonly string[];
}

/** TCP ports, which nobody else used a moment ago. */
interface Ports {
  readonly api: number;
  readonly etcd: number;
  readonly etcdPeer: number;
}

/** Ends a process, however it is, and waits for that. */
export async function endTask(task: Task | undefined, signal: NodeJS.Signals): Promise<void> {
  if (task === undefined) return;
  task.child.kill(signal);
  task.child.kill('SIGCONT');
  await task.exited;
}

export class Servers {
  readonly port: number;
  readonly caFile: string;
  readonly accountKey: KeyFiles;
  /** Certificate of a cluster-admin. */
  readonly admin: Pair;
  readonly #settings: ServerSettings;
  readonly #ports: Ports;
  readonly #pki: Pki;
  readonly #clientsCa: Pair;
  #servingCa: Pair;
  #serving: Pair;
  #etcd: Task | undefined;
  #apiServer: Task | undefined;
  #controllerManager: Task | undefined;

  private constructor(settings: ServerSettings, ports: Ports) {
    const { dir } = settings.place;
    this.#settings = settings;
    this.#ports = ports;
    this.port = ports.api;
    this.#pki = new Pki(dir);
    this.#clientsCa = this.#pki.authority('clients-ca');
    this.#servingCa = this.#pki.authority('serving-ca');
    this.caFile = this.#servingCa.certFile;
    this.#serving = this.#makeServing();
    this.accountKey = makeAccountKey(dir);
    this.admin = this.userCertificate('admin', ['system:masters']);
  }

  /** Their files are made; nothing runs yet. */
  static async prepare(settings: ServerSettings): Promise<Servers> {
    const [api, etcd, etcdPeer] = [await freePort(), await freePort(), await freePort()];
    return new Servers(settings, { api, etcd, etcdPeer });
  }

  userCertificate(user: string, groups: readonly string[]): Pair {
    return this.#pki.client(user, groups, this.#clientsCa);
  }

  /** Replaces the API server's certificate, for its next start. */
  makeServing(): void {
    this.#serving = this.#makeServing();
  }

  /** Replaces its authority, for the next certificate. */
  makeAuthority(): void {
    this.#servingCa = this.#pki.authority('serving-ca');
  }

  #makeServing(): Pair {
    const names = ['kubernetes', 'kubernetes.default', 'kubernetes.default.svc', 'localhost'];
    const addresses = ['127.0.0.1', '::1', '10.96.0.1', this.#settings.place.address];
    return this.#pki.server('apiserver', this.#servingCa, [...new Set(addresses)], names);
  }

  async startEtcd(): Promise<void> {
    const { place } = this.#settings;
    const peer = `http://127.0.0.1:${this.#ports.etcdPeer}`;
    const task = place.spawn('etcd', [
      ...['--name=kube', `--data-dir=${join(place.dir, 'etcd')}`, '--unsafe-no-fsync', '--log-level=error'],
      ...[`--listen-client-urls=${this.#etcdUrl}`, `--advertise-client-urls=${this.#etcdUrl}`],
      ...[
        `--listen-peer-urls=${peer}`,
        `--initial-advertise-peer-urls=${peer}`,
        `--initial-cluster=kube=${peer}`,
      ],
    ]);
    this.#etcd = task;
    const isHealthy = async (): Promise<boolean> => {
      if (task.child.exitCode !== null) throw new Error(`etcd ended:\n${task.log()}`);
      return (await this.#runEtcdctl(['endpoint', 'health'], false)).code === 0;
    };
    await waitFor(isHealthy, 'etcd to answer', 20_000);
  }

  /** Ends etcd, puts the data of a snapshot file in place of what it had, and starts it again. */
  async restoreEtcd(file: string): Promise<void> {
    await endTask(this.#etcd, 'SIGKILL');
    rmSync(this.#dataDir, { recursive: true });
    const peer = this.#peerUrl;
    await this.etcdctl([
      ...['snapshot', 'restore', file, `--data-dir=${this.#dataDir}`, '--name=kube'],
      ...[`--initial-cluster=kube=${peer}`, `--initial-advertise-peer-urls=${peer}`],
    ]);
    await this.startEtcd();
  }

  get #dataDir(): string {
    return join(this.#settings.place.dir, 'etcd');
  }

  get #peerUrl(): string {
    return `http://127.0.0.1:${this.#ports.etcdPeer}`;
  }

  get #etcdUrl(): string {
    return `http://127.0.0.1:${this.#ports.etcd}`;
  }

  /** Standard output of an etcdctl command; rejects when it fails. */
  async etcdctl(args: readonly string[]): Promise<string> {
    return (await this.#runEtcdctl(args, true)).stdout;
  }

  #runEtcdctl(args: readonly string[], mustSucceed: boolean) {
    const env = { ETCDCTL_API: '3', ETCDCTL_ENDPOINTS: this.#etcdUrl };
    return this.#settings.place.run('etcdctl', args, { env, mustSucceed });
  }

  get apiServer(): Task {
    if (this.#apiServer === undefined) throw new Error('the API server was not started');
    return this.#apiServer;
  }

  startApiServer(): void {
    const { place, binaries, clusterCidr, apiServerArgs } = this.#settings;
    const services = isDual(clusterCidr) ? '10.96.0.0/16,fd00:96::/112' : '10.96.0.0/16';
    this.#apiServer = place.spawn(binaries.apiServer, [
      ...[
        `--bind-address=${place.address}`,
        `--secure-port=${this.port}`,
        `--advertise-address=${place.address}`,
      ],
      ...[`--etcd-servers=${this.#etcdUrl}`, `--cert-dir=${place.dir}`, '--endpoint-reconciler-type=none'],
      ...[`--tls-cert-file=${this.#serving.certFile}`, `--tls-private-key-file=${this.#serving.keyFile}`],
      ...[`--client-ca-file=${this.#clientsCa.certFile}`, '--authorization-mode=RBAC'],
      ...[`--service-account-issuer=${ISSUER}`, `--service-account-key-file=${this.accountKey.publicFile}`],
      `--service-account-signing-key-file=${this.accountKey.privateFile}`,
      `--service-cluster-ip-range=${services}`,
      ...dualStackGate(clusterCidr, binaries.version),
      ...apiServerArgs,
    ]);
  }

  startControllerManager(url: string): void {
    const { place, binaries, clusterCidr } = this.#settings;
    const file = join(place.dir, 'controller-manager.kubeconfig');
    const user = { 'client-certificate': this.admin.certFile, 'client-key': this.admin.keyFile };
    writeFileSync(file, kubeconfig(url, this.caFile, user));
    const masks = isDual(clusterCidr)
      ? ['--node-cidr-mask-size-ipv4=24', '--node-cidr-mask-size-ipv6=64']
      : [`--node-cidr-mask-size=${clusterCidr.includes(':') ? 64 : 24}`];
    this.#controllerManager = place.spawn(binaries.controllerManager, [
      ...[`--kubeconfig=${file}`, '--leader-elect=false', '--port=0', '--secure-port=0'],
      '--controllers=nodeipam,serviceaccount,serviceaccount-token',
      ...['--allocate-node-cidrs', `--cluster-cidr=${clusterCidr}`, ...masks],
      `--service-account-private-key-file=${this.accountKey.privateFile}`,
      ...dualStackGate(clusterCidr, binaries.version),
    ]);
  }

  /** Throws what it wrote when it has ended. */
  checkControllerManager(): void {
    const task = this.#controllerManager;
    if (task === undefined || task.child.exitCode === null) return;
    throw new Error(`kube-controller-manager ended:\n${task.log()}`);
  }

  async stopControllerManager(): Promise<void> {
    await endTask(this.#controllerManager, 'SIGKILL');
    this.#controllerManager = undefined;
  }

  async close(): Promise<void> {
    await this.stopControllerManager();
    await endTask(this.#apiServer, 'SIGKILL');
    await endTask(this.#etcd, 'SIGKILL');
  }
}

function isDual(clusterCidr: string): boolean {
  return clusterCidr.includes(',');
}

/** Two families of a cluster were an experiment up to 1.20, and had to be asked for. */
function dualStackGate(clusterCidr: string, version: string): readonly string[] {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const isGated = major === 1 && minor < 21;
  return isDual(clusterCidr) && isGated ? ['--feature-gates=IPv6DualStack=true'] : [];
}
