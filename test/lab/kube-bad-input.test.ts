// What a wrong start with the Kubernetes store says: one clear line and an exit code, or what it waits for and the
// condition that shows it. Whatever it waits for, SIGTERM ends it within a second.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { FLANNEL, FLANNEL_RULES } from '../support/api-server/access.js';
import { formatKubeconfig } from '../support/api-server/credentials.js';
import { ADDRESS, KubeHost, member, NET_CONF, type Start } from '../support/kube-host.js';
import { labUnavailable, type Task, waitFor } from '../support/lab.js';
import { HEALTH_PORT, statusOf } from '../support/twill-hosts.js';

const skip = labUnavailable();

t.test('what can never work ends the start', { skip, timeout: 240_000 }, async (t) => {
  const world = await KubeHost.open(t, 'ki-');
  const kubeconfig = (text: string): Start => ({ kubeconfig: world.file('bad.kubeconfig', text) });
  const netConf = (text: string): Start => ({ netConf: world.file('bad.json', text) });
  const user = (fields: object): Start =>
    kubeconfig(
      JSON.stringify({
        'current-context': 'it',
        contexts: [{ name: 'it', context: { cluster: 'it', user: 'it' } }],
        clusters: [{ name: 'it', cluster: { server: world.api.url, 'insecure-skip-tls-verify': true } }],
        users: [{ name: 'it', user: fields }],
      }),
    );
  await world.node('outside', { podCidrs: ['10.9.1.0/24'] });
  await world.node('three', { podCidrs: ['10.244.1.0/24', 'fd00::/64', '10.244.2.0/24'] });
  await world.node('six', { podCidrs: ['fd00::/64'] });
  await world.node('whole', { podCidrs: ['10.244.7.7/24'] });

  const rows: [what: string, start: () => Start, code: number, message: RegExp][] = [
    [
      'net-conf: none',
      () => ({ netConf: '/nowhere/net-conf.json' }),
      1,
      /Cannot read network config "\/nowhere\/net-conf.json": ENOENT: expected a file .*--net-config-path/,
    ],
    [
      'net-conf: a folder',
      () => ({ netConf: world.dir }),
      1,
      /Cannot read network config ".*": EISDIR: expected/,
    ],
    [
      'net-conf: endless',
      () => ({ netConf: '/dev/zero' }),
      1,
      /network config "\/dev\/zero": more than 1048576 bytes/,
    ],
    ['net-conf: half of it', () => netConf('{"Network":'), 1, /bad\.json: .*not valid JSON/],
    ['net-conf: empty', () => netConf(''), 1, /bad\.json: .*not valid JSON/],
    ['net-conf: no network', () => netConf('{}'), 1, /bad\.json: Network is missing: expected/],
    [
      'net-conf: backend',
      () => netConf('{"Network":"10.244.0.0/16","Backend":{"Type":"carrier-pigeon"}}'),
      1,
      /\.json: Unknown backend type "carrier-pigeon": expected one of/,
    ],
    [
      'kubeconfig: none',
      () => ({ kubeconfig: '/nowhere/config' }),
      1,
      /Cannot read kubeconfig "\/nowhere\/config": ENOENT/,
    ],
    ['kubeconfig: empty', () => kubeconfig(''), 1, /Cannot use kubeconfig ".*bad\.kubeconfig": it is empty/],
    ['kubeconfig: no YAML', () => kubeconfig('a: [secret'), 1, /bad\.kubeconfig": line \d+: not valid YAML/],
    ['kubeconfig: no object', () => kubeconfig('hello'), 1, /bad\.kubeconfig": .*expected/],
    [
      'kubeconfig: no context',
      () => kubeconfig('current-context: it\ncontexts: []\n'),
      1,
      /bad\.kubeconfig": .*"it"/,
    ],
    [
      'kubeconfig: CA',
      () => kubeconfig(formatKubeconfig({ url: world.api.url, ca: 'rubbish', token: 'x' })),
      1,
      /bad\.kubeconfig": .*certificate-authority-data cannot be used: expected PEM in base64/,
    ],
    [
      'token file: none',
      () => user({ tokenFile: '/nowhere/token' }),
      1,
      /Cannot read token file "\/nowhere\/token": ENOENT/,
    ],
    [
      'token file: empty',
      () => user({ tokenFile: world.file('token', '\n') }),
      1,
      /Cannot use token file ".*token": it is empty/,
    ],
    [
      'token file: no token',
      () => user({ tokenFile: world.file('token', 'two words\0') }),
      1,
      /Cannot use token file ".*token": expected letters, digits and signs of ASCII/,
    ],
    [
      'prefix',
      () => ({ extra: ['--kube-annotation-prefix=Flannel!'] }),
      2,
      /--kube-annotation-prefix is "Flannel!": expected a domain name with a dot in lower case/,
    ],
    [
      'podCIDR outside of the Network',
      () => ({ env: ['NODE_NAME=outside'] }),
      1,
      /podCIDR of node "outside" is 10\.9\.1\.0\/24: expected one inside the Network 10\.244\.0\.0\/16 of .*net-conf/,
    ],
    [
      'three podCIDRs',
      () => ({ env: ['NODE_NAME=three'] }),
      1,
      /node "three": its podCIDRs are 10\.244\.1\.0\/24, fd00::\/64, 10\.244\.2\.0\/24: expected one for each/,
    ],
    [
      'podCIDR of IPv6',
      () => ({ env: ['NODE_NAME=six'] }),
      1,
      /node "six": its podCIDRs are fd00::\/64: expected an IPv4/,
    ],
    [
      'podCIDR with host bits',
      () => ({ env: ['NODE_NAME=whole'] }),
      1,
      /node "whole": its podCIDR is 10\.244\.7\.7\/24/,
    ],
    [
      'no name of a node',
      () => ({ env: ['POD_NAME=x'] }),
      2,
      /needs the name of this node: expected NODE_NAME, or POD_NAME and POD_NAMESPACE/,
    ],
    [
      'no such name',
      () => ({ env: ['NODE_NAME=Good/..'] }),
      2,
      /Variable NODE_NAME is "Good\/\.\.": expected a name/,
    ],
    [
      'no pod',
      () => ({ kubeconfig: '' }),
      2,
      /KUBERNETES_SERVICE_HOST .* not set, so this is no pod: expected/,
    ],
    [
      'a pod without an account',
      () => ({
        kubeconfig: '',
        env: ['NODE_NAME=good', `KUBERNETES_SERVICE_HOST=${ADDRESS}`, 'KUBERNETES_SERVICE_PORT=6443'],
      }),
      1,
      /Cannot read .* "\/var\/run\/secrets\/kubernetes\.io\/serviceaccount\/ca\.crt": ENOENT/,
    ],
    [
      'two stores',
      () => ({ extra: ['--store=static'] }),
      2,
      /Cannot use both --kube-subnet-mgr and --store=static/,
    ],
    [
      'a server that is none',
      () => ({ extra: ['--kube-api-url=ftp://x'] }),
      2,
      /Cannot use --kube-api-url "ftp:\/\/x": expected/,
    ],
  ];
  for (const [what, start, code, message] of rows) {
    await t.test(what, (t) => world.ends(t, start(), code, message));
  }
  t.equal((await world.api.do('requests', 'patch')).length, 0, 'nobody was told anything');
});

t.test('what may come is waited for', { skip, timeout: 240_000 }, async (t) => {
  const world = await KubeHost.open(t, 'kw-');
  const { api } = world;
  await world.node('bare');

  await t.test('no such node', (t) =>
    world.waits(
      t,
      { env: ['NODE_NAME=nobody'] },
      'node-missing',
      /node "nobody" is not read yet: .*404 .*nobody/,
    ),
  );
  await t.test('no such pod', (t) =>
    world.waits(t, { env: ['POD_NAME=twill-x', 'POD_NAMESPACE=kube-flannel'] }, 'starting', /get pods .*404/),
  );
  await t.test('no podCIDR', (t) =>
    world.waits(
      t,
      { env: ['NODE_NAME=bare'] },
      'pod-cidr-missing',
      /node "bare" has no podCIDR yet: a controller manager with --allocate-node-cidrs gives it one/,
    ),
  );
  await t.test('no right to get nodes', (t) =>
    world.waits(
      t,
      { kubeconfig: join(world.dir, 'nobody.kubeconfig') },
      'store-unreachable',
      /cannot get nodes at .*: 403 Forbidden: .*cannot get resource "nodes"/,
    ),
  );
  await t.test('no right to patch the status of nodes', async (t) => {
    await api.do('allow', FLANNEL, [{ verbs: ['get', 'list', 'watch'], resources: ['nodes'] }]);
    await world.waits(
      t,
      {},
      'lease-not-published',
      /cannot patch nodes\/status at .*: 403 Forbidden: .*"nodes\/status"/,
    );
    await api.do('allow', FLANNEL, FLANNEL_RULES);
  });
  await t.test('a token that nobody knows', async (t) => {
    const text = formatKubeconfig({ url: api.url, ca: undefined, token: 'x' }).replace(
      '- cluster:',
      '- cluster:\n    insecure-skip-tls-verify: true',
    );
    const kubeconfig = world.file('unknown.kubeconfig', text);
    await world.waits(t, { kubeconfig }, 'store-unreachable', /cannot get nodes at .*: 401 Unauthorized/);
  });
  await t.test('the API server swallows all', async (t) => {
    const { connections } = await api.do('standing');
    await api.do('blackHole');
    const daemon = world.lab.spawn(world.host.ns, 'env', world.words({}));
    await waitFor(async () => (await api.do('standing')).connections > connections, 'the daemon to call');
    await waitFor(async () => (await world.conditions()).length > 0, 'a condition');
    t.strictSame(await world.conditions(), ['starting']);
    await world.endsInTime(t, daemon);
    await api.do('heal');
  });
  for (const verb of ['get', 'patch', 'list'] as const) {
    await t.test(`the API server does not answer a ${verb}`, async (t) => {
      const hold = await api.do('hold', { verb });
      await api.do('forgetRequests');
      const daemon = world.lab.spawn(world.host.ns, 'env', world.words({}));
      await waitFor(async () => (await api.do('requests', verb)).length > 0, `a ${verb}`);
      await waitFor(
        () =>
          world.conditions().then(
            () => true,
            () => false,
          ),
        'health to be shown',
      );
      await world.endsInTime(t, daemon);
      await api.do('release', hold);
    });
  }
  await t.test('the API server is away', async (t) => {
    await api.do('stop');
    await world.waits(t, {}, 'store-unreachable', /node "good" is not read yet: .*ECONNREFUSED/);
    await api.do('start');
  });
  await t.test('another authority', async (t) => {
    const former = readFileSync(join(world.dir, 'flannel.kubeconfig'), 'utf8');
    const kubeconfig = world.file('former.kubeconfig', former);
    await api.do('useNewAuthority');
    await world.waits(t, { kubeconfig }, 'store-unreachable', /node "good" is not read yet: .*certificate/);
  });
});

t.test('at run time it is degraded, not dead', { skip, timeout: 180_000 }, async (t) => {
  const world = await KubeHost.open(t, 'kd-');
  const { api } = world;
  await world.node('peer', { podCidrs: ['10.244.2.0/24'], annotations: member('172.20.0.2') });
  const kubeconfig = world.file(
    'own.kubeconfig',
    readFileSync(join(world.dir, 'flannel.kubeconfig'), 'utf8'),
  );
  const start = (): Promise<Task> =>
    world.lab.spawnUntil(world.host.ns, 'env', world.words({ kubeconfig }), /ready after/, 20_000);
  let daemon = await start();
  const stateOf = async (subnet: string): Promise<string | undefined> =>
    (await statusOf(world.lab, world.host)).peers.find((peer) => peer.subnet === subnet)?.state;
  const isReady = async (): Promise<boolean> =>
    (await world.lab.get(world.host.ns, `http://127.0.0.1:${HEALTH_PORT}/readyz`)).status === 200;
  const shows = (code: string, timeoutMs = 15_000): Promise<void> =>
    waitFor(async () => (await world.conditions()).includes(code), code, timeoutMs);
  // Nobody is at the addresses of the peers.
  const hasOnlySilentPeers = async (): Promise<boolean> =>
    (await world.conditions()).every((code) => code === 'peer-unreachable');
  const isWell = (): Promise<void> =>
    waitFor(async () => (await hasOnlySilentPeers()) && (await isReady()), 'all to be well', 30_000);
  await isWell();

  const vxlan = { 'backend-type': 'vxlan', 'backend-data': '{"VNI":1,"VtepMAC":"02:00:00:00:00:03"}' };
  const newer = { 'backend-type': 'quic', 'backend-data': '{"Version":9}', 'twill-format': '9' };
  const peers: [what: string, podCidrs: string[], annotations: Record<string, string>, line: RegExp][] = [
    [
      'vxlan',
      ['10.244.3.0/24'],
      member('172.20.0.3', vxlan),
      /lease 10\.244\.3\.0\/24 is not used: its host runs backend vxlan, not udp/,
    ],
    [
      'newer',
      ['10.244.4.0/24'],
      member('172.20.0.4', newer),
      /lease 10\.244\.4\.0\/24 is not used: its host runs backend quic, not udp/,
    ],
    [
      'broken',
      ['10.244.6.0/24'],
      member('172.20.0.6', { 'backend-data': '{"VNI":' }),
      /ignoring node "broken": annotation backend-data: not valid JSON/,
    ],
    [
      'loopback',
      ['10.244.7.0/24'],
      member('127.0.0.1'),
      /ignoring node "loopback": .*PublicIP 127\.0\.0\.1 is no address a host can have/,
    ],
    [
      'outside',
      ['10.9.1.0/24'],
      member('172.20.0.7'),
      /lease refused: 10\.9\.1\.0\/24 of 172\.20\.0\.7: lies outside the Network 10\.244\.0\.0\/16 lease=outside/,
    ],
    [
      'three',
      ['10.244.8.0/24', 'fd00::/64', '10.244.9.0/24'],
      member('172.20.0.8'),
      /ignoring node "three": podCIDRs are .*: expected one for each address family/,
    ],
  ];
  for (const [name, podCidrs, annotations, line] of peers) {
    await t.test(`peer: ${name}`, async (t) => {
      await world.node(name, { podCidrs, annotations });
      await waitFor(() => line.test(daemon.log()), `a line ${line}`);
      t.ok(await isReady(), 'what is wrong with a peer does not make this host not ready');
      t.equal(await stateOf('10.244.2.0/24'), 'programmed', 'the good peer stays');
      await api.do('deleteNode', name);
      await isWell();
    });
  }

  await t.test('peer: of udp, with data of a newer twill', async (t) => {
    const podCidrs = ['10.244.5.0/24'];
    await world.node('later', {
      podCidrs,
      annotations: member('172.20.0.5', { 'backend-data': '{"Of":9}' }),
    });
    await waitFor(async () => (await stateOf('10.244.5.0/24')) === 'programmed', 'it to be used');
    await api.do('deleteNode', 'later');
    await isWell();
    t.ok(await isReady());
  });

  await t.test('net-conf that becomes malformed', async (t) => {
    world.file('net-conf.json', '{"Network":');
    await shows('config-invalid');
    t.match(daemon.log(), /net-conf\.json: not valid JSON.*; the last good one is used/);
    world.file('net-conf.json', JSON.stringify(NET_CONF));
    await isWell();
  });

  await t.test('kubeconfig that becomes malformed: the former one is used', async (t) => {
    const text = readFileSync(kubeconfig, 'utf8');
    writeFileSync(kubeconfig, 'a: [');
    await api.do('forgetRequests');
    await api.do('endWatches');
    await waitFor(async () => (await api.do('requests', 'watch')).length > 0, 'another watch');
    await isWell();
    writeFileSync(kubeconfig, text);
    t.equal(daemon.child.exitCode, null);
  });

  await t.test('rights that are taken away and given back', async (t) => {
    await api.do('allow', FLANNEL, []);
    await api.do('endWatches');
    await shows('store-unreachable');
    t.match(daemon.log(), /cannot (list|watch) nodes at .*: 403 Forbidden: .*resource "nodes"/);
    t.equal(await stateOf('10.244.2.0/24'), 'programmed');
    await api.do('allow', FLANNEL, FLANNEL_RULES);
    await isWell();
  });

  await t.test('a start with a malformed net-conf uses the saved table', async (t) => {
    t.equal(await world.lab.end(daemon), 0);
    world.file('net-conf.json', '{"Network":');
    daemon = await start();
    t.match(daemon.log(), /the network config in the store is invalid: starting from the lease table of/);
    await shows('saved-table');
    world.file('net-conf.json', JSON.stringify(NET_CONF));
    await isWell();
  });

  await t.test('the own node made anew with three podCIDRs: the lease is lost', async (t) => {
    await api.do('deleteNode', 'good');
    await shows('node-missing');
    await world.node('good', { podCidrs: ['10.244.1.0/24', 'fd00::/64', 'fd01::/64'] });
    t.equal(await daemon.exited, 3);
    t.match(
      daemon.log(),
      /Own lease lost: node "good" has another subnet than 10\.244\.1\.0\/24: podCIDRs are .*: expected one for each/,
    );
  });
});
