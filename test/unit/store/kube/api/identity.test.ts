// Who we are, by flags and environment: at the start, and when others renew the files.

import { chmodSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { HttpKubeClient } from '../../../../../src/store/kube/api/http-client.js';
import type { IdentityOptions } from '../../../../../src/store/kube/api/identity.js';
import { TIMING } from '../../../../../src/store/kube/api/timing.js';
import type { Environment } from '../../../../../src/store/kube/api/web-proxy.js';
import { ApiServer, type ApiServerOptions } from '../../../../support/api-server.js';
import { folderOf } from '../../../../support/folder.js';

const never = new AbortController().signal;

async function startServer(t: Test, options: ApiServerOptions = {}): Promise<ApiServer> {
  const server = await ApiServer.open(options);
  t.teardown(() => server.close());
  server.createNode('n1');
  return server;
}

async function open(
  t: Test,
  options: Partial<IdentityOptions>,
  environment: Environment = {},
): Promise<HttpKubeClient> {
  const whole = { apiUrl: '', kubeconfigFile: '', ...options };
  const client = await HttpKubeClient.open(whole, environment, { ...TIMING, callMs: 3000 });
  t.teardown(() => client.close());
  return client;
}

const ask = (client: HttpKubeClient): Promise<unknown> => client.get('/api/v1/nodes/n1', never);

/** What it says of a failed request, or "" when it did not fail. */
const problemOf = (call: Promise<unknown>): Promise<string> =>
  call.then(
    () => '',
    (error: unknown) => (error as Error).message,
  );

interface Files {
  readonly cluster?: object;
  readonly user?: object;
}

/** Writes `name` into `dir`, in one step. */
function writeConfig(
  dir: string,
  url: string,
  { cluster = {}, user = {} }: Files,
  name = 'kubeconfig',
): string {
  const path = join(dir, name);
  writeFileSync(
    `${path}.new`,
    JSON.stringify({
      'current-context': 'c',
      contexts: [{ name: 'c', context: { cluster: 'x', user: 'u' } }],
      clusters: [{ name: 'x', cluster: { server: url, ...cluster } }],
      users: [{ name: 'u', user }],
    }),
  );
  renameSync(`${path}.new`, path);
  return path;
}

for (const address of ['127.0.0.1', '::1']) {
  t.test(`in a pod the service account is used, with the API server at ${address}`, async (t) => {
    const server = await startServer(t, { address });
    const folder = folderOf(t, { 'ca.crt': server.authority.cert, token: server.tokens.flannel });
    const pod = { KUBERNETES_SERVICE_HOST: address, KUBERNETES_SERVICE_PORT: `${server.port}` };
    const client = await open(t, { serviceAccountFolder: folder }, pod);
    t.equal(client.server, server.url);
    t.equal(await client.isListening(), true);
    await ask(client);
    t.equal(server.requests.list()[0].user, 'system:serviceaccount:kube-flannel:flannel');
    // As a projected volume is renewed: a link to another folder is swapped.
    server.access.revokeToken(server.tokens.flannel);
    const token = server.access.issueToken('system:serviceaccount:kube-flannel:flannel');
    renameSync(join(folder, 'token'), join(folder, 'token-1'));
    writeFileSync(join(folder, 'token-2'), token);
    symlinkSync('token-2', join(folder, 'token'));
    await ask(client);
  });
}

t.test('without flags outside a pod both ways out are named', async (t) => {
  for (const environment of [
    {},
    { KUBERNETES_SERVICE_HOST: '10.96.0.1' },
    { KUBERNETES_SERVICE_PORT: '443' },
  ])
    await t.rejects(open(t, {}, environment), {
      code: 'E_USAGE',
      message: /this is no pod: expected --kubeconfig-file or --kube-api-url, or to run in a pod$/,
    });
});

t.test('files that are missing or malformed are told at the start', async (t) => {
  const server = await startServer(t);
  const client = server.authority.issue({ commonName: 'x' });
  const other = server.authority.issue({ commonName: 'y' });
  const dir = folderOf(t, {
    'ca.crt': server.authority.cert,
    'x.crt': client.cert,
    'x.key': client.key,
    'y.key': other.key,
    rubbish: 'secret',
    token: '',
    binary: 'a\tb',
    folder: {},
  });
  const at = (name: string): string => join(dir, name);
  const pod = { KUBERNETES_SERVICE_HOST: '127.0.0.1', KUBERNETES_SERVICE_PORT: '1' };
  const pair = (cert: string, key: string): Files => ({
    user: { 'client-certificate': cert, 'client-key': key },
  });
  const cases: [options: Partial<IdentityOptions>, code: string, message: string][] = [
    [{ kubeconfigFile: at('none') }, 'E_FILE', `Cannot read kubeconfig "${at('none')}": ENOENT`],
    [{ kubeconfigFile: at('folder') }, 'E_FILE', `Cannot read kubeconfig "${at('folder')}": EISDIR`],
    [{ apiUrl: 'ftp://x' }, 'E_USAGE', 'Cannot use --kube-api-url "ftp://x": expected'],
    [
      { serviceAccountFolder: at('folder') },
      'E_FILE',
      `Cannot read certificate authority "${at('folder')}/ca.crt"`,
    ],
    [{ serviceAccountFolder: dir }, 'E_FILE', `Cannot use token file "${at('token')}": it is empty`],
  ];
  const configs: [files: Files, message: string][] = [
    [
      { cluster: { 'certificate-authority': 'none' } },
      `Cannot read certificate authority "${at('none')}": ENOENT`,
    ],
    [
      { cluster: { 'certificate-authority': 'rubbish' } },
      `Cannot use certificate authority "${at('rubbish')}": it is not valid PEM`,
    ],
    [{ user: { tokenFile: 'none' } }, `Cannot read token file "${at('none')}": ENOENT`],
    [{ user: { tokenFile: 'binary' } }, `Cannot use token file "${at('binary')}": expected letters`],
    [pair('rubbish', 'x.key'), `Cannot use client certificate "${at('rubbish')}": it is not valid PEM`],
    [pair('x.crt', 'rubbish'), `Cannot use client key "${at('rubbish')}": it is not valid PEM`],
    [pair('x.crt', 'y.key'), `Cannot use client key "${at('y.key')}": it is not that of the certificate`],
    [{ cluster: { server: 'https://u:secret@x' } }, 'Cannot use server of kubeconfig'],
    [{ cluster: { 'proxy-url': 'socks5://secret' } }, 'Cannot use the proxy of proxy-url of kubeconfig'],
  ];
  for (const [index, [files, message]] of configs.entries())
    cases.push([
      { kubeconfigFile: writeConfig(dir, server.url, files, `config${index}`) },
      'E_FILE',
      message,
    ]);
  for (const [options, code, message] of cases) {
    const error: unknown = await open(t, options, pod).catch((caught: unknown) => caught);
    t.match(error, { code });
    t.equal((error as Error).message.slice(0, message.length), message);
    t.notMatch((error as Error).message, /secret/);
  }
});

t.test(
  '--kube-api-url alone: nobody, and the CAs of the system; with a kubeconfig another server',
  async (t) => {
    const server = await startServer(t);
    const dir = folderOf(t, { 'ca.crt': server.authority.cert });
    const pod = { KUBERNETES_SERVICE_HOST: '10.96.0.1', KUBERNETES_SERVICE_PORT: '443' };
    const strange = await open(t, { apiUrl: server.url }, pod);
    t.match(await problemOf(ask(strange)), /certificate|CERT/);
    const known = await open(t, { apiUrl: `${server.url}/` }, { ...pod, SSL_CERT_FILE: join(dir, 'ca.crt') });
    t.match(await problemOf(ask(known)), /403 Forbidden: .*User "system:anonymous" cannot get/);
    const files = { cluster: { 'certificate-authority': 'ca.crt' }, user: { token: server.tokens.admin } };
    const kubeconfigFile = writeConfig(dir, 'https://127.0.0.1:1', files);
    const client = await open(t, { apiUrl: server.url, kubeconfigFile });
    t.equal(client.server, server.url);
    await ask(client);
    const bare = await open(t, { apiUrl: server.url.replace('https://', ''), kubeconfigFile });
    t.equal(bare.server, server.url, 'with a CA a URL without scheme is https');
    const http = await startServer(t, { scheme: 'http' });
    const plain = await open(t, { apiUrl: http.url.replace('http://', '') });
    t.match(await problemOf(ask(plain)), /403 Forbidden/);
  },
);

t.test('a kubeconfig: client certificates, tokens, passwords, TLS options', async (t) => {
  const server = await startServer(t, { names: ['DNS:api.example'] });
  const pair = server.authority.issue({ commonName: 'kubernetes-admin' });
  const dir = folderOf(t, { 'ca.crt': server.authority.cert, 'x.crt': pair.cert, 'x.key': pair.key });
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  const ca = { 'certificate-authority': 'ca.crt' };
  const inline = { 'certificate-authority-data': base64(server.authority.cert) };
  const data = { 'client-certificate-data': base64(pair.cert), 'client-key-data': base64(pair.key) };
  const { admin } = server.tokens;
  const cases: [name: string, files: Files, problem: RegExp][] = [
    ['token', { cluster: ca, user: { token: admin } }, /^$/],
    ['inline CA', { cluster: inline, user: { token: admin } }, /^$/],
    ['certificate', { cluster: ca, user: { 'client-certificate': 'x.crt', 'client-key': 'x.key' } }, /^$/],
    ['inline certificate', { cluster: ca, user: data }, /^$/],
    ['password', { cluster: ca, user: { username: 'u', password: 'p' } }, /401 Unauthorized/],
    ['nobody', { cluster: ca }, /403 Forbidden.*anonymous/],
    ['a bad token', { cluster: ca, user: { token: 'x' } }, /401 Unauthorized/],
    ['a name', { cluster: { ...ca, 'tls-server-name': 'api.example' }, user: { token: admin } }, /^$/],
    [
      'another name',
      { cluster: { ...ca, 'tls-server-name': 'other' } },
      /altnames.*\(ERR_TLS_CERT_ALTNAME_INVALID\)/,
    ],
    ['no check', { cluster: { 'insecure-skip-tls-verify': true }, user: { token: admin } }, /^$/],
    ['no CA', { user: { token: admin } }, /\(UNABLE_TO_VERIFY_LEAF_SIGNATURE\)|\(SELF_SIGNED/],
  ];
  for (const [name, files, problem] of cases) {
    const client = await open(t, { kubeconfigFile: writeConfig(dir, server.url, files) });
    t.match(await problemOf(ask(client)), problem, name);
    client.close();
  }
  const basic = server.requests.list().find(({ headers }) => headers.authorization?.startsWith('Basic'));
  t.equal(basic?.headers.authorization, `Basic ${base64('u:p')}`);
});

t.test('a client certificate that is renewed makes a new connection, and a watch goes on', async (t) => {
  const server = await startServer(t);
  const issue = (commonName: string): void => {
    const pair = server.authority.issue({ commonName });
    writeFileSync(join(dir, 'x.crt'), pair.cert);
    writeFileSync(join(dir, 'x.key'), pair.key);
  };
  const dir = folderOf(t, { 'ca.crt': server.authority.cert });
  issue('kubernetes-admin');
  const user = { 'client-certificate': 'x.crt', 'client-key': 'x.key' };
  const files = { cluster: { 'certificate-authority': 'ca.crt' }, user };
  const client = await open(t, { kubeconfigFile: writeConfig(dir, server.url, files) });
  await ask(client);
  let isOpen: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => (isOpen = resolve));
  const listener = { onOpen: () => isOpen(), onEvent: () => undefined };
  const watch = client.watch('/api/v1/nodes', { resourceVersion: '0' }, listener, never);
  await opened;
  await ask(client);
  t.equal(server.connections, 1);
  issue('nobody');
  t.match(await problemOf(ask(client)), /403 Forbidden: .*User "nobody"/);
  t.equal(server.connections, 2);
  writeFileSync(join(dir, 'x.crt'), 'rubbish');
  t.match(await problemOf(ask(client)), /403 Forbidden/, 'half of a pair leaves the one before');
  server.endWatches('end');
  await watch;
});

t.test('a kubeconfig that is rewritten counts from the next request on', async (t) => {
  const [first, second] = [await startServer(t), await startServer(t)];
  const dir = folderOf(t, { one: first.authority.cert, two: second.authority.cert });
  const files = (server: ApiServer, ca: string): Files => ({
    cluster: { 'certificate-authority': ca },
    user: { token: server.tokens.admin },
  });
  const client = await open(t, { kubeconfigFile: writeConfig(dir, first.url, files(first, 'one')) });
  await ask(client);
  writeFileSync(join(dir, 'kubeconfig'), 'rubbish');
  await ask(client);
  t.equal(first.requests.list('get').length, 2);
  writeConfig(dir, second.url, files(second, 'two'));
  await Promise.all([ask(client), ask(client)]);
  t.equal(client.server, second.url);
  t.equal(second.connections, 1);
});

t.test('an exec plugin is told the cluster, and run again after a 401', async (t) => {
  const server = await startServer(t);
  const answer = (status: object): string =>
    JSON.stringify({ kind: 'ExecCredential', apiVersion: 'client.authentication.k8s.io/v1', status });
  const dir = folderOf(t, {
    'ca.crt': server.authority.cert,
    plugin: '#!/bin/sh\ncd "$(dirname "$0")"; printf %s "$KUBERNETES_EXEC_INFO" > info; cat answer\n',
    answer: answer({ token: server.tokens.admin }),
  });
  chmodSync(join(dir, 'plugin'), 0o755);
  const exec = {
    apiVersion: 'client.authentication.k8s.io/v1',
    command: './plugin',
    provideClusterInfo: true,
  };
  const cluster = { 'certificate-authority': 'ca.crt', 'tls-server-name': 'kubernetes' };
  const kubeconfigFile = writeConfig(dir, server.url, { cluster, user: { exec } });
  const client = await open(t, { kubeconfigFile }, process.env);
  await ask(client);
  const info: unknown = JSON.parse(readFileSync(join(dir, 'info'), 'utf8'));
  t.match(info, {
    spec: {
      interactive: false,
      cluster: {
        server: server.url,
        'tls-server-name': 'kubernetes',
        'certificate-authority-data': Buffer.from(server.authority.cert).toString('base64'),
      },
    },
  });
  server.access.revokeToken(server.tokens.admin);
  const pair = server.authority.issue({ commonName: 'kubernetes-admin' });
  writeFileSync(join(dir, 'answer'), answer({ clientCertificateData: pair.cert, clientKeyData: pair.key }));
  await ask(client);
  t.equal(server.connections, 2, 'a certificate makes a new connection');
  writeFileSync(join(dir, 'answer'), answer({ clientCertificateData: 'x', clientKeyData: 'y' }));
  const other = await open(t, { kubeconfigFile }, process.env);
  t.match(
    await problemOf(ask(other)),
    /^cannot get nodes at https.*: CA, client certificate or its key cannot be/,
  );

  writeFileSync(join(dir, 'plugin.new'), '#!/bin/sh\nsleep 60\n', { mode: 0o755 });
  renameSync(join(dir, 'plugin.new'), join(dir, 'plugin'));
  const slow = await HttpKubeClient.open({ apiUrl: '', kubeconfigFile }, process.env, {
    ...TIMING,
    callMs: 200,
  });
  t.match(await problemOf(ask(slow)), /: no credentials in time: the exec plugin has not ended$/);
  const late = ask(slow);
  slow.close();
  t.match(await problemOf(late), /: the client was closed$/);
});
