import t from 'tap';
import { nodeName, nodeNameSource } from '../../../../src/store/kube/node-name.js';
import type { ApiObject } from '../../../../src/store/kube/api/client.js';

const signal = new AbortController().signal;

t.test('NODE_NAME is the name', async (t) => {
  const source = nodeNameSource({ NODE_NAME: 'node-1.example', POD_NAME: 'x', POD_NAMESPACE: 'y' });
  const get = (): Promise<ApiObject> => Promise.reject(new Error('asked'));
  t.equal(await nodeName(source, { get }, signal), 'node-1.example');
});

t.test('POD_NAME and POD_NAMESPACE lead to it', async (t) => {
  const source = nodeNameSource({
    NODE_NAME: '',
    POD_NAME: 'kube-flannel-ds-x',
    POD_NAMESPACE: 'kube-flannel',
  });
  const paths: string[] = [];
  const ask = (answer: ApiObject): Promise<string | undefined> =>
    nodeName(source, { get: (path) => Promise.resolve((paths.push(path), answer)) }, signal);
  t.equal(await ask({ spec: { nodeName: 'node1' } }), 'node1');
  t.equal(await ask({ spec: {} }), undefined);
  t.equal(await ask({}), undefined);
  t.equal(await ask({ spec: { nodeName: '../secrets' } }), undefined);
  t.equal(paths[0], '/api/v1/namespaces/kube-flannel/pods/kube-flannel-ds-x');
});

t.test('what is missing or no name is refused', (t) => {
  for (const env of [{}, { POD_NAME: 'x' }, { POD_NAMESPACE: 'x' }, { NODE_NAME: '' }])
    t.throws(() => nodeNameSource(env), {
      code: 'E_USAGE',
      message: /NODE_NAME, or POD_NAME and POD_NAMESPACE/,
    });
  for (const name of ['a/b', 'A', '..', 'x'.repeat(254)])
    t.throws(() => nodeNameSource({ NODE_NAME: name }), {
      code: 'E_USAGE',
      message: /^Variable NODE_NAME is /,
    });
  t.end();
});
