// The stand-in as a process of its own, as a lab starts it: credentials, commands, the controller manager's part.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { ApiServer } from '../../../support/api-server.js';
import { type ApiObject, objectAt } from '../../../support/api-server/api-object.js';
import { ask2 } from '../../../support/api-server/asker.js';
import { ApiServerProcess } from '../../../support/api-server-process.js';

t.test('a process with credentials and commands', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), `twill-stand-in-${process.pid}-`));
  const api = await ApiServerProcess.open({
    dir,
    clusterCidrs: [{ cidr: '10.244.0.0/16', nodeMask: 24 }],
  });
  t.teardown(async () => {
    await api.close();
    rmSync(dir, { recursive: true });
  });
  const read = (name: string): string => readFileSync(join(dir, name), 'utf8');
  const server = { url: api.url, ca: read('serviceaccount/ca.crt') };
  const asFlannel = (path: string) => ask2(server, { path, token: read('serviceaccount/token') }).reply.done;

  t.match(read('admin.kubeconfig'), `server: ${api.url}`);
  t.equal((await asFlannel('/api/v1/nodes?limit=500&resourceVersion=0')).status, 200);
  await api.do('createNode', 'node1', { annotations: { 'a.b/c': 'd' } });
  while ((await api.do('standing')).version < 3) await Promise.resolve();
  t.match(await api.do('node', 'node1'), { spec: { podCIDR: '10.244.0.0/24' } });
  t.equal(await api.do('node', 'node2'), null);
  t.equal((await api.do('requests', 'list', 'nodes')).length, 1);

  await api.do('failNext', 503, { verb: 'get' });
  t.equal((await asFlannel('/api/v1/nodes/node1')).status, 503);
  const backup = await api.do('backup');
  await api.do('deleteNode', 'node1');
  t.equal((await asFlannel('/api/v1/nodes/node1')).status, 404);
  await api.do('restore', backup);
  t.equal((await asFlannel('/api/v1/nodes/node1')).status, 200);

  await api.do('createManyNodes', 0, 3);
  await api.do('storm', 1000, 3);
  const { version } = await api.do('standing');
  while ((await api.do('standing')).version === version) await Promise.resolve();
  await api.do('storm', 0, 0);
  t.match(await api.do('node', 'w00002'), {
    spec: { podCIDR: '10.0.2.0/24' },
    metadata: { annotations: { 'flannel.alpha.coreos.com/public-ip': '172.24.0.2' } },
  });
  await t.rejects(api.do('deleteNode', 'no-such'), { message: /^deleteNode: no Node "no-such"/ });
});

t.test('podCIDRs are given in order, of both families, and taken back', async (t) => {
  const server = await ApiServer.open({ scheme: 'http' });
  t.teardown(() => server.close());
  const cidrsOf = (name: string): unknown => objectAt(server.node(name)!, 'spec').podCIDRs;
  const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  server.createNode('before');
  server.createNode('fixed', { podCidrs: ['10.244.64.0/18', 'fd00:244:0:1::/64'] });
  const stop = server.assignPodCidrs([
    { cidr: '10.244.0.0/16', nodeMask: 18 },
    { cidr: 'fd00:244::/48', nodeMask: 64 },
  ]);
  t.same(cidrsOf('before'), ['10.244.0.0/18', 'fd00:244::/64']);
  server.createNode('a');
  t.equal(cidrsOf('a'), undefined, 'it is there first');
  await settle();
  t.same(cidrsOf('a'), ['10.244.128.0/18', 'fd00:244:0:2::/64']);
  server.createNode('b');
  server.createNode('none');
  await settle();
  t.same(cidrsOf('b'), ['10.244.192.0/18', 'fd00:244:0:3::/64']);
  t.equal(cidrsOf('none'), undefined, 'there is no room');
  server.deleteNode('fixed');
  server.createNode('late');
  await settle();
  t.same(cidrsOf('late'), ['10.244.64.0/18', 'fd00:244:0:4::/64']);
  stop();
  server.deleteNode('late');
  server.createNode('alone');
  await settle();
  t.equal(cidrsOf('alone'), undefined);
});

t.test('a client certificate says who asks', async (t) => {
  const server = await ApiServer.open();
  t.teardown(() => server.close());
  const ca = server.authority.cert;
  const certificate = server.authority.issue({
    commonName: 'kubernetes-admin',
    organization: 'system:masters',
  });
  const { reply } = ask2({ url: server.url, ca, ...certificate }, { path: '/api/v1/nodes' });
  t.equal((await reply.done).status, 200);
  t.equal(server.requests.list()[0].user, 'kubernetes-admin');
  const pod: ApiObject = server.createPod('kube-flannel', 'p', 'node1');
  t.match(pod, { metadata: { namespace: 'kube-flannel' }, spec: { nodeName: 'node1' } });
});
