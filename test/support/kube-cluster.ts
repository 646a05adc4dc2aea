// A real Kubernetes control plane for tests: Debian's etcd, and kube-apiserver and kube-controller-manager that
// kube-cluster/build.sh has built from Debian's source. No kubelet: nodes are what a test creates.
//
//   test ── admin certificate ─► kube-apiserver :port (TLS, RBAC) ─► etcd :2379
//                                   ▲
//   twill ── service account ───────┘◄── kube-controller-manager: a podCIDR for each node
//
// Where they run is a place: loopback, or a namespace of a lab (kube-cluster/place.ts). All end with close(), or with
// this process.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Task, waitFor } from './lab.js';
import {
  type Account,
  createAccount,
  FLANNEL_RULES,
  kubeconfig,
  requestToken,
  signToken,
  writeAccountFolder,
} from './kube-cluster/accounts.js';
import { type Json, KubeApi, STRATEGIC_MERGE } from './kube-cluster/api.js';
import { findKubeBinaries } from './kube-cluster/binaries.js';
import { onLoopback, type Place } from './kube-cluster/place.js';
import { type Pair, pem } from './kube-cluster/pki.js';
import { endTask, Servers } from './kube-cluster/servers.js';

export { kubeUnavailable } from './kube-cluster/binaries.js';
export { inLab, onLoopback } from './kube-cluster/place.js';
export { FLANNEL_RULES, NAMESPACE, type Account } from './kube-cluster/accounts.js';
export {
  type ApiAnswer,
  type ApiRequest,
  type Json,
  KubeApi,
  type RawEvent,
  STRATEGIC_MERGE,
} from './kube-cluster/api.js';

export interface KubeClusterOptions {
  /** @default onLoopback(); inLab(lab) is reached from the lab's hosts. */
  readonly place?: Place;
  /** Of the pods; two, with a comma, make the cluster dual-stack. @default '10.244.0.0/16' */
  readonly clusterCidr?: string;
  /** False: nobody assigns podCIDRs. startControllerManager() does so later. @default true */
  readonly hasControllerManager?: boolean;
  /** Added to the API server's command line. */
  readonly apiServerArgs?: readonly string[];
}

/** What a new node has, besides its name. */
export interface NodeOptions {
  readonly annotations?: Readonly<Record<string, string>>;
  readonly labels?: Readonly<Record<string, string>>;
  /** Given here, the controller manager assigns none. */
  readonly podCidrs?: readonly string[];
}

/**
 * A running cluster. The API server can be killed, frozen and started again on the same address and data; the admin's
 * requests reject meanwhile.
 */
export class KubeCluster {
  readonly version: string;
  readonly place: Place;
  readonly port: number;
  /** PEM file of the authority that signed the API server's certificate. It is replaced by changeAuthority(). */
  readonly caFile: string;
  readonly #servers: Servers;
  #admin: KubeApi | undefined;
  #socketPath: string | undefined;

  private constructor(version: string, place: Place, servers: Servers) {
    this.#servers = servers;
    this.version = version;
    this.place = place;
    this.port = servers.port;
    this.caFile = servers.caFile;
  }

  /** A cluster whose API server answers. The caller closes it. */
  static async start(options: KubeClusterOptions = {}): Promise<KubeCluster> {
    const { place = onLoopback(), clusterCidr = '10.244.0.0/16', apiServerArgs = [] } = options;
    const binaries = findKubeBinaries();
    if (binaries === undefined) throw new Error('no kube-apiserver was built: npm run test:kube');
    const servers = await Servers.prepare({ binaries, place, clusterCidr, apiServerArgs });
    const cluster = new KubeCluster(binaries.version, place, servers);
    try {
      cluster.#socketPath = await cluster.place.relay(cluster.port);
      await cluster.#servers.startEtcd();
      await cluster.startApiServer();
      if (options.hasControllerManager ?? true) cluster.startControllerManager();
    } catch (error) {
      await cluster.close();
      throw error;
    }
    return cluster;
  }

  /** Of the API server, as clients in the same place are told. */
  get url(): string {
    return `https://${this.place.address}:${this.port}`;
  }

  /** The raw API as cluster-admin. */
  get admin(): KubeApi {
    return (this.#admin ??= this.as({ certificate: this.#servers.admin }));
  }

  /** The raw API as somebody: by a token, a certificate, or as nobody at all. */
  as(who: { readonly token?: string; readonly certificate?: Pair }): KubeApi {
    return new KubeApi({
      address: this.place.address,
      port: this.port,
      socketPath: this.#socketPath,
      ca: pem(this.caFile),
      token: who.token,
      cert: who.certificate && pem(who.certificate.certFile),
      key: who.certificate && pem(who.certificate.keyFile),
    });
  }

  /** Files of a user's certificate that the API server takes. */
  userCertificate(user: string, groups: readonly string[] = []): Pair {
    return this.#servers.userCertificate(user, groups);
  }

  /** A service account of NAMESPACE with these permissions, by default flannel's. */
  createAccount(name: string, rules: readonly object[] = FLANNEL_RULES): Promise<Account> {
    return createAccount(this.admin, name, rules);
  }

  /** A token as a kubelet asks for it, good for an hour. */
  tokenOf(account: Account): Promise<string> {
    return requestToken(this.admin, account);
  }

  /**
   * A token that ends in `seconds`, however few. The API server remembers for 10 s whom it has let in: of one that was
   * used already it may take the end that much later.
   */
  shortTokenOf(account: Account, seconds: number): string {
    return signToken(this.#servers.accountKey, account, seconds);
  }

  /**
   * Path of a kubeconfig for an account, with a fresh token in a file `<path>.token` beside it, which a test may
   * replace.
   */
  async kubeconfigFor(account: Account): Promise<string> {
    const tokenFile = join(this.place.dir, `${account.name}.kubeconfig.token`);
    writeFileSync(tokenFile, await this.tokenOf(account), { mode: 0o600 });
    return this.writeKubeconfig(account.name, { tokenFile });
  }

  /** Path of a kubeconfig `<name>.kubeconfig`, in which `user` is as the file format has it. */
  writeKubeconfig(name: string, user: Json, caFile = this.caFile): string {
    const path = join(this.place.dir, `${name}.kubeconfig`);
    writeFileSync(path, kubeconfig(this.url, caFile, user), { mode: 0o600 });
    return path;
  }

  /** Path of a folder as a kubelet mounts it into a pod of an account: token, ca.crt, namespace. */
  async accountFolder(account: Account): Promise<string> {
    const folder = join(this.place.dir, `${account.name}.account`);
    writeAccountFolder(folder, await this.tokenOf(account), this.caFile);
    return folder;
  }

  /** A node as a kubelet registers it. */
  createNode(name: string, options: NodeOptions = {}): Promise<Json> {
    return this.admin.must('POST', '/api/v1/nodes', nodeObject(name, options));
  }

  /** Creates a node and waits for what the controller manager assigns. */
  async createNodeWithPodCidr(name: string, options: NodeOptions = {}): Promise<Json> {
    await this.createNode(name, options);
    let node = await this.node(name);
    await waitFor(
      async () => {
        this.#servers.checkControllerManager();
        node = await this.node(name);
        return (node.spec as Json).podCIDR !== undefined;
      },
      `a podCIDR of node ${name}`,
      30_000,
    );
    return node;
  }

  node(name: string): Promise<Json> {
    return this.admin.must('GET', `/api/v1/nodes/${name}`);
  }

  deleteNode(name: string): Promise<Json> {
    return this.admin.must('DELETE', `/api/v1/nodes/${name}`);
  }

  /** A strategic merge patch of the node; of its status with `subresource` "/status". */
  patchNode(name: string, patch: Json, subresource: '' | '/status' = ''): Promise<Json> {
    return this.admin.must('PATCH', `/api/v1/nodes/${name}${subresource}`, patch, STRATEGIC_MERGE);
  }

  /** Sets annotations of a node; null removes one. */
  annotateNode(name: string, annotations: Readonly<Record<string, string | null>>): Promise<Json> {
    return this.patchNode(name, { metadata: { annotations } });
  }

  /** Standard output of an etcdctl command beside etcd. */
  etcdctl(...args: readonly string[]): Promise<string> {
    return this.#servers.etcdctl(args);
  }

  /** Forgets all history of etcd: a list of an old version, and one that goes on from an old page, gets 410. */
  async compact(): Promise<void> {
    const answer = await this.etcdctl('get', '/', '--limit=1', '--write-out=json');
    const revision = /"revision":(\d+)/.exec(answer)?.[1];
    await this.etcdctl('compact', String(revision));
  }

  /** Keeps what the cluster knows now; returns the path, for restore(). */
  async backUp(): Promise<string> {
    const path = join(this.place.dir, 'backup.db');
    await this.etcdctl('snapshot', 'save', path);
    return path;
  }

  /** Puts the cluster back to a backup, with the versions of that time; the API server is started again. */
  async restore(path: string): Promise<void> {
    await this.stopApiServer();
    await this.#servers.restoreEtcd(path);
    await this.startApiServer();
  }

  /** Process of the API server, for signals of one's own. */
  get apiServer(): Task {
    return this.#servers.apiServer;
  }

  /** Starts it, after it has ended, and waits until it is ready. */
  async startApiServer(): Promise<void> {
    this.#servers.startApiServer();
    await waitFor(
      async () => {
        if (this.apiServer.child.exitCode !== null) throw new Error(`it ended:\n${this.apiServer.log()}`);
        const answer = await this.admin.ask({ method: 'GET', path: '/readyz' }).catch(() => undefined);
        return answer?.status === 200;
      },
      'kube-apiserver to be ready',
      60_000,
    );
  }

  /**
   * Ends the API server, by default by SIGKILL, and waits for the end. By SIGTERM it takes leave of its clients first,
   * which is a minute of 1.20 while one of them watches, as the controller manager does.
   */
  async stopApiServer(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    await endTask(this.apiServer, signal);
    this.#admin?.disconnect();
  }

  async restartApiServer(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    await this.stopApiServer(signal);
    await this.startApiServer();
  }

  /** Stops its process, which still holds its connections: nothing is answered, and nobody is told. */
  freezeApiServer(): void {
    this.apiServer.child.kill('SIGSTOP');
  }

  thawApiServer(): void {
    this.apiServer.child.kill('SIGCONT');
  }

  /** Another certificate of the same authority; the API server is started again for it. */
  async changeCertificate(): Promise<void> {
    this.#servers.makeServing();
    await this.restartApiServer();
  }

  /** Another authority, which `caFile` then holds, and a certificate of it; the API server is started again. */
  async changeAuthority(): Promise<void> {
    this.#servers.makeAuthority();
    this.#admin?.disconnect();
    this.#admin = undefined;
    await this.changeCertificate();
  }

  /**
   * Starts the controller manager: node IPAM, and what gives namespaces their default account. It waits for 10 s itself
   * before it assigns anything, and is at work when this returns.
   */
  startControllerManager(): void {
    this.#servers.startControllerManager(this.url);
  }

  async stopControllerManager(): Promise<void> {
    await this.#servers.stopControllerManager();
  }

  /** Ends all and removes its files. */
  async close(): Promise<void> {
    this.#admin?.disconnect();
    await this.#servers.close();
    this.place.remove();
  }
}

function nodeObject(name: string, { annotations = {}, labels = {}, podCidrs }: NodeOptions): Json {
  return {
    metadata: {
      name,
      labels: { 'kubernetes.io/hostname': name, 'kubernetes.io/os': 'linux', ...labels },
      // A kubelet's nodes always have one; without any, a flanneld panics.
      annotations: { 'node.alpha.kubernetes.io/ttl': '0', ...annotations },
    },
    spec: podCidrs === undefined ? {} : { podCIDR: podCidrs[0], podCIDRs: podCidrs },
  };
}
