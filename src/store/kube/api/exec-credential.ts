// Credentials from an exec plugin (client.authentication.k8s.io v1 and v1beta1): a program that a kubeconfig names is
// told about the cluster in KUBERNETES_EXEC_INFO and prints an ExecCredential.
//
// It has no standard input and nobody to ask. It runs in a process group of its own, which is killed when it takes too
// long: a plugin is often a script, and the program that hangs is its child.

import { type ChildProcess, spawn } from 'node:child_process';
import { messageOf } from '../../../core/errors.js';
import { isObject, textOf } from './api-object.js';
import { ByteBuffer } from './byte-buffer.js';
import type { ApiObject } from './client.js';
import type { ClientCertificate } from './dial.js';
import type { ExecSpec } from './exec-spec.js';
import { oneLine, WayFault } from './faults.js';
import type { Environment } from './web-proxy.js';

const MAX_OUTPUT_BYTES = 1 << 20;
const MAX_SAID_BYTES = 4 << 10;

export interface ExecCredential {
  readonly token: string | undefined;
  readonly certificate: ClientCertificate | undefined;
  /** Of the wall clock; undefined: until the server refuses it. */
  readonly expiresAtMs: number | undefined;
}

export interface ExecRun {
  readonly spec: ExecSpec;
  /** ExecCredential.spec.cluster, if the plugin wants it; may reject with OverlayError E_FILE. */
  readonly cluster: (() => Promise<ApiObject>) | undefined;
  readonly environment: Environment;
  readonly timeoutMs: number;
}

/**
 * Runs the plugin once; it is killed when `signal` aborts. Rejects with WayFault "credentials", which shows the end of
 * what it said to its standard error, but no output.
 */
export async function runExecPlugin(run: ExecRun, signal: AbortSignal): Promise<ExecCredential> {
  const { spec } = run;
  const refuse = (problem: string, cause?: unknown): WayFault =>
    new WayFault('credentials', `exec plugin "${spec.command}" ${oneLine(problem)}`, { cause });
  try {
    return parseCredential(await outputOf(run, await run.cluster?.(), signal), spec);
  } catch (error) {
    const hint = spec.installHint === undefined || !isMissing(error) ? '' : `: ${spec.installHint}`;
    throw refuse(`${messageOf(error)}${hint}`, error);
  }
}

const isMissing = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ENOENT';

function outputOf(
  { spec, environment, timeoutMs }: ExecRun,
  cluster: ApiObject | undefined,
  signal: AbortSignal,
): Promise<string> {
  const info = {
    kind: 'ExecCredential',
    apiVersion: spec.version,
    spec: { ...(cluster === undefined ? {} : { cluster }), interactive: false },
  };
  const env = { ...environment, ...Object.fromEntries(spec.env), KUBERNETES_EXEC_INFO: JSON.stringify(info) };
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(new Error('is not run any more'));
    const child = spawn(spec.command, spec.args, { env, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    const output = new ByteBuffer(MAX_OUTPUT_BYTES, 'its output');
    let said = '';
    const onAbort = (): void => fail(new Error('was ended'));
    const release = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
    };
    const fail = (error: Error): void => {
      release();
      kill(child);
      reject(error);
    };
    const timer = setTimeout(() => fail(new Error(`did not end within ${timeoutMs} ms`)), timeoutMs);
    signal.addEventListener('abort', onAbort, { once: true });
    child.once('error', fail);
    child.stdout.on('data', (chunk: Buffer) => {
      try {
        output.push(chunk);
      } catch (error) {
        fail(error as Error);
      }
    });
    child.stderr.on('data', (chunk: Buffer) => (said = (said + chunk.toString()).slice(-MAX_SAID_BYTES)));
    child.once('close', (code, killedBy) => {
      release();
      if (code === 0) resolve(output.toString());
      else reject(new Error(`ended with ${killedBy ?? code}: ${oneLine(said) || 'it said nothing'}`));
    });
  });
}

function kill(child: ChildProcess): void {
  child.stdout?.destroy();
  child.stderr?.destroy();
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch {
    // it has ended
  }
}

function parseCredential(text: string, { version }: ExecSpec): ExecCredential {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Error('printed no JSON');
  }
  if (!isObject(value) || value['kind'] !== 'ExecCredential' || value['apiVersion'] !== version)
    throw new Error(`printed something else than an ExecCredential of ${version}`);
  const status = isObject(value['status']) ? value['status'] : {};
  const cert = textOf(status, 'clientCertificateData');
  const key = textOf(status, 'clientKeyData');
  const token = textOf(status, 'token');
  if ((cert === '') !== (key === '')) throw new Error('printed a certificate without a key, or a key alone');
  if (token === '' && cert === '') throw new Error('printed neither a token nor a certificate');
  const expiry = textOf(status, 'expirationTimestamp');
  const expiresAtMs = expiry === '' ? undefined : Date.parse(expiry);
  if (Number.isNaN(expiresAtMs)) throw new Error('printed an expirationTimestamp that is no RFC 3339 time');
  const certificate = cert === '' ? undefined : { cert: Buffer.from(cert), key: Buffer.from(key) };
  return { token: token || undefined, certificate, expiresAtMs };
}
