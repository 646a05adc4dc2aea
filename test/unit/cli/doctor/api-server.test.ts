import t from 'tap';
import { checkApiServer } from '../../../../src/cli/doctor/api-server.js';
import type { KubeStatus } from '../../../../src/ops/status.js';

const STATUS: KubeStatus = {
  kind: 'kube',
  server: 'https://10.96.0.1:443',
  node: 'node1',
  podCidr: '10.244.1.0/24',
  resourceVersion: '12',
  watchEstablished: true,
  leases: 3,
  badKeys: 0,
  badKeyList: [],
};

t.test('checkApiServer() says what an operator has to look at', (t) => {
  const words = (changes: Partial<KubeStatus>): string[] =>
    checkApiServer({ ...STATUS, ...changes }, true).map(({ state, text }) => `${state} ${text}`);
  t.strictSame(words({}), ['ok https://10.96.0.1:443: node node1 has 10.244.1.0/24, 3 members']);
  t.match(words({ watchEstablished: false }), [/^warn .* are not watched/]);
  t.match(words({ podCidr: null }), [/^fail .*node node1 has no subnet yet/]);
  t.match(words({ podCidr: null, node: '' }), [/^fail .*name of this node is not known/]);
  t.match(words({ badKeys: 2 }), [/^ok /, /^warn 2 nodes cannot be understood/]);
  t.strictSame(checkApiServer(undefined, false), []);
  t.match(checkApiServer(undefined, true), [{ state: 'warn' }]);
  t.strictSame(checkApiServer({ kind: 'static', file: 'x', leases: 1 }, false), []);
  t.end();
});
