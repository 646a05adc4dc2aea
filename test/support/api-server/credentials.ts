// What clients are given: kubeconfig files, and a folder as a pod finds it at
// /var/run/secrets/kubernetes.io/serviceaccount.

import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Kubeconfig {
  readonly url: string;
  /** PEM; undefined: plain HTTP, or the system's. */
  readonly ca: string | undefined;
  readonly token: string;
}

/** As `kubectl config` writes it. */
export function formatKubeconfig({ url, ca, token }: Kubeconfig): string {
  const authority =
    ca === undefined ? [] : [`    certificate-authority-data: ${Buffer.from(ca).toString('base64')}`];
  return [
    'apiVersion: v1',
    'kind: Config',
    'clusters:',
    '- cluster:',
    ...authority,
    `    server: ${url}`,
    '  name: stand-in',
    'contexts:',
    '- context:',
    '    cluster: stand-in',
    '    user: user',
    '  name: stand-in',
    'current-context: stand-in',
    'preferences: {}',
    'users:',
    '- name: user',
    '  user:',
    `    token: ${token}`,
    '',
  ].join('\n');
}

/** Writes the files of `<dir>/serviceaccount`, and `<dir>/<user>.kubeconfig` of each user. */
export function writeCredentials(
  dir: string,
  url: string,
  ca: string | undefined,
  tokens: Readonly<Record<string, string>>,
): void {
  const account = join(dir, 'serviceaccount');
  mkdirSync(account, { recursive: true });
  replaceFile(join(account, 'token'), tokens.flannel);
  replaceFile(join(account, 'namespace'), 'kube-flannel');
  replaceFile(join(account, 'ca.crt'), ca ?? '');
  for (const [user, token] of Object.entries(tokens)) {
    replaceFile(join(dir, `${user}.kubeconfig`), formatKubeconfig({ url, ca, token }));
    replaceFile(join(dir, `${user}.token`), token);
  }
}

/** No reader sees half of it. */
function replaceFile(path: string, text: string): void {
  writeFileSync(`${path}.new`, text, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}
