// Service accounts: the key that their tokens are signed with, flannel's permissions, kubeconfig files.

import { createPrivateKey, createPublicKey, generateKeyPairSync, sign } from 'node:crypto';
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Json, KubeApi } from './api.js';

export const ISSUER = 'https://kubernetes.default.svc';

/** Where flannel's manifest puts its account. */
export const NAMESPACE = 'kube-flannel';

/** What the ClusterRole of flannel's manifest allows. */
export const FLANNEL_RULES = [
  { apiGroups: [''], resources: ['pods'], verbs: ['get'] },
  { apiGroups: [''], resources: ['nodes'], verbs: ['get', 'list', 'watch'] },
  { apiGroups: [''], resources: ['nodes/status'], verbs: ['patch'] },
] as const;

export interface KeyFiles {
  readonly privateFile: string;
  readonly publicFile: string;
}

/** Makes the key pair of service accounts: P-256, SEC1 and SPKI, as the servers read them. */
export function makeAccountKey(dir: string): KeyFiles {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const files = { privateFile: join(dir, 'accounts.key'), publicFile: join(dir, 'accounts.pub') };
  writeFileSync(files.privateFile, privateKey.export({ type: 'sec1', format: 'pem' }));
  writeFileSync(files.publicFile, createPublicKey(privateKey).export({ type: 'spki', format: 'pem' }));
  return files;
}

/** A service account of NAMESPACE. */
export interface Account {
  readonly name: string;
  readonly uid: string;
}

/** Makes an account and, unless `rules` is empty, a ClusterRole and binding of its name. */
export async function createAccount(
  admin: KubeApi,
  name: string,
  rules: readonly object[],
): Promise<Account> {
  const metadata = { name };
  await admin.ask({ method: 'POST', path: '/api/v1/namespaces', body: { metadata: { name: NAMESPACE } } });
  const made = await admin.must('POST', `/api/v1/namespaces/${NAMESPACE}/serviceaccounts`, { metadata });
  if (rules.length > 0) {
    const rbac = '/apis/rbac.authorization.k8s.io/v1';
    await admin.must('POST', `${rbac}/clusterroles`, { metadata, rules });
    await admin.must('POST', `${rbac}/clusterrolebindings`, {
      metadata,
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name },
      subjects: [{ kind: 'ServiceAccount', name, namespace: NAMESPACE }],
    });
  }
  return { name, uid: String((made.metadata as Json).uid) };
}

/** A token by the TokenRequest API, as a kubelet asks for it; the server takes no less than 600 s. */
export async function requestToken(admin: KubeApi, account: Account, seconds = 3600): Promise<string> {
  const path = `/api/v1/namespaces/${NAMESPACE}/serviceaccounts/${account.name}/token`;
  const { status } = await admin.must('POST', path, { spec: { expirationSeconds: seconds } });
  return String((status as Json).token);
}

/**
 * A token that ends in `seconds`, signed here: the API server forgives a minute, so the end written in one for 5 s is
 * 55 s ago.
 */
export function signToken(key: KeyFiles, account: Account, seconds: number): string {
  const nowSeconds = Math.floor(Date.now() / 1000);
  const claims = {
    iss: ISSUER,
    aud: [ISSUER],
    sub: `system:serviceaccount:${NAMESPACE}:${account.name}`,
    iat: nowSeconds - 3600,
    nbf: nowSeconds - 3600,
    exp: nowSeconds + seconds - 60,
    'kubernetes.io': { namespace: NAMESPACE, serviceaccount: account },
  };
  const words = [{ alg: 'ES256', typ: 'JWT' }, claims].map((part) => base64(JSON.stringify(part)));
  const privateKey = createPrivateKey(readFileSync(key.privateFile));
  const signed = sign('sha256', Buffer.from(words.join('.')), {
    key: privateKey,
    dsaEncoding: 'ieee-p1363',
  });
  return [...words, signed.toString('base64url')].join('.');
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64url');
}

/** Fills a folder as a kubelet mounts it into a pod: token, ca.crt, namespace. */
export function writeAccountFolder(folder: string, token: string, caFile: string): void {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'token'), token, { mode: 0o600 });
  copyFileSync(caFile, join(folder, 'ca.crt'));
  writeFileSync(join(folder, 'namespace'), NAMESPACE);
}

/** Text of a kubeconfig with one cluster, user and context. `user` is as in the file format. */
export function kubeconfig(server: string, caFile: string, user: Json): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'test', cluster: { server, 'certificate-authority': caFile } }],
    users: [{ name: 'test', user }],
    contexts: [{ name: 'test', context: { cluster: 'test', user: 'test' } }],
    'current-context': 'test',
  });
}
