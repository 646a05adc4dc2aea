// A kubeconfig: of the context that is current in it, the cluster and the user.
//
// YAML or JSON, which is YAML, too. Paths are relative to the folder of the file, as kubectl has them. What twill
// cannot do is refused, not passed over: a user that is to be impersonated, or an auth-provider, which client-go has
// dropped as well. Messages name file and field; values are shown only of fields that are no secret.

import { dirname, resolve } from 'node:path';
import { OverlayError } from '../../../core/errors.js';
import { isObject } from './api-object.js';
import type { ApiObject } from './client.js';
import { EXEC_VERSIONS, type ExecSpec, type ExecVersion } from './exec-spec.js';

/** PEM: in a file, or in the kubeconfig itself. */
export type Pem = { readonly file: string } | { readonly data: Buffer };

export interface KubeconfigCluster {
  readonly server: string;
  readonly ca: Pem | undefined;
  readonly isUnverified: boolean;
  readonly serverName: string | undefined;
  readonly proxyUrl: string | undefined;
  /** For an exec plugin that wants to know its cluster: the extension that is meant for it. */
  readonly execConfig: unknown;
}

export interface KubeconfigUser {
  readonly certificate: { readonly cert: Pem; readonly key: Pem } | undefined;
  readonly token: string | undefined;
  readonly tokenFile: string | undefined;
  readonly basic: { readonly username: string; readonly password: string } | undefined;
  readonly exec: ExecSpec | undefined;
}

export interface Kubeconfig {
  readonly cluster: KubeconfigCluster;
  readonly user: KubeconfigUser;
}

/** `path` is what the text was read from. Rejects with OverlayError E_FILE. Loads `yaml`, some 20 ms. */
export async function parseKubeconfig(text: string, path: string): Promise<Kubeconfig> {
  const root = new Fields(await parseYaml(text, path), '', path);
  const name = root.text('current-context');
  if (name === undefined) throw root.refusal('current-context', 'is missing: expected the name of a context');
  const context = root.named('contexts', name, 'context');
  const clusterName = context.text('cluster');
  if (clusterName === undefined)
    throw context.refusal('cluster', 'is missing: expected the name of a cluster');
  const cluster = readCluster(root.named('clusters', clusterName, 'cluster'));
  const userName = context.text('user');
  const user = userName === undefined ? NOBODY : readUser(root.named('users', userName, 'user'));
  return { cluster, user };
}

const NOBODY: KubeconfigUser = {
  certificate: undefined,
  token: undefined,
  tokenFile: undefined,
  basic: undefined,
  exec: undefined,
};

async function parseYaml(text: string, path: string): Promise<unknown> {
  const { LineCounter, parseAllDocuments } = await import('yaml');
  const lines = new LineCounter();
  const refuse = (where: string, problem: string): OverlayError =>
    new OverlayError('E_FILE', `Cannot use kubeconfig "${path}": ${where}${problem}`);
  const documents = parseAllDocuments(text, { lineCounter: lines, prettyErrors: false, logLevel: 'silent' });
  if (!Array.isArray(documents) || documents.length === 0) throw refuse('', 'it is empty');
  if (documents.length > 1) throw refuse('', `${documents.length} YAML documents: expected one`);
  const [error] = documents[0].errors;
  // yaml's own words quote what it met, which may be a secret.
  if (error !== undefined)
    throw refuse(`line ${lines.linePos(error.pos[0]).line}: `, `not valid YAML (${error.code})`);
  try {
    return documents[0].toJS({ maxAliasCount: 100 });
  } catch (cause) {
    throw new OverlayError('E_FILE', `Cannot use kubeconfig "${path}": YAML aliases without an end`, {
      cause,
    });
  }
}

function readCluster(fields: Fields): KubeconfigCluster {
  const server = fields.text('server');
  if (server === undefined)
    throw fields.refusal('server', 'is missing: expected such as https://10.0.0.1:6443');
  const ca = fields.pem('certificate-authority');
  const isUnverified = fields.flag('insecure-skip-tls-verify');
  if (isUnverified && ca !== undefined)
    throw fields.refusal(
      'insecure-skip-tls-verify',
      'is true beside a certificate-authority: expected one of them',
    );
  return {
    server,
    ca,
    isUnverified,
    serverName: fields.text('tls-server-name'),
    proxyUrl: fields.text('proxy-url'),
    execConfig: execConfigOf(fields),
  };
}

// Reserved for this by kubectl (client.authentication.k8s.io, Cluster.config).
const EXEC_EXTENSION = 'client.authentication.k8s.io/exec';

function execConfigOf(fields: Fields): unknown {
  const extensions = fields.list('extensions').filter(isObject);
  return extensions.find((extension) => extension['name'] === EXEC_EXTENSION)?.['extension'];
}

function readUser(fields: Fields): KubeconfigUser {
  for (const name of ['as', 'as-uid', 'as-groups', 'as-user-extra', 'auth-provider']) {
    if (fields.has(name))
      throw fields.refusal(name, 'is not supported: expected a token, a certificate or exec');
  }
  const cert = fields.pem('client-certificate');
  const key = fields.pem('client-key');
  if ((cert === undefined) !== (key === undefined)) {
    const missing = cert === undefined ? 'client-certificate' : 'client-key';
    throw fields.refusal(missing, 'is missing: expected a certificate and its key');
  }
  const token = fields.text('token');
  const tokenFile = fields.path('tokenFile');
  const username = fields.text('username');
  const basic = username === undefined ? undefined : { username, password: fields.text('password') ?? '' };
  if (basic !== undefined && (token ?? tokenFile) !== undefined)
    throw fields.refusal('username', 'is given beside a token: expected one of them');
  const exec = fields.has('exec') ? readExec(fields.inner('exec')) : undefined;
  const certificate = cert === undefined || key === undefined ? undefined : { cert, key };
  return { certificate, token, tokenFile, basic, exec };
}

function readExec(fields: Fields): ExecSpec {
  const command = fields.text('command');
  if (command === undefined) throw fields.refusal('command', 'is missing: expected a program');
  const version = fields.text('apiVersion');
  const isKnown = (text: string | undefined): text is ExecVersion =>
    EXEC_VERSIONS.some((known) => known === text);
  if (!isKnown(version))
    throw fields.refusal('apiVersion', `is ${quote(version)}: expected ${EXEC_VERSIONS.join(' or ')}`);
  const mode = fields.text('interactiveMode') ?? 'IfAvailable';
  // There is nobody to answer: IfAvailable is Never here, and Always cannot be.
  if (mode !== 'Never' && mode !== 'IfAvailable')
    throw fields.refusal('interactiveMode', `is ${quote(mode)}: expected Never or IfAvailable in a daemon`);
  return {
    version,
    // As kubectl: a bare name is searched in PATH, anything else is a path.
    command: command.includes('/') ? fields.absolute(command) : command,
    args: fields.list('args').map((item, index) => fields.textItem(item, `args[${index}]`)),
    env: fields.list('env').map((item, index) => {
      const entry = fields.innerItem(item, `env[${index}]`);
      return [entry.text('name') ?? '', entry.text('value') ?? ''] as const;
    }),
    wantsCluster: fields.flag('provideClusterInfo'),
    installHint: fields.text('installHint'),
  };
}

const quote = (value: unknown): string => (value === undefined ? 'missing' : JSON.stringify(value));

/** The fields of one object of the file, and where it stands in it. */
class Fields {
  readonly #object: ApiObject;
  readonly #where: string;
  readonly #path: string;

  constructor(value: unknown, where: string, path: string) {
    this.#where = where;
    this.#path = path;
    if (!isObject(value)) throw this.refusal('', `is ${kindOf(value)}: expected an object`);
    this.#object = value;
  }

  refusal(name: string, problem: string): OverlayError {
    const place = [this.#where, name].filter((part) => part !== '').join('.') || 'the content';
    return new OverlayError('E_FILE', `Cannot use kubeconfig "${this.#path}": ${place} ${problem}`);
  }

  has(name: string): boolean {
    const value = this.#object[name];
    return value !== undefined && value !== null && value !== '';
  }

  /** Undefined when it is missing or empty. A number that YAML made of it is text again. */
  text(name: string): string | undefined {
    return this.has(name) ? this.textItem(this.#object[name], name) : undefined;
  }

  textItem(value: unknown, name: string): string {
    if (typeof value === 'string') return value;
    if (typeof value === 'number' && Number.isSafeInteger(value)) return String(value);
    throw this.refusal(name, `is ${kindOf(value)}: expected text`);
  }

  flag(name: string): boolean {
    const value = this.#object[name] ?? false;
    if (typeof value !== 'boolean') throw this.refusal(name, `is ${kindOf(value)}: expected true or false`);
    return value;
  }

  list(name: string): readonly unknown[] {
    const value = this.#object[name] ?? [];
    if (!Array.isArray(value)) throw this.refusal(name, `is ${kindOf(value)}: expected a list`);
    return value;
  }

  inner(name: string): Fields {
    return this.innerItem(this.#object[name] ?? {}, name);
  }

  innerItem(value: unknown, name: string): Fields {
    return new Fields(value, [this.#where, name].filter((part) => part !== '').join('.'), this.#path);
  }

  /** The entry of a list that has this name: { name, [kind]: {…} }. */
  named(list: string, name: string, kind: string): Fields {
    const index = this.list(list).findIndex((item) => isObject(item) && item['name'] === name);
    if (index === -1) throw this.refusal(list, `has no entry named ${JSON.stringify(name)}`);
    return this.innerItem(this.list(list)[index], `${list}[${index}]`).inner(kind);
  }

  absolute(path: string): string {
    return resolve(dirname(this.#path), path);
  }

  path(name: string): string | undefined {
    const path = this.text(name);
    return path === undefined ? undefined : this.absolute(path);
  }

  /** The field `name`, a path, or `name`-data, which goes before it. */
  pem(name: string): Pem | undefined {
    const data = this.text(`${name}-data`);
    const file = this.path(name);
    if (data === undefined) return file === undefined ? undefined : { file };
    const bytes = Buffer.from(data, 'base64');
    if (!/^[A-Za-z0-9+/\s]+={0,2}\s*$/.test(data) || !bytes.includes('-----BEGIN '))
      throw this.refusal(`${name}-data`, 'cannot be used: expected PEM in base64');
    return { data: bytes };
  }
}

function kindOf(value: unknown): string {
  if (value === undefined) return 'missing';
  if (value === null) return 'empty';
  if (Array.isArray(value)) return 'a list';
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`;
}
