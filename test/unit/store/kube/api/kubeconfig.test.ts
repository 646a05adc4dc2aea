import t from 'tap';
import { type Kubeconfig, parseKubeconfig } from '../../../../../src/store/kube/api/kubeconfig.js';

const PATH = '/etc/kube/config';
const PEM = '-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n';
const DATA = Buffer.from(PEM).toString('base64');

const parse = (text: string): Promise<Kubeconfig> => parseKubeconfig(text, PATH);

/** A kubeconfig with one of each, and these fields. */
function config(cluster: object, user: object, rest: object = {}): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'here',
    contexts: [
      { name: 'there', context: { cluster: 'other', user: 'other' } },
      { name: 'here', context: { cluster: 'mine', user: 'me', namespace: 'x' } },
    ],
    clusters: [{ name: 'other' }, { name: 'mine', cluster: { server: 'https://10.0.0.1:6443', ...cluster } }],
    users: [{ name: 'me', user }],
    ...rest,
  });
}

t.test('parseKubeconfig() reads what kubeadm writes', async (t) => {
  const text = `
apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: ${DATA}
    server: https://172.20.0.10:6443
  name: kubernetes
contexts:
- context: {cluster: kubernetes, user: system:node:n1}
  name: system:node:n1@kubernetes
current-context: system:node:n1@kubernetes
kind: Config
preferences: {}
users:
- name: system:node:n1
  user:
    client-certificate: /var/lib/kubelet/pki/kubelet-client-current.pem
    client-key: pki/kubelet-client-current.pem
`;
  t.strictSame(await parse(text), {
    cluster: {
      server: 'https://172.20.0.10:6443',
      ca: { data: Buffer.from(PEM) },
      isUnverified: false,
      serverName: undefined,
      proxyUrl: undefined,
      execConfig: undefined,
    },
    user: {
      certificate: {
        cert: { file: '/var/lib/kubelet/pki/kubelet-client-current.pem' },
        key: { file: '/etc/kube/pki/kubelet-client-current.pem' },
      },
      token: undefined,
      tokenFile: undefined,
      basic: undefined,
      exec: undefined,
    },
  });
});

t.test('parseKubeconfig() takes the current context, JSON, and paths relative to the file', async (t) => {
  const cluster = {
    'certificate-authority': '../ca.crt',
    'tls-server-name': 'kubernetes',
    'proxy-url': 'http://proxy:3128',
    extensions: [{ name: 'client.authentication.k8s.io/exec', extension: { audience: 'x' } }, null],
  };
  const { cluster: found, user } = await parse(config(cluster, { tokenFile: 'token' }));
  t.match(found, { ca: { file: '/etc/ca.crt' }, serverName: 'kubernetes', proxyUrl: 'http://proxy:3128' });
  t.same(found.execConfig, { audience: 'x' });
  t.equal(user.tokenFile, '/etc/kube/token');
  const both = { 'certificate-authority-data': DATA, 'certificate-authority': 'ignored' };
  t.same((await parse(config(both, { token: 7 }))).cluster.ca, { data: Buffer.from(PEM) });
  t.match((await parse(config({}, { token: 1234 }))).user, { token: '1234' });
  t.match((await parse(config({}, { username: 'u' }))).user, { basic: { username: 'u', password: '' } });
  t.match((await parse(config({ 'insecure-skip-tls-verify': true }, {}))).cluster, { isUnverified: true });
  const nobody = config({}, {}, { contexts: [{ name: 'here', context: { cluster: 'mine' } }] });
  t.match((await parse(nobody)).user, { token: undefined, certificate: undefined });
  t.ok(await parse(config({}, {}, { users: [{ name: 'me', user: null }] })), 'an empty user');
});

t.test('parseKubeconfig() reads exec plugins', async (t) => {
  const exec = {
    apiVersion: 'client.authentication.k8s.io/v1',
    command: './bin/get-token',
    args: ['--cluster', 1],
    env: [{ name: 'PROFILE', value: 'p' }],
    provideClusterInfo: true,
    interactiveMode: 'Never',
    installHint: 'apt install it',
  };
  const read = async (more: object): Promise<unknown> =>
    (await parse(config({}, { exec: { ...exec, ...more } }))).user.exec;
  t.strictSame(await read({}), {
    version: 'client.authentication.k8s.io/v1',
    command: '/etc/kube/bin/get-token',
    args: ['--cluster', '1'],
    env: [['PROFILE', 'p']],
    wantsCluster: true,
    installHint: 'apt install it',
  });
  const small = { command: 'aws', args: null, env: null, provideClusterInfo: null, interactiveMode: null };
  t.match(await read({ ...small, apiVersion: 'client.authentication.k8s.io/v1beta1', installHint: '' }), {
    version: 'client.authentication.k8s.io/v1beta1',
    command: 'aws',
    args: [],
    env: [],
    wantsCluster: false,
    installHint: undefined,
  });
});

t.test('parseKubeconfig() names file, field and what was expected, and shows no secret', async (t) => {
  const exec = (more: object): string => config({}, { exec: { command: 'x', ...more } });
  const v1 = { apiVersion: 'client.authentication.k8s.io/v1' };
  const cases: [text: string, expected: RegExp | string][] = [
    ['', 'it is empty'],
    ['# nothing', 'it is empty'],
    ['null', 'the content is empty: expected an object'],
    ['- 1', 'the content is a list: expected an object'],
    ['secret: [1', /^line 1: not valid YAML \([A-Z_]+\)$/],
    ['a: 1\nb: "secret\n  x', /^line \d: not valid YAML \([A-Z_]+\)$/],
    ['a: &a [*a]', /current-context is missing|YAML aliases without an end/],
    ['a: 1\n---\nb: 2\n', '2 YAML documents: expected one'],
    ['kind: Config', 'current-context is missing: expected the name of a context'],
    ['current-context: a', 'contexts has no entry named "a"'],
    [config({}, {}, { contexts: 'x' }), 'contexts is a string: expected a list'],
    [config({}, {}, { 'current-context': 'there' }), /^clusters\[0\]\.cluster\.server is missing/],
    [config({}, {}, { 'current-context': ['x'] }), 'current-context is a list: expected text'],
    [
      config({}, {}, { contexts: [{ name: 'here', context: { cluster: 'none' } }] }),
      'clusters has no entry named "none"',
    ],
    [config({}, {}, { users: [] }), 'users has no entry named "me"'],
    [config({ server: 7.5 }, {}), 'clusters[1].cluster.server is a number: expected text'],
    [
      config({ 'certificate-authority-data': 'secret!' }, {}),
      'clusters[1].cluster.certificate-authority-data cannot be used: expected PEM in base64',
    ],
    [
      config({ 'certificate-authority-data': 'AAAA' }, {}),
      'clusters[1].cluster.certificate-authority-data cannot be used: expected PEM in base64',
    ],
    [
      config({ 'certificate-authority-data': DATA, 'insecure-skip-tls-verify': true }, {}),
      /^clusters\[1\]\.cluster\.insecure-skip-tls-verify is true beside a certificate-authority/,
    ],
    [
      config({ 'insecure-skip-tls-verify': 'yes' }, {}),
      'clusters[1].cluster.insecure-skip-tls-verify is a string: expected true or false',
    ],
    [config({}, { 'client-key': 'k' }), /^users\[0\]\.user\.client-certificate is missing/],
    [config({}, { 'client-certificate': 'k' }), /^users\[0\]\.user\.client-key is missing/],
    [config({}, { token: 'secret', username: 'u' }), /^users\[0\]\.user\.username is given beside a token/],
    [config({}, { token: { secret: 1 } }), 'users[0].user.token is an object: expected text'],
    [config({}, { 'auth-provider': { name: 'gcp' } }), /^users\[0\]\.user\.auth-provider is not supported/],
    [config({}, { as: 'root' }), /^users\[0\]\.user\.as is not supported/],
    [
      exec({}),
      /^users\[0\]\.user\.exec\.apiVersion is missing: expected client\.authentication\.k8s\.io\/v1 or/,
    ],
    [
      exec({ apiVersion: 'client.authentication.k8s.io/v1alpha1' }),
      /^users\[0\]\.user\.exec\.apiVersion is "client\.authentication\.k8s\.io\/v1alpha1": expected/,
    ],
    [exec({ ...v1, interactiveMode: 'Always' }), /exec\.interactiveMode is "Always": expected Never or/],
    [exec({ ...v1, command: '' }), /exec\.command is missing: expected a program/],
    [exec({ ...v1, args: [{}] }), /exec\.args\[0\] is an object: expected text/],
    [exec({ ...v1, env: ['x'] }), /exec\.env\[0\] is a string: expected an object/],
  ];
  for (const [text, expected] of cases) {
    const error: unknown = await parse(text).catch((caught: unknown) => caught);
    t.match(error, { name: 'OverlayError', code: 'E_FILE' }, text);
    const { message } = error as Error;
    t.match(message.replace(`Cannot use kubeconfig "${PATH}": `, ''), expected);
    t.notMatch(message, /secret|\n/);
  }
});
