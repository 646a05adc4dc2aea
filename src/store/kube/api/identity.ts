// Which API server, and who we are there: from --kube-api-url, --kubeconfig-file, or the pod we run in.
//
// | --kube-api-url | --kubeconfig-file | server | credentials and CA |
// | --- | --- | --- | --- |
// | – | – | the pod's service account | the pod's service account |
// | given | – | that URL | none, and the CAs of the system |
// | – | given | the current context's | the current context's |
// | given | given | that URL | the current context's |
//
// As flannel has it; the KUBECONFIG variable is not read. A kubeconfig that is rewritten is read anew before the next
// request.

import { OverlayError } from '../../../core/errors.js';
import type { ApiObject } from './client.js';
import { ANONYMOUS, type Credentials, ExecCredentials, FileCredentials } from './credentials.js';
import type { Trust } from './dial.js';
import { type Kubeconfig, parseKubeconfig } from './kubeconfig.js';
import { joinHostPort, parseServer, type ServerAddress } from './server-address.js';
import { FileValue, readSmallFile } from './small-file.js';
import type { Timing } from './timing.js';
import type { Way } from './transport.js';
import { trustReader, type TrustOptions } from './trust.js';
import { type Environment, parseProxy, proxyOfEnvironment, type WebProxy } from './web-proxy.js';

/** Where Kubernetes puts the files of a pod's service account. */
export const SERVICE_ACCOUNT_FOLDER = '/var/run/secrets/kubernetes.io/serviceaccount';

export interface IdentityOptions {
  /** --kube-api-url; "" when not given. */
  readonly apiUrl: string;
  /** --kubeconfig-file; "" when not given. */
  readonly kubeconfigFile: string;
  /** @default SERVICE_ACCOUNT_FOLDER */
  readonly serviceAccountFolder?: string;
}

export interface Identity {
  readonly way: Way;
  readonly credentials: Credentials;
}

/** Tells the identity for the next request; another object than before when it is another one. */
export type IdentitySource = () => Promise<Identity>;

/**
 * Finds out who we are, and checks all that can be checked without asking anybody. Rejects with OverlayError E_USAGE
 * for flags and variables, E_FILE for files. Later changes of a kubeconfig that cannot be used leave the former one in
 * use.
 */
export async function openIdentity(
  options: IdentityOptions,
  environment: Environment,
  timing: Timing,
): Promise<IdentitySource> {
  const source = findIdentity(options, environment, timing);
  const { way, credentials } = await source();
  if (way.server.isTls) await way.readTrust();
  await credentials.check();
  return source;
}

function findIdentity(options: IdentityOptions, environment: Environment, timing: Timing): IdentitySource {
  const { apiUrl, kubeconfigFile, serviceAccountFolder = SERVICE_ACCOUNT_FOLDER } = options;
  if (kubeconfigFile !== '') {
    const value = new FileValue([kubeconfigFile], async () => {
      const text = (await readSmallFile(kubeconfigFile, 'kubeconfig')).toString();
      const config = await parseKubeconfig(text, kubeconfigFile);
      return identityOf(config, { apiUrl, kubeconfigFile }, environment, timing);
    });
    return () => value.get();
  }
  if (apiUrl === '') return constant(identityOfPod(serviceAccountFolder, environment));
  const server = parseServer(apiUrl, FLAG, 'http');
  const trust = { ca: undefined, isUnverified: false, serverName: undefined };
  return constant({
    way: wayTo(server, proxyOfEnvironment(server, environment), trust, environment),
    credentials: ANONYMOUS,
  });
}

const FLAG = { name: '--kube-api-url', code: 'E_USAGE' } as const;

function constant(identity: Identity): IdentitySource {
  return () => Promise.resolve(identity);
}

function identityOfPod(folder: string, environment: Environment): Identity {
  const host = environment['KUBERNETES_SERVICE_HOST'] ?? '';
  const port = environment['KUBERNETES_SERVICE_PORT'] ?? '';
  if (host === '' || port === '') {
    throw new OverlayError(
      'E_USAGE',
      'Cannot find the Kubernetes API server: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set, ' +
        'so this is no pod: expected --kubeconfig-file or --kube-api-url, or to run in a pod',
    );
  }
  const name = 'KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT';
  const server = parseServer(`https://${joinHostPort(host, port)}`, { name, code: 'E_USAGE' }, 'https');
  const trust = { ca: { file: `${folder}/ca.crt` }, isUnverified: false, serverName: undefined };
  const none = { certificate: undefined, token: undefined, basic: undefined };
  return {
    way: wayTo(server, proxyOfEnvironment(server, environment), trust, environment),
    credentials: new FileCredentials({ ...none, tokenFile: `${folder}/token` }),
  };
}

function identityOf(
  { cluster, user }: Kubeconfig,
  { apiUrl, kubeconfigFile }: IdentityOptions,
  environment: Environment,
  timing: Timing,
): Identity {
  const nameOf = (field: string): string => `${field} of kubeconfig "${kubeconfigFile}"`;
  const hasTls = cluster.ca !== undefined || cluster.isUnverified || user.certificate !== undefined;
  const scheme = hasTls ? 'https' : 'http';
  const server =
    apiUrl === ''
      ? parseServer(cluster.server, { name: nameOf('server'), code: 'E_FILE' }, scheme)
      : parseServer(apiUrl, FLAG, scheme);
  const proxy =
    cluster.proxyUrl === undefined
      ? proxyOfEnvironment(server, environment)
      : parseProxy(cluster.proxyUrl, { name: nameOf('proxy-url'), code: 'E_FILE' });
  const way = wayTo(server, proxy, cluster, environment);
  const { exec, certificate, token, tokenFile, basic } = user;
  // As kubectl: what a user has without running anything goes first.
  const hasOwn = (certificate ?? token ?? tokenFile ?? basic) !== undefined;
  if (exec === undefined || hasOwn) return { way, credentials: new FileCredentials(user) };
  const told = exec.wantsCluster ? () => clusterInfo({ cluster, user }, way) : undefined;
  const run = { spec: exec, cluster: told, environment, timeoutMs: timing.execMs };
  return { way, credentials: new ExecCredentials(run) };
}

/** What an exec plugin is told of the cluster (client.authentication.k8s.io, Cluster). */
async function clusterInfo({ cluster }: Kubeconfig, { server, readTrust }: Way): Promise<ApiObject> {
  const { serverName, isUnverified, proxyUrl, execConfig } = cluster;
  const ca = cluster.ca === undefined ? undefined : (await readTrust()).ca;
  return {
    server: server.url,
    ...(serverName === undefined ? {} : { 'tls-server-name': serverName }),
    ...(isUnverified ? { 'insecure-skip-tls-verify': true } : {}),
    ...(ca === undefined ? {} : { 'certificate-authority-data': ca.toString('base64') }),
    ...(proxyUrl === undefined ? {} : { 'proxy-url': proxyUrl }),
    ...(execConfig === undefined ? {} : { config: execConfig }),
  };
}

function wayTo(
  server: ServerAddress,
  proxy: WebProxy | undefined,
  trust: TrustOptions,
  environment: Environment,
): Way {
  // The variable by which Go's client is kept from HTTP/2, for load balancers that break it.
  const mayUseHttp2 = (environment['DISABLE_HTTP2'] ?? '') === '';
  const readOwn = trustReader(trust, environment);
  if (proxy?.isTls !== true) return { server, proxy, mayUseHttp2, readTrust: readOwn };
  const readSystem = trustReader({ ca: undefined, isUnverified: false, serverName: undefined }, environment);
  const readTrust = async (): Promise<Trust> => ({ ...(await readOwn()), proxyCa: (await readSystem()).ca });
  return { server, proxy, mayUseHttp2, readTrust };
}
